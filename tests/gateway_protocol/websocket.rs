//! A WebSocket client that can break every rule.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::stand::in_time;

pub struct WebSocket {
    pub stream: TcpStream,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Got {
    Text(String),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
    /// The stream ended.
    End,
}

pub const QUERY: &str = "EIO=4&transport=websocket";

const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

impl WebSocket {
    /// The handshake; `Err` is the status of a refusal.
    pub async fn open(
        address: SocketAddr,
        query: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, u16> {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut request = format!(
            "GET /socket.io/?{query} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(in_time(stream.read_u8()).await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        match head.split(' ').nth(1).unwrap() {
            "101" => Ok(Self { stream }),
            status => Err(status.parse().unwrap()),
        }
    }

    pub async fn text(&mut self, text: &str) {
        self.frame(0x81, text.as_bytes()).await;
    }

    /// A whole masked frame; `first` is its first byte.
    pub async fn frame(&mut self, first: u8, payload: &[u8]) {
        let mut frame = vec![first];
        match payload.len() {
            short @ 0..=125 => frame.push(0x80 | short as u8),
            medium @ 126..=0xFFFF => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&(medium as u16).to_be_bytes());
            }
            long => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(long as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(&MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.bytes(&frame).await;
    }

    pub async fn bytes(&mut self, bytes: &[u8]) {
        // The server may have closed already; what it said is what a test looks at.
        let _ = self.stream.write_all(bytes).await;
    }

    pub async fn next(&mut self) -> Got {
        in_time(self.read()).await
    }

    async fn read(&mut self) -> Got {
        let mut head = [0; 2];
        if self.stream.read_exact(&mut head).await.is_err() {
            return Got::End;
        }
        assert_eq!(head[0] & 0xF0, 0x80, "the server neither fragments nor sets reserved bits");
        let length = match head[1] {
            126 => u64::from(self.stream.read_u16().await.unwrap()),
            127 => self.stream.read_u64().await.unwrap(),
            short => u64::from(short),
        };
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut payload).await.unwrap();
        match head[0] & 0x0F {
            1 => Got::Text(String::from_utf8(payload).unwrap()),
            2 => Got::Binary(payload),
            8 => {
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                Got::Close(code, String::from_utf8(payload.split_off(2)).unwrap())
            }
            10 => Got::Pong(payload),
            opcode => panic!("opcode {opcode}"),
        }
    }

    /// The next frame, which is a text.
    pub async fn next_text(&mut self) -> String {
        match self.next().await {
            Got::Text(text) => text,
            other => panic!("{other:?}"),
        }
    }

    /// The close frame, after whatever is still under way.
    pub async fn closed(&mut self) -> Got {
        loop {
            match self.next().await {
                Got::Text(_) | Got::Binary(_) | Got::Pong(_) => {}
                closed => return closed,
            }
        }
    }
}
