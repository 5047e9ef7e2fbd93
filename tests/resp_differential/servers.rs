//! The two servers: Redis's and ours, each on a free port of loopback and killed in the end. The benches
//! start them too.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct Server {
    pub process: Child,
    pub address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Server {
    /// `redis-server` without persistence, unless the arguments say otherwise.
    pub fn redis(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &address.port().to_string()])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(folder.path())
            .args(args)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server starts");
        let deadline = Instant::now() + Duration::from_secs(10);
        while let Err(error) = TcpStream::connect(address) {
            assert!(Instant::now() < deadline, "no answer: {error}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { process, address, _folder: folder }
    }

    /// The program as its users start it, in a folder of its own.
    pub fn leveret(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut process = Command::new(env!("CARGO_BIN_EXE_leveret"))
            .args(["serve", "--http", "127.0.0.1:0", "--resp", "127.0.0.1:0"])
            .args(args)
            .env_remove("REDIS_URL")
            .env_remove("RABBITMQ_URL")
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let stdout = BufReader::new(process.stdout.take().expect("its output"));
        let address = stdout
            .lines()
            .map(|line| line.expect("a line"))
            .find_map(|line| Some(line.split_once("redis://")?.1.trim().parse()))
            .expect("a line that says where it listens")
            .expect("an address");
        Self { process, address, _folder: folder }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
