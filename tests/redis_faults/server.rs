//! A real redis-server of our own, on a free port with a folder of its own, that can be stopped and
//! started again.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Below those that the kernel gives away: nobody takes it while its server is stopped.
pub fn free_port() -> u16 {
    let random = || u16::try_from(uuid::Uuid::new_v4().as_u128() % 17_768).expect("small");
    let ports = std::iter::repeat_with(|| 15_000 + random());
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.take(1_000).find(is_free).expect("a free port")
}

pub struct RedisServer {
    port: u16,
    extra: Vec<String>,
    process: Option<Child>,
    folder: tempfile::TempDir,
}

impl RedisServer {
    /// It answers when this returns, and syncs each write before it answers that.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    pub fn start_with(extra: &[&str]) -> Self {
        let port = free_port();
        let folder = tempfile::tempdir().expect("a folder");
        let extra = extra.iter().map(|arg| (*arg).to_owned()).collect();
        let mut server = Self { port, extra, process: None, folder };
        server.start_again();
        server
    }

    /// With what it had when it was stopped.
    pub fn start_again(&mut self) {
        let process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
            .arg(self.folder.path())
            .args(&self.extra)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        self.process = Some(process);
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "redis-server does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// As if the machine had lost it: no farewell.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it ran");
            process.wait().expect("it ended");
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
