//! A connection that keeps every reply as the bytes it came in.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub type Request = Vec<Vec<u8>>;

pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
        Self { stream: BufReader::new(stream) }
    }

    /// Sends all requests in one write.
    pub fn send_all(&mut self, requests: &[Request]) {
        let bytes: Vec<u8> = requests.iter().flat_map(|request| encoded(request)).collect();
        self.stream.get_mut().write_all(&bytes).expect("the server reads");
    }

    /// The next reply, whole.
    pub fn read(&mut self) -> Vec<u8> {
        let mut reply = Vec::new();
        self.read_into(&mut reply);
        reply
    }

    fn read_into(&mut self, reply: &mut Vec<u8>) {
        let begin = reply.len();
        self.stream.read_until(b'\n', reply).expect("the server answers");
        let line = reply[begin..].strip_suffix(b"\r\n").expect("a whole line");
        let (&kind, rest) = line.split_first().expect("a line with a kind");
        let count = || {
            let text = std::str::from_utf8(rest).expect("a number");
            text.parse::<i64>().expect("a number")
        };
        match kind {
            b'$' | b'=' | b'!' => {
                if let Ok(bytes) = usize::try_from(count()) {
                    let begin = reply.len();
                    reply.resize(begin + bytes + 2, 0);
                    self.stream.read_exact(&mut reply[begin..]).expect("the whole string");
                }
            }
            b'*' | b'~' | b'>' => {
                for _ in 0..count().max(0) {
                    self.read_into(reply);
                }
            }
            b'%' => {
                for _ in 0..2 * count() {
                    self.read_into(reply);
                }
            }
            _ => {}
        }
    }
}

fn encoded(request: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", request.len()).into_bytes();
    for arg in request {
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// A reply cut into its parts: the bytes of each element of the outermost aggregate, or the whole.
pub fn elements(reply: &[u8]) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
    if !matches!(reply.first(), Some(b'*' | b'~' | b'%')) {
        return None;
    }
    let head_end = line_end(reply, 0);
    let mut at = head_end;
    let mut parts = Vec::new();
    while at < reply.len() {
        let end = value_end(reply, at);
        parts.push(reply[at..end].to_vec());
        at = end;
    }
    Some((reply[..head_end].to_vec(), parts))
}

fn line_end(reply: &[u8], at: usize) -> usize {
    let newline = reply[at..].iter().position(|&byte| byte == b'\n').expect("a whole line");
    at + newline + 1
}

fn value_end(reply: &[u8], at: usize) -> usize {
    let end = line_end(reply, at);
    let text = || std::str::from_utf8(&reply[at + 1..end - 2]).expect("a number");
    let count = || usize::try_from(text().parse::<i64>().expect("a number")).ok();
    match reply[at] {
        b'$' | b'=' | b'!' => count().map_or(end, |bytes| end + bytes + 2),
        b'*' | b'~' | b'>' => (0..count().unwrap_or(0)).fold(end, |at, _| value_end(reply, at)),
        b'%' => (0..2 * count().unwrap_or(0)).fold(end, |at, _| value_end(reply, at)),
        _ => end,
    }
}

/// As a person reads it.
pub fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

pub fn shown_request(request: &[Vec<u8>]) -> String {
    let args: Vec<String> = request
        .iter()
        .map(|arg| match arg.len() {
            0 => "\"\"".to_owned(),
            1..=80 if arg.iter().all(u8::is_ascii_graphic) => shown(arg),
            1..=80 => format!("\"{}\"", shown(arg)),
            bytes => format!("<{bytes} bytes>"),
        })
        .collect();
    args.join(" ")
}
