//! A listener without a socket, and its clients.

use std::time::Duration;

use leveret::cache::{AppendFsync, Cache, Recovery};
use leveret::journal::Journal;
use leveret::model::clock::SystemClock;
use leveret::resp::{Options, Peer, Resp};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// An answer that does not come is missed after this.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Fixture {
    pub cache: Cache,
    resp: Resp,
}

impl Fixture {
    pub fn new() -> Self {
        Self::with(&Options::default())
    }

    pub fn with(options: &Options) -> Self {
        let clock = SystemClock::shared();
        let cache = Cache::new(
            Journal::in_memory(),
            clock.clone(),
            AppendFsync::EverySec,
            Recovery::default(),
        );
        let resp = Resp::new(cache.clone(), clock, options);
        Self { cache, resp }
    }

    /// How many clients wait for a key.
    pub async fn blocked_count(&self) -> usize {
        let mut client = self.connect();
        client.send("INFO clients\r\nQUIT\r\n").await;
        let mut text = String::new();
        client.io.read_to_string(&mut text).await.unwrap();
        let (_, count) = text.split_once("blocked_clients:").unwrap();
        count.lines().next().unwrap().parse().unwrap()
    }

    pub fn connect(&self) -> Client {
        self.connect_from("")
    }

    /// A client whose other end is at this address.
    pub fn connect_from(&self, address: &str) -> Client {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let peer = Peer { address: address.to_owned(), ..Peer::default() };
        tokio::spawn(self.resp.serve(theirs, peer));
        Client { io: ours }
    }
}

pub struct Client {
    io: DuplexStream,
}

impl Client {
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.io.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads what has to come.
    pub async fn expect(&mut self, expected: &str) {
        let mut read = vec![0; expected.len()];
        let mut at = 0;
        while at < read.len() {
            let more = tokio::time::timeout(PATIENCE, self.io.read(&mut read[at..])).await;
            match more {
                Ok(Ok(bytes @ 1..)) => at += bytes,
                other => {
                    let read = String::from_utf8_lossy(&read[..at]);
                    panic!("expected {expected:?}, read {read:?}, then {other:?}")
                }
            }
        }
        assert_eq!(String::from_utf8_lossy(&read), expected);
    }

    pub async fn ask(&mut self, request: &str, expected: &str) {
        self.send(format!("{request}\r\n")).await;
        self.expect(expected).await;
    }

    /// The connection ends, whatever comes before that.
    pub async fn expect_cut(&mut self) {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, self.io.read_to_end(&mut rest)).await;
        ended.expect("the connection stays open").unwrap();
    }

    /// Nothing more comes, and the connection ends.
    pub async fn expect_end(&mut self) {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, self.io.read_to_end(&mut rest)).await;
        ended.expect("the connection stays open").unwrap();
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }
}
