//! The little of an HTTP client that polling needs.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::stand::in_time;

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: String,
    /// The body as it came: a compressed one is no text.
    pub bytes: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// A request on a connection of its own.
pub async fn request(
    address: SocketAddr,
    method: &str,
    query: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let stream = send(address, method, query, headers, body).await;
    in_time(answer(stream)).await
}

/// Sends a request, and leaves the answer for later.
pub async fn send(
    address: SocketAddr,
    method: &str,
    query: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text(address, method, query, headers, body).as_bytes()).await.unwrap();
    stream
}

fn text(
    address: SocketAddr,
    method: &str,
    query: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> String {
    let mut text = format!("{method} /socket.io/?{query} HTTP/1.1\r\nHost: {address}\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    let has_length = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    if !has_length {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("Connection: close\r\n\r\n");
    text.push_str(body);
    text
}

/// The answer of a connection that the server closes after it.
pub async fn answer(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    // A server that refuses a body may reset the connection once it has answered.
    let _ = stream.read_to_end(&mut bytes).await;
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let body = bytes.split_off(end.expect("an answer has a head") + 4);
    let head = String::from_utf8(bytes).unwrap();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
    Answer { status, head, body: String::from_utf8_lossy(&body).into_owned(), bytes: body }
}

/// A request that is yet to be sent.
pub struct Ready {
    stream: TcpStream,
    request: String,
}

impl Ready {
    pub async fn send(mut self) -> Answer {
        self.stream.write_all(self.request.as_bytes()).await.unwrap();
        answer(self.stream).await
    }
}

/// A session over polling.
pub struct Polling {
    address: SocketAddr,
    pub sid: String,
}

impl Polling {
    /// The handshake.
    pub async fn open(address: SocketAddr) -> Self {
        let answer = request(address, "GET", "EIO=4&transport=polling", &[], "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let open: serde_json::Value = serde_json::from_str(&answer.body[1..]).unwrap();
        Self { address, sid: open["sid"].as_str().unwrap().to_owned() }
    }

    /// The handshake, and a socket.
    pub async fn connect(address: SocketAddr, token: &str) -> Self {
        let polling = Self::open(address).await;
        let auth = format!("40{}", serde_json::json!({ "token": token }));
        assert_eq!(polling.post(&auth).await.body, "ok");
        let connected = polling.poll().await;
        assert!(connected.body.starts_with(r#"40{"sid":""#), "{connected:?}");
        polling
    }

    pub fn query(&self) -> String {
        format!("EIO=4&transport=polling&sid={}", self.sid)
    }

    pub async fn poll(&self) -> Answer {
        request(self.address, "GET", &self.query(), &[], "").await
    }

    pub async fn post(&self, body: &str) -> Answer {
        self.post_with(&[("Content-Type", "text/plain;charset=UTF-8")], body).await
    }

    pub async fn post_with(&self, headers: &[(&str, &str)], body: &str) -> Answer {
        request(self.address, "POST", &self.query(), headers, body).await
    }

    /// A poll, or a POST of a pong, on a connection that is there already.
    pub async fn ready(&self, method: &str) -> Ready {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let body = if method == "POST" { "3" } else { "" };
        Ready { stream, request: text(self.address, method, &self.query(), &[], body) }
    }

    /// A poll that waits.
    pub async fn begin_poll(&self) -> TcpStream {
        send(self.address, "GET", &self.query(), &[], "").await
    }

    /// Whether the server still knows the session.
    pub async fn is_known(&self) -> bool {
        // A method that neither waits nor changes anything: code 3, or 1 for an unknown session.
        let answer = request(self.address, "PUT", &self.query(), &[], "").await;
        match answer.body.as_str() {
            r#"{"code":3,"message":"Bad request"}"# => true,
            r#"{"code":1,"message":"Session ID unknown"}"# => false,
            other => panic!("{other}"),
        }
    }
}
