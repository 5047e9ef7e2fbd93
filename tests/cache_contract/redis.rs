//! A real redis-server of our own, asked over its socket in RESP2.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::case::Answer;

const SOCKET: &str = "redis.sock";

pub struct Server {
    process: Child,
    connection: Connection,
    folder: tempfile::TempDir,
}

pub struct Connection {
    stream: BufReader<UnixStream>,
}

impl Server {
    /// Starts `redis-server` on a socket in a folder of its own, without persistence.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join(SOCKET);
        let process = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(&socket)
            .arg("--dir")
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server starts");
        let deadline = Instant::now() + Duration::from_secs(10);
        let connection = loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => break Connection { stream: BufReader::new(stream) },
                Err(error) => assert!(Instant::now() < deadline, "no answer: {error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        Self { process, connection, folder }
    }

    pub fn ask(&mut self, args: &[Vec<u8>]) -> Answer {
        self.connection.ask(args)
    }

    /// A second client.
    pub fn another(&self) -> Connection {
        let stream = UnixStream::connect(self.folder.path().join(SOCKET)).expect("it answers");
        Connection { stream: BufReader::new(stream) }
    }
}

impl Connection {
    pub fn ask(&mut self, args: &[Vec<u8>]) -> Answer {
        let mut request = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            request.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            request.extend_from_slice(arg);
            request.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&request).expect("the server reads");
        self.read()
    }

    pub fn read(&mut self) -> Answer {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("the server answers");
        let line = line.strip_suffix("\r\n").expect("a whole line");
        let (kind, rest) = line.split_at(1);
        let number = || rest.parse::<i64>().expect("a number");
        match kind {
            "+" => Answer::Status(rest.to_owned()),
            "-" => Answer::Error(rest.to_owned()),
            ":" => Answer::Int(number()),
            "$" => match usize::try_from(number()) {
                Err(_) => Answer::Nil,
                Ok(len) => {
                    let mut text = vec![0; len + 2];
                    self.stream.read_exact(&mut text).expect("the whole string");
                    text.truncate(len);
                    Answer::Bulk(text)
                }
            },
            "*" => match usize::try_from(number()) {
                Err(_) => Answer::NilArray,
                Ok(len) => Answer::Array((0..len).map(|_| self.read()).collect()),
            },
            _ => panic!("not RESP2: {line}"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
