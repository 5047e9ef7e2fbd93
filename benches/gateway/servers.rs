//! The servers, each a process of its own on a free port of loopback, and killed in the end. They serve
//! the same events: `join:room` and `typing:stop` with an acknowledgement, and `news` to a room.

use std::io::{BufRead, BufReader};
use std::net::SocketAddrV4;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde::{Deserialize, Serialize};

const SECRET: &str = "the secret of a bench, that is long enough";
const USERS: u64 = 16;

/// What a server is asked to do beside serving.
#[derive(Debug, Clone, Copy, Default)]
pub struct Setup {
    /// Connection state recovery. socketioxide has none.
    pub recovers: bool,
    /// Whether ours keeps what it has in a folder; the peers keep nothing.
    pub is_durable: bool,
    /// Whether ours has its limit on events, as it has unless it is told otherwise; the peers have none.
    pub is_limited: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum Kind {
    Leveret,
    Node,
    Socketioxide,
}

/// What clients know of a server.
#[derive(Clone, Serialize, Deserialize)]
pub struct Door {
    pub kind: Kind,
    pub address: SocketAddrV4,
    tokens: Vec<String>,
}

pub struct Server {
    door: Door,
    pub setup: Setup,
    process: Child,
    _folder: tempfile::TempDir,
}

impl Door {
    /// The CONNECT of the client with this number. The peers ask for no token.
    pub fn connect_packet(&self, client: usize) -> String {
        match self.kind {
            Kind::Leveret => {
                let token = &self.tokens[client % self.tokens.len()];
                format!("40{{\"token\":\"{token}\"}}")
            }
            Kind::Node | Kind::Socketioxide => "40".to_owned(),
        }
    }
}

impl Server {
    pub fn start(kind: Kind, setup: Setup, program: Option<&PathBuf>) -> Self {
        Self::start_with(kind, setup, program, &[])
    }

    /// `more`: what our program is told beside.
    pub fn start_with(kind: Kind, setup: Setup, program: Option<&PathBuf>, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
        let ours = program.map_or(Path::new(env!("CARGO_BIN_EXE_leveret")), PathBuf::as_path);
        let mut command = match kind {
            Kind::Leveret => {
                let mut command = Command::new(ours);
                // As the peers, which have neither unless they are asked for.
                let recovery = if setup.recovers { "120s" } else { "off" };
                command.args(["serve", "--recovery", recovery]);
                if !setup.is_limited {
                    command.args(["--event-rate", "off"]);
                }
                if !setup.is_durable {
                    command.arg("--in-memory");
                }
                command.args(more).args(["--http", "127.0.0.1:0", "--jwt-secret"]);
                command.arg(SECRET).env_remove("REDIS_URL").env_remove("RABBITMQ_URL");
                command
            }
            Kind::Node => {
                let place = peers.join("socket.io");
                if !place.join("node_modules").exists() {
                    run(Command::new("npm").args(["ci", "--silent"]).current_dir(&place));
                }
                let mut command = Command::new("node");
                command.arg(place.join("server.mjs"));
                if setup.recovers {
                    command.arg("--recovery");
                }
                command
            }
            Kind::Socketioxide => {
                assert!(!setup.recovers, "it has no recovery");
                let place = peers.join("socketioxide");
                run(Command::new("cargo")
                    .args(["build", "--release", "--quiet", "--locked", "--target-dir", "target"])
                    .current_dir(&place));
                Command::new(place.join("target/release/peer-socketioxide"))
            }
        };
        let mut process = command
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{kind:?} does not start: {error}"));
        let stdout = BufReader::new(process.stdout.take().expect("its output"));
        let address = stdout
            .lines()
            .map(|line| line.expect("a line"))
            .find_map(|line| {
                let address = line.split_once("http://")?.1;
                let ends = |c: char| !(c.is_ascii_digit() || c == '.' || c == ':');
                address.split(ends).next()?.parse().ok()
            })
            .expect("a line that says where it listens");
        let tokens = match kind {
            Kind::Leveret => (0..USERS).map(|user| token(ours, user)).collect(),
            Kind::Node | Kind::Socketioxide => Vec::new(),
        };
        let door = Door { kind, address, tokens };
        Self { door, setup, process, _folder: folder }
    }

    /// What its figures stand under.
    pub fn name(&self) -> String {
        match self.setup.recovers {
            true => format!("{:?} with recovery", self.kind),
            false => format!("{:?}", self.kind),
        }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn version(&self) -> String {
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
        match self.kind {
            Kind::Leveret => format!("Leveret {}", env!("CARGO_PKG_VERSION")),
            Kind::Node => {
                let output = Command::new("node").arg("--version").output().expect("node runs");
                let package = peers.join("socket.io/node_modules/socket.io/package.json");
                let package = std::fs::read(package).expect("its package");
                let package: serde_json::Value = serde_json::from_slice(&package).expect("JSON");
                let node = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                format!("socket.io {} on node {node}", package["version"].as_str().unwrap_or("?"))
            }
            Kind::Socketioxide => {
                let manifest = peers.join("socketioxide/Cargo.toml");
                let manifest = std::fs::read_to_string(manifest).expect("its manifest");
                let line = manifest.lines().find(|line| line.starts_with("socketioxide"));
                line.unwrap_or("socketioxide ?").replace(['"', '='], "")
            }
        }
    }
}

impl Deref for Server {
    type Target = Door;

    fn deref(&self) -> &Door {
        &self.door
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?} failed");
}

/// Few users with many sockets each, as the peers know no users at all. An event that names one is as long as
/// one with the payload of the others.
fn token(program: &Path, user: u64) -> String {
    let output = Command::new(program)
        .args(["token", "--user", &format!("load{user:0>76}"), "--room", "*", "--ttl", "1day"])
        .args(["--jwt-secret", SECRET])
        .output()
        .expect("the program runs");
    assert!(output.status.success(), "no token: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
