//! Who is connected: what CLIENT LIST shows of a client, and how another one ends it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::wire::resp::Version;

/// The two ends of a connection, as text.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    pub address: String,
    pub local_address: String,
}

/// The connected clients by their numbers, which rise and are never used again.
#[derive(Default)]
pub(super) struct Clients {
    last_id: AtomicU64,
    by_id: Mutex<BTreeMap<u64, Arc<Handle>>>,
}

/// What the others know of a client.
pub(super) struct Handle {
    pub id: u64,
    pub peer: Peer,
    pub connected: Instant,
    pub info: Mutex<Info>,
    /// It waits for a request, with nothing half read and nothing unwritten.
    pub idle: AtomicBool,
    kill: Mutex<Option<oneshot::Sender<()>>>,
    /// While it waits for a key.
    unblock: Mutex<Option<oneshot::Sender<Unblocked>>>,
}

/// How another client ends a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unblocked {
    AsTimedOut,
    WithError,
}

/// As of the client's last request.
#[derive(Clone)]
pub(super) struct Info {
    pub name: Bytes,
    pub library: Bytes,
    pub library_version: Bytes,
    pub db: u8,
    pub version: Version,
    pub authenticated: bool,
    pub last_command: &'static str,
    pub last_at: Instant,
    pub channels: usize,
    pub patterns: usize,
    pub shard_channels: usize,
    /// Commands that wait for EXEC; `None` outside of MULTI.
    pub queued: Option<usize>,
    pub blocked: bool,
    pub no_evict: bool,
    pub closing: bool,
    pub query_bytes: usize,
    pub queued_bytes: usize,
    pub output_bytes: usize,
}

impl Clients {
    /// A new client, and what resolves when it has to go.
    pub(super) fn join(&self, peer: Peer, info: Info) -> (Arc<Handle>, oneshot::Receiver<()>) {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let (kill, killed) = oneshot::channel();
        let handle = Arc::new(Handle::new(id, peer, info, Some(kill)));
        self.by_id.lock().insert(id, Arc::clone(&handle));
        (handle, killed)
    }

    pub(super) fn leave(&self, id: u64) {
        self.by_id.lock().remove(&id);
    }

    pub(super) fn count(&self) -> usize {
        self.by_id.lock().len()
    }

    /// By rising numbers: as they came.
    pub(super) fn all(&self) -> Vec<Arc<Handle>> {
        self.by_id.lock().values().cloned().collect()
    }

    pub(super) fn get(&self, id: u64) -> Option<Arc<Handle>> {
        self.by_id.lock().get(&id).cloned()
    }
}

impl Handle {
    fn new(id: u64, peer: Peer, info: Info, kill: Option<oneshot::Sender<()>>) -> Self {
        Self {
            id,
            peer,
            connected: info.last_at,
            info: Mutex::new(info),
            idle: AtomicBool::new(false),
            kill: Mutex::new(kill),
            unblock: Mutex::new(None),
        }
    }

    /// Of what a script has for a client: nobody else sees it.
    pub(super) fn of_script(info: Info) -> Self {
        Self::new(0, Peer::default(), info, None)
    }

    /// Ends the connection as soon as it waits for anything.
    pub(super) fn kill(&self) {
        if let Some(kill) = self.kill.lock().take() {
            // A receiver that is gone is what this is for.
            let _ = kill.send(());
        }
    }

    /// It waits for a key; what resolves when another one ends that.
    pub(super) fn begin_wait(&self) -> oneshot::Receiver<Unblocked> {
        let (unblock, unblocked) = oneshot::channel();
        *self.unblock.lock() = Some(unblock);
        unblocked
    }

    pub(super) fn end_wait(&self) {
        *self.unblock.lock() = None;
    }

    /// Ends its wait; whether it waited.
    pub(super) fn unblock(&self, how: Unblocked) -> bool {
        self.unblock.lock().take().is_some_and(|unblock| unblock.send(how).is_ok())
    }

    /// A line of CLIENT LIST, as Redis 7.0 has it. What has no meaning here is as of a client that
    /// does nothing with it.
    pub(super) fn line(&self) -> String {
        let info = self.info.lock().clone();
        let mut line = format!("id={} addr={}", self.id, self.peer.address);
        // A string takes every write.
        let _ = write!(
            line,
            " laddr={} fd=0 name={} age={} idle={} flags={} db={} sub={} psub={} ssub={} multi={} \
             qbuf={} qbuf-free=0 argv-mem=0 multi-mem={} rbs=0 rbp=0 obl={} oll=0 omem={} tot-mem={} \
             events=r cmd={} user=default redir=-1 resp={}",
            self.peer.local_address,
            String::from_utf8_lossy(&info.name),
            self.connected.elapsed().as_secs(),
            info.last_at.elapsed().as_secs(),
            info.flags(),
            info.db,
            info.channels,
            info.patterns,
            info.shard_channels,
            info.queued.map_or(-1, |queued| i64::try_from(queued).unwrap_or(i64::MAX)),
            info.query_bytes,
            info.queued_bytes,
            info.output_bytes,
            info.output_bytes,
            info.query_bytes + info.queued_bytes + info.output_bytes,
            info.last_command,
            match info.version {
                Version::Resp2 => 2,
                Version::Resp3 => 3,
            },
        );
        line
    }
}

impl Info {
    pub(super) fn is_subscriber(&self) -> bool {
        self.channels + self.patterns + self.shard_channels > 0
    }

    fn flags(&self) -> String {
        let flags = [
            (self.is_subscriber(), 'P'),
            (self.queued.is_some(), 'x'),
            (self.blocked, 'b'),
            (self.closing, 'c'),
            (self.no_evict, 'e'),
        ];
        let flags: String =
            flags.into_iter().filter(|(set, _)| *set).map(|(_, letter)| letter).collect();
        if flags.is_empty() { "N".to_owned() } else { flags }
    }
}
