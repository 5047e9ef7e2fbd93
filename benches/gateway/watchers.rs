//! A few who get broadcasts all the time, while something else goes on at their server.

use std::time::{Duration, Instant};

use super::clients::{Clients, Trigger};
use super::servers::Server;

const ROOM: &str = "watched";

pub struct Watchers {
    trigger: Trigger,
    due: Instant,
    every: Duration,
    /// Broadcasts.
    pub sent: usize,
}

impl Watchers {
    pub const COUNT: usize = 100;

    pub fn join(clients: &mut Clients, server: &Server) {
        clients.open(server, Self::COUNT, |_| Some(ROOM.to_owned()));
    }

    /// A connection that sends nothing for long is closed, so this comes when the others are there.
    pub fn begin(clients: &mut Clients, server: &Server) -> Self {
        let trigger = clients.trigger(server);
        Self { trigger, due: Instant::now(), every: Duration::from_millis(20), sent: 0 }
    }

    /// Whether a broadcast was due, and was sent.
    pub fn turn(&mut self, clients: &mut Clients) -> bool {
        let now = Instant::now();
        let is_due = now >= self.due;
        if is_due {
            let sent_ns = clients.now_ns();
            clients.broadcast(self.trigger, ROOM, sent_ns);
            self.due += self.every;
            self.sent += 1;
        }
        clients.turn(self.due.saturating_duration_since(now).min(self.every));
        is_due
    }

    /// Sends something to a room of others, in the same way.
    pub fn send_beside(&self, clients: &mut Clients, room: &str, text: &str) {
        clients.broadcast_text(self.trigger, room, text);
    }
}
