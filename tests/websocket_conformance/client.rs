//! The echo server, and a client that may send anything.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub const FIN: u8 = 0x80;
pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// No wait is longer; what comes at all comes at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// `leveret ws-echo` on a free port; killed when it is dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    pub fn start() -> Self {
        Self::with(&[])
    }

    pub fn with(flags: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_leveret"))
            .args(["ws-echo", "--listen", "127.0.0.1:0"])
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("ws-echo ws://").expect(&line);
        let address = url.trim_end_matches('/').parse().unwrap();
        Self { child, address }
    }

    pub fn open(&self) -> Client {
        let (head, client) = self.handshake(&REQUEST.replace("HOST", &self.address.to_string()));
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        client
    }

    /// Sends a request as it is; the head of the answer, and the stream behind it.
    pub fn handshake(&self, request: &str) -> (String, Client) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        (String::from_utf8(head).unwrap(), Client { stream })
    }

    /// On a connection of its own: what comes back for these bytes, up to the end of the stream.
    pub fn answers(&self, bytes: &[u8]) -> Vec<Got> {
        let mut client = self.open();
        client.send(bytes);
        client.rest()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub const REQUEST: &str = "GET / HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Got {
    Text(String),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

pub fn text(text: &str) -> Got {
    Got::Text(text.to_owned())
}

pub fn closed(code: u16) -> Got {
    Got::Close(Some(code))
}

pub struct Client {
    stream: TcpStream,
}

impl Client {
    pub fn send(&mut self, bytes: &[u8]) {
        // The server may have refused already; what it said is what a test looks at.
        let _ = self.stream.write_all(bytes);
    }

    /// Each byte is a write of its own.
    pub fn send_octets(&mut self, bytes: &[u8]) {
        self.send_in_chops(bytes, 1);
    }

    pub fn send_in_chops(&mut self, bytes: &[u8], chop_bytes: usize) {
        bytes.chunks(chop_bytes).for_each(|chop| self.send(chop));
    }

    /// Ends the client's direction alone.
    pub fn end(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// The next frame; `None`: the stream ended.
    pub fn next(&mut self) -> Option<Got> {
        let mut head = [0; 2];
        match self.stream.read(&mut head[..1]) {
            Ok(0) => return None,
            read => read.expect("a frame or an end in time"),
        };
        self.stream.read_exact(&mut head[1..]).unwrap();
        assert_eq!(head[0] & 0xF0, FIN, "no fragments and no reserved bits come from the server");
        let length = match head[1] {
            126 => usize::from(u16::from_be_bytes(self.exact())),
            127 => usize::try_from(u64::from_be_bytes(self.exact())).unwrap(),
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).unwrap();
        Some(match head[0] & 0x0F {
            TEXT => Got::Text(String::from_utf8(payload).unwrap()),
            BINARY => Got::Binary(payload),
            PONG => Got::Pong(payload),
            CLOSE => {
                assert!(payload.len() <= 125);
                let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                std::str::from_utf8(payload.get(2..).unwrap_or_default()).unwrap();
                Got::Close(code)
            }
            opcode => panic!("opcode {opcode}"),
        })
    }

    fn exact<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// All frames up to the end of the stream.
    pub fn rest(&mut self) -> Vec<Got> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// The closing handshake as it should be.
    pub fn leaves(mut self) {
        self.send(&close(1000, b""));
        assert_eq!(self.rest(), [closed(1000)]);
    }
}

/// A masked frame; `first` is its first byte.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..=125 => bytes.push(0x80 | short as u8),
        medium @ 126..=0xFFFF => {
            bytes.push(0x80 | 126);
            bytes.extend((medium as u16).to_be_bytes());
        }
        long => {
            bytes.push(0x80 | 127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

pub fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(FIN | CLOSE, &[&code.to_be_bytes(), reason].concat())
}

/// One message as frames of so many bytes.
pub fn fragments(opcode: u8, payload: &[u8], fragment_bytes: usize) -> Vec<Vec<u8>> {
    let count = payload.len().div_ceil(fragment_bytes);
    let parts = payload.chunks(fragment_bytes).enumerate();
    let first = |at| {
        let fin = if at + 1 == count { FIN } else { 0 };
        fin | if at == 0 { opcode } else { CONTINUATION }
    };
    parts.map(|(at, part)| frame(first(at), part)).collect()
}
