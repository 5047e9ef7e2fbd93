//! Many clients on one thread: sockets on one epoll, frames parsed no further than needed.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

use super::frames::{self, Heard};
use super::latency::Latency;
use super::servers::{Door, Kind};

/// An address of loopback has 28,000 ports for connections to one server; old ones wait a minute.
const SOURCES: usize = 32;

/// Handshakes under way at once, unless a scenario wants a storm.
pub const HANDSHAKES_MAX: usize = 128;

pub const UPGRADE: &str = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n\
    Host: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    /// Waits for the answer to its HTTP request.
    Upgrading,
    Opening,
    Joining,
    Live,
    /// Waits for an acknowledgement, and asks for the next one when it is there.
    Echoing {
        asked_ns: u64,
    },
    /// Speaks HTTP, to make Leveret emit.
    Publishing,
}

struct Client {
    stream: TcpStream,
    state: State,
    /// The beginning of a frame.
    rest: Vec<u8>,
    packet: Vec<u8>,
    room: Option<String>,
    awaits_ready: bool,
}

/// What the clients have got.
#[derive(Default)]
pub struct Seen {
    pub news: u64,
    /// When the last broadcast began whose packets carry no time.
    told_ns: u64,
    pub latency: Latency,
    pub acks: u64,
    pub pings: u64,
    /// Connections that the server ended.
    pub lost: usize,
}

pub struct Clients {
    epoll: OwnedFd,
    clients: Vec<Option<Client>>,
    free: Vec<usize>,
    events: Vec<epoll::Event>,
    buffer: Vec<u8>,
    began: Instant,
    opened: usize,
    /// Whose handshake is not done.
    pub handshakes: usize,
    pub seen: Seen,
    /// Whether echoing clients go on.
    pub echoes: bool,
}

/// Who makes the server send to a room.
#[derive(Clone, Copy)]
pub struct Trigger {
    client: usize,
    way: Way,
}

#[derive(Clone, Copy)]
enum Way {
    /// A message to Leveret's exchange `leveret.emit`, over HTTP. Many are taken from there together.
    Publish,
    /// Leveret's request for one event, over HTTP.
    Emit,
    /// A client's event that the peers pass on.
    Broadcast,
    /// A client's event that Leveret passes on.
    Typing,
}

