//! What a million keys take: the cache's own account beside what the process grows by, and a server of
//! ours beside Redis's. It is run by hand; each figure comes from a process of its own.

#[path = "../tests/resp_differential/servers.rs"]
mod servers;

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;

use bytes::Bytes;
use leveret::cache::{AppendFsync, Cache, Recovery};
use leveret::journal::Journal;
use leveret::model::clock::SystemClock;

use servers::Server;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const COUNT: usize = 1_000_000;
const VALUE: [u8; 100] = [b'x'; 100];
/// Says to a process of its own which of [`FILLS`] it is for.
const CHILD: &str = "LEVERET_MEMORY_OF";

type Fill = fn(&Cache, usize);

const FILLS: [(&str, Fill); 5] = [
    ("keys of 100 B", |cache, n| {
        drop(cache.set(format!("key:{n:07}"), Bytes::copy_from_slice(&VALUE)));
    }),
    ("fields of 100 B of one hash", |cache, n| {
        drop(cache.hset("hash", format!("field:{n:07}"), Bytes::copy_from_slice(&VALUE)));
    }),
    ("members of one set", |cache, n| drop(cache.sadd("set", &[format!("member:{n:07}")]))),
    ("sets of one member", |cache, n| drop(cache.sadd(format!("set:{n:07}"), &["member"]))),
    ("hashes of one field", |cache, n| {
        drop(cache.hset(format!("hash:{n:07}"), "field", "value"));
    }),
];

fn resident_bytes(process: u32) -> usize {
    let pages = std::fs::read_to_string(format!("/proc/{process}/statm")).expect("it lives");
    let pages = pages.split(' ').nth(1).expect("the resident pages");
    pages.parse::<usize>().expect("a number") * 4_096
}

fn account(name: &str, fill: Fill) {
    let cache = Cache::new(
        Journal::in_memory(),
        SystemClock::shared(),
        AppendFsync::EverySec,
        Recovery::default(),
    );
    let before = resident_bytes(std::process::id());
    for n in 0..COUNT {
        fill(&cache, n);
    }
    let grown = resident_bytes(std::process::id()) - before;
    let counted = cache.memory_bytes();
    println!(
        "{name}: {} B each in the process, {} B counted: {:.2}",
        grown / COUNT,
        counted / COUNT,
        counted as f64 / grown as f64
    );
}

/// What a server grows by when it gets a million keys of 100 B, in bytes a key.
fn served(name: &str, server: &Server) -> usize {
    let before = resident_bytes(server.process.id());
    let mut stream = BufReader::new(TcpStream::connect(server.address).expect("it listens"));
    const PIPELINE: usize = 1_000;
    for first in (0..COUNT).step_by(PIPELINE) {
        let mut requests = Vec::new();
        for n in first..first + PIPELINE {
            let key = format!("key:{n:07}");
            let head =
                format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n", key.len(), VALUE.len());
            requests.extend_from_slice(head.as_bytes());
            requests.extend_from_slice(&VALUE);
            requests.extend_from_slice(b"\r\n");
        }
        stream.get_mut().write_all(&requests).expect("it reads");
        let mut replies = vec![0; PIPELINE * b"+OK\r\n".len()];
        stream.read_exact(&mut replies).expect("it answers");
    }
    let each = (resident_bytes(server.process.id()) - before) / COUNT;
    println!("{name}: {each} B a key of 100 B");
    each
}

fn main() {
    // `cargo test --benches` starts every bench once, to see that it runs.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    if let Ok(name) = std::env::var(CHILD) {
        let (name, fill) = FILLS.into_iter().find(|(of, _)| *of == name).expect("one of them");
        account(name, fill);
        return;
    }
    for (name, _) in FILLS {
        let itself = std::env::current_exe().expect("this program");
        let status = Command::new(itself).arg("--bench").env(CHILD, name).status();
        assert!(status.is_ok_and(|status| status.success()), "{name}");
    }
    let ours = served("leveret", &Server::leveret(&["--in-memory"]));
    let theirs = served("redis-server", &Server::redis(&[]));
    println!("leveret / redis-server: {:.2}", ours as f64 / theirs as f64);
}