impl Clients {
    pub fn new() -> Self {
        Self {
            epoll: epoll::create(CreateFlags::CLOEXEC).expect("an epoll"),
            clients: Vec::new(),
            free: Vec::new(),
            events: Vec::with_capacity(1024),
            buffer: vec![0; 256 << 10],
            began: Instant::now(),
            opened: 0,
            handshakes: 0,
            seen: Seen::default(),
            echoes: false,
        }
    }

    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).expect("a short run")
    }

    /// Begins to connect one client, which joins the room if one is given.
    pub fn begin(&mut self, door: &Door, room: Option<String>) -> usize {
        let packet = door.connect_packet(self.opened);
        let client = self.connect(door.address, State::Connecting);
        let place = self.clients[client].as_mut().expect("it was made");
        (place.packet, place.room) = (frames::masked(&packet), room);
        place.awaits_ready = door.kind == Kind::Socketioxide;
        self.handshakes += 1;
        client
    }

    /// Connects as many and waits until all have joined; few at a time. Gives their numbers.
    pub fn open(
        &mut self,
        door: &Door,
        count: usize,
        room: impl Fn(usize) -> Option<String>,
    ) -> Vec<usize> {
        let mut opened = Vec::with_capacity(count);
        for number in 0..count {
            while self.handshakes >= HANDSHAKES_MAX {
                self.turn(Duration::from_secs(10));
            }
            opened.push(self.begin(door, room(number)));
        }
        self.finish_handshakes();
        opened
    }

    pub fn finish_handshakes(&mut self) {
        while self.handshakes > 0 {
            let happened = self.turn(Duration::from_secs(30));
            assert!(happened > 0, "{} handshakes hang", self.handshakes);
        }
    }

    /// Connects to a server that sends frames without being asked.
    pub fn listen(&mut self, address: SocketAddrV4) {
        let client = self.connect(address, State::Live);
        self.watch(client, EventFlags::IN);
    }

    /// The way for many at once.
    pub fn trigger(&mut self, door: &Door) -> Trigger {
        match door.kind {
            Kind::Leveret => Trigger { client: self.connect_program(door), way: Way::Publish },
            Kind::Node | Kind::Socketioxide => {
                Trigger { client: self.open(door, 1, |_| None)[0], way: Way::Broadcast }
            }
        }
    }

    /// The way for one over HTTP, which is ours alone.
    pub fn http_trigger(&mut self, door: &Door) -> Option<Trigger> {
        let has_it = door.kind == Kind::Leveret;
        has_it.then(|| Trigger { client: self.connect_program(door), way: Way::Emit })
    }

    /// The way for one by a client's event. At Leveret the room gets one member more, whose events do not come
    /// back to it.
    pub fn event_trigger(&mut self, door: &Door, room: &str) -> Trigger {
        match door.kind {
            Kind::Leveret => {
                let client = self.open(door, 1, |_| Some(room.to_owned()))[0];
                Trigger { client, way: Way::Typing }
            }
            Kind::Node | Kind::Socketioxide => self.trigger(door),
        }
    }

    pub fn end(&mut self, trigger: Trigger) {
        self.close(trigger.client);
    }

    fn connect_program(&mut self, door: &Door) -> usize {
        let client = self.connect(door.address, State::Publishing);
        self.watch(client, EventFlags::IN);
        client
    }

    /// Asks the server to send something to everybody in the room.
    pub fn broadcast(&mut self, trigger: Trigger, room: &str, sent_ns: u64) {
        self.seen.told_ns = sent_ns;
        self.broadcast_text(trigger, room, &frames::news(sent_ns));
    }

    /// As [`Self::broadcast`], of what tells no time.
    pub fn broadcast_text(&mut self, trigger: Trigger, room: &str, text: &str) {
        let bytes = match trigger.way {
            Way::Publish => frames::publish(room, text),
            Way::Emit => frames::emit(room, text),
            Way::Broadcast => frames::masked(&format!("42[\"broadcast\",\"{room}\",\"{text}\"]")),
            Way::Typing => frames::masked(&format!("42[\"typing:stop\",\"{room}\"]")),
        };
        self.send(trigger.client, &bytes);
    }

    /// Asks for an acknowledgement, and for another one when it is there, while `echoes` is set.
    pub fn echo(&mut self, client: usize) {
        let asked_ns = self.now_ns();
        let Some(place) = &mut self.clients[client] else { return };
        place.state = State::Echoing { asked_ns };
        let room = place.room.as_deref().expect("a room of its own");
        let frame = frames::masked(&format!("427[\"typing:stop\",\"{room}\"]"));
        self.send(client, &frame);
    }

    pub fn close(&mut self, client: usize) {
        if let Some(client_then) = self.clients[client].take() {
            if !matches!(client_then.state, State::Live | State::Echoing { .. } | State::Publishing)
            {
                self.handshakes -= 1;
            }
            self.free.push(client);
        }
    }

    pub fn close_all(&mut self) {
        for client in 0..self.clients.len() {
            self.close(client);
        }
    }

    /// Waits for something to happen, at most so long, and handles it. How much it was.
    pub fn turn(&mut self, patience: Duration) -> usize {
        let patience = Timespec {
            tv_sec: i64::try_from(patience.as_secs()).expect("a short time"),
            tv_nsec: i64::from(patience.subsec_nanos()),
        };
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        let spare = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.epoll, spare, Some(&patience)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("epoll: {error}"),
        }
        for event in &events {
            let client = usize::try_from(event.data.u64()).expect("a number of a client");
            self.handle(client);
        }
        let happened = events.len();
        self.events = events;
        happened
    }

    /// Does for so long what servers ask for.
    pub fn rest(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            self.turn(left.min(Duration::from_millis(100)));
        }
    }

    fn connect(&mut self, address: SocketAddrV4, state: State) -> usize {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket =
            socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).expect("a socket");
        let last = u8::try_from(1 + self.opened % SOURCES).expect("few sources");
        self.opened += 1;
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, last), 0)).expect("a source");
        match connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => panic!("{address}: {error}"),
        }
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).expect("an option of TCP");
        let made = Client {
            stream,
            state,
            rest: Vec::new(),
            packet: Vec::new(),
            room: None,
            awaits_ready: false,
        };
        let client = self.free.pop().unwrap_or_else(|| {
            self.clients.push(None);
            self.clients.len() - 1
        });
        let data = EventData::new_u64(client as u64);
        epoll::add(&self.epoll, &made.stream, data, EventFlags::OUT).expect("a place in epoll");
        self.clients[client] = Some(made);
        client
    }

    fn watch(&mut self, client: usize, flags: EventFlags) {
        let place = self.clients[client].as_ref().expect("a client");
        let data = EventData::new_u64(client as u64);
        epoll::modify(&self.epoll, &place.stream, data, flags).expect("a place in epoll");
    }

    fn send(&mut self, client: usize, bytes: &[u8]) {
        let Some(place) = &mut self.clients[client] else { return };
        match place.stream.write(bytes) {
            Ok(written) => assert_eq!(written, bytes.len(), "the server does not read"),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("the server does not read")
            }
            // Reading says that the connection is gone.
            Err(_) => {}
        }
    }

    fn handle(&mut self, client: usize) {
        let Some(place) = &mut self.clients[client] else { return };
        if place.state == State::Connecting {
            place.state = State::Upgrading;
            self.watch(client, EventFlags::IN);
            self.send(client, UPGRADE.as_bytes());
            return;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let rest = place.rest.len();
        buffer[..rest].copy_from_slice(&place.rest);
        place.rest.clear();
        match place.stream.read(&mut buffer[rest..]) {
            Ok(0) => self.lose(client),
            Ok(read) => self.hear_all(client, &buffer[..rest + read]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => self.lose(client),
        }
        self.buffer = buffer;
    }

    fn lose(&mut self, client: usize) {
        self.close(client);
        self.seen.lost += 1;
    }

    fn hear_all(&mut self, client: usize, mut bytes: &[u8]) {
        let now_ns = self.now_ns();
        let state = self.clients[client].as_ref().expect("a client").state;
        if state == State::Publishing {
            let refused = memchr::memmem::find_iter(bytes, b"HTTP/1.1 ")
                .any(|at| !bytes[at..].starts_with(b"HTTP/1.1 200"));
            assert!(!refused, "not published: {}", String::from_utf8_lossy(bytes));
            return;
        }
        if state == State::Upgrading {
            let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
                return self.keep(client, bytes);
            };
            let head = String::from_utf8_lossy(&bytes[..end]);
            assert!(head.starts_with("HTTP/1.1 101"), "no WebSocket: {head}");
            bytes = &bytes[end + 4..];
            self.clients[client].as_mut().expect("a client").state = State::Opening;
        }
        while let Some((payload, taken)) = frames::split(bytes) {
            self.hear(client, now_ns, &frames::hear(payload));
            bytes = &bytes[taken..];
        }
        self.keep(client, bytes);
    }

    fn keep(&mut self, client: usize, rest: &[u8]) {
        if let Some(place) = self.clients[client].as_mut().filter(|_| !rest.is_empty()) {
            place.rest = rest.to_vec();
        }
    }

    fn hear(&mut self, client: usize, now_ns: u64, heard: &Heard<'_>) {
        let place = self.clients[client].as_mut().expect("a client");
        match (heard, place.state) {
            (Heard::News { sent_ns }, _) => {
                self.seen.news += 1;
                self.seen.latency.record(now_ns.saturating_sub(*sent_ns));
            }
            (Heard::Ping, _) => {
                self.seen.pings += 1;
                self.send(client, &frames::masked("3"));
            }
            (Heard::Open, State::Opening) => {
                let packet = std::mem::take(&mut place.packet);
                self.send(client, &packet);
            }
            (Heard::Connected, State::Opening) if !place.awaits_ready => self.join(client),
            (Heard::Ready, State::Opening) => self.join(client),
            (Heard::Connected, State::Opening) => {}
            (Heard::Ack { ok: true }, State::Joining) => self.live(client),
            (Heard::Ack { ok: true }, State::Echoing { asked_ns }) => {
                self.seen.acks += 1;
                self.seen.latency.record(now_ns - asked_ns);
                if self.echoes {
                    self.echo(client);
                }
            }
            (Heard::Typing, _) => {
                self.seen.news += 1;
                self.seen.latency.record(now_ns.saturating_sub(self.seen.told_ns));
            }
            (Heard::Other, _) => {}
            (Heard::Refused(payload), _) => panic!("{}", String::from_utf8_lossy(payload)),
            (heard, state) => panic!("{heard:?} while {state:?}"),
        }
    }

    fn join(&mut self, client: usize) {
        let place = self.clients[client].as_mut().expect("a client");
        let Some(room) = &place.room else { return self.live(client) };
        place.state = State::Joining;
        let frame = frames::masked(&format!("421[\"join:room\",\"{room}\"]"));
        self.send(client, &frame);
    }

    fn live(&mut self, client: usize) {
        self.clients[client].as_mut().expect("a client").state = State::Live;
        self.handshakes -= 1;
    }
}
