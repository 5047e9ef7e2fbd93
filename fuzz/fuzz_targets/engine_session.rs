//! A whole session's byte stream: HTTP, the upgrade, frames, Engine.IO, Socket.IO and the application's
//! events, as the server serves them. Whatever comes, nothing panics, and no session outlives its client.
//!
//! The first byte says how the rest is sent: raw behind the upgrade; as messages of a connected socket
//! (between bytes 0xFF; those that are no UTF-8 become binary), whose parser is the text one or MessagePack's
//! (there a message that is a packet in text becomes one of its own); or as bodies of polling requests, one
//! behind the other on one connection. It also says whether what was missed can be asked for.
//!
//! A byte 0xFE cuts a socket, and its next message is what it says of itself when it comes back: `{pid}`
//! and `{offset}` in it are what the server told last.
//!
//! The clock stands still while anything goes on, and leaps when everybody waits: what the server would
//! wait for takes no time here, and what hangs shows at once.
#![no_main]

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use leveret::backend::Cache;
use leveret::cache::{AppendFsync, Cache as Engine, Recovery};
use leveret::gateway::{Authenticator, Claims, Gateway, GatewayOptions, Recovery as Missed};
use leveret::http::{Limits, serve_connection};
use leveret::journal::Journal;
use leveret::model::clock::SystemClock;
use leveret::model::names::UserId;
use leveret::wire::socket_io::msgpack;
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// No end of a session takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections of one input: each takes its time.
const CONNECTIONS_MAX: usize = 3;

const UPGRADE: &[u8] = b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\n\
    Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

const MASK: [u8; 4] = [1, 2, 3, 4];

/// Of the first byte: who comes back gets what it missed.
const RECOVERS: u8 = 0b100;

/// How the messages of a socket are sent.
#[derive(Clone, Copy)]
enum Parser {
    Text,
    MessagePack,
}

struct Server {
    runtime: Runtime,
    gateway: Gateway,
    token: String,
}

thread_local! {
    static SERVERS: [OnceCell<Server>; 2] = const { [OnceCell::new(), OnceCell::new()] };
}

fuzz_target!(|data: &[u8]| {
    let Some((way, rest)) = data.split_first() else { return };
    let recovers = way & RECOVERS != 0;
    SERVERS.with(|servers| {
        let server = servers[usize::from(recovers)].get_or_init(|| Server::start(recovers));
        server.runtime.block_on(server.serve(way & 0b11, rest));
    });
});

impl Server {
    fn start(recovers: bool) -> Self {
        let runtime =
            Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let entered = runtime.enter();
        let clock = SystemClock::shared();
        let engine = Engine::new(
            Journal::in_memory(),
            Arc::clone(&clock),
            AppendFsync::No,
            Recovery::default(),
        );
        let authenticator = Authenticator::new("the secret of the fuzzer");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let claims = Claims {
            user: UserId::new("ada").unwrap(),
            username: "Ada".to_owned(),
            rooms: vec!["*".to_owned()],
            expires_at_s: now + 24 * 3600,
        };
        let token = authenticator.mint(&claims).unwrap();
        let mut options = GatewayOptions::new(authenticator);
        options.limits.payload_bytes_max = 2_000;
        options.limits.content_bytes_max = 200;
        options.limits.rooms_max = 20;
        options.recovery =
            recovers.then(|| Missed { window: Duration::from_millis(100), bytes_max: 4_000 });
        let gateway = Gateway::new(options, Cache::Embedded(engine), clock);
        drop(entered);
        Self { runtime, gateway, token }
    }

    async fn serve(&self, way: u8, rest: &[u8]) {
        match way {
            0 => {
                self.exchange(UPGRADE, rest).await;
            }
            1 => self.socket(rest, Parser::Text).await,
            2 => self.polling(rest).await,
            _ => self.socket(rest, Parser::MessagePack).await,
        }
        self.ended().await;
    }

    /// Waits for the end of all sessions, whose clients are gone.
    async fn ended(&self) {
        let gone = async {
            while self.gateway.sessions() > 0 {
                // Not a mere turn, with which the clock would stand still for ever.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.expect("a session outlived its client");
        assert_eq!(self.gateway.connections(), 0);
    }

    async fn socket(&self, rest: &[u8], parser: Parser) {
        let mut told = Told::default();
        let mut connections =
            rest.split(|&byte| byte == 0xFE).take(CONNECTIONS_MAX).enumerate().peekable();
        while let Some((cuts, messages)) = connections.next() {
            let mut messages = messages.split(|&byte| byte == 0xFF);
            let claim = match cuts {
                0 => None,
                _ => messages.next().and_then(|claim| std::str::from_utf8(claim).ok()),
            };
            let mut connect = format!("0{{\"token\":\"{}\"", self.token);
            if let Some(claim) = claim.filter(|claim| !claim.is_empty()) {
                let claim = claim.replace("{pid}", &told.pid).replace("{offset}", &told.offset);
                connect.push(',');
                connect.push_str(&claim);
            }
            connect.push('}');
            let mut bytes = Vec::new();
            match parser {
                Parser::Text => frame(&mut bytes, 0x81, format!("4{connect}").as_bytes()),
                Parser::MessagePack => packed(&mut bytes, connect.as_bytes()),
            }
            for message in messages {
                match parser {
                    Parser::MessagePack => packed(&mut bytes, message),
                    Parser::Text if std::str::from_utf8(message).is_ok() => {
                        frame(&mut bytes, 0x81, message);
                    }
                    Parser::Text => frame(&mut bytes, 0x82, message),
                }
            }
            let hears = connections.peek().is_some();
            let answer = self.exchange_and(UPGRADE, &bytes, hears).await;
            assert!(answer.starts_with(b"HTTP/1.1 101 "), "the messages were not looked at");
            told.look(&answer);
            self.ended().await;
        }
    }

    async fn polling(&self, rest: &[u8]) {
        let opened = self.exchange(&request("GET", "", b"", true), b"").await;
        let opened = String::from_utf8_lossy(&opened).into_owned();
        let sid = opened.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next());
        let sid = format!("&sid={}", sid.expect("a handshake is answered"));
        let connect = format!("40{{\"token\":\"{}\"}}", self.token);
        let mut others = Vec::new();
        let mut bodies = rest.split(|&byte| byte == 0xFF).peekable();
        while let Some(body) = bodies.next() {
            others.extend(request("POST", &sid, body, bodies.peek().is_none()));
        }
        self.exchange(&request("POST", &sid, connect.as_bytes(), false), &others).await;
        self.exchange(&request("POST", &sid, b"1", true), b"").await;
    }

    /// Sends a request on a connection of its own and, when it is answered, the rest; then ends the
    /// connection, and reads to the server's end.
    async fn exchange(&self, request: &[u8], rest: &[u8]) -> Vec<u8> {
        self.exchange_and(request, rest, false).await
    }

    /// As [`Self::exchange`]. With `hears` the server has said all that it has to before it sees the end of a
    /// WebSocket, which takes longer.
    async fn exchange_and(&self, request: &[u8], rest: &[u8], hears: bool) -> Vec<u8> {
        let (client, server) = duplex(16 * 1024);
        let (closing, closed) = watch::channel(false);
        let serving =
            serve_connection(server, None, self.gateway.router(), Limits::default(), closed);
        let serving = tokio::spawn(serving);
        let answer = tokio::time::timeout(PATIENCE, converse(client, request, rest, hears)).await;
        drop(closing);
        serving.await.unwrap();
        answer.expect("the server ends the connection")
    }
}

/// What a client keeps of what it is told, to come back with.
#[derive(Default)]
struct Told {
    pid: String,
    offset: String,
}

impl Told {
    fn look(&mut self, answer: &[u8]) {
        let is_hex = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_hexdigit);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if let Some(at) = answer.windows(3).position(|three| three == b"pid") {
            let pid = answer[at..].windows(32).find(|pid| is_hex(pid));
            self.pid = pid.map(text).unwrap_or_default();
        }
        let is_offset = |at: &[u8]| is_hex(&at[..16]) && at[16] == b'-' && at[17].is_ascii_digit();
        // An acknowledgement names another one, of the room's list.
        let is_events = |at: usize| {
            let before = &answer[..at];
            !before.ends_with(b"offset\":\"") && !before[..at.max(1) - 1].ends_with(b"offset")
        };
        let mut places = answer.windows(18).enumerate().rev();
        if let Some((at, _)) = places.find(|(at, text)| is_offset(text) && is_events(*at)) {
            let digits = answer[at + 17..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            self.offset = text(&answer[at..at + 17 + digits]);
        }
    }
}

async fn converse(mut client: DuplexStream, request: &[u8], rest: &[u8], hears: bool) -> Vec<u8> {
    client.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    // An end before the answer would be a client that hung up.
    while !answer.windows(4).any(|four| four == b"\r\n\r\n") {
        assert_ne!(client.read_buf(&mut answer).await.expect("an answer"), 0, "an answer");
    }
    let (mut read, mut write) = tokio::io::split(client);
    let send = async {
        // The server may refuse, and go away, before all is written.
        let _ = write.write_all(rest).await;
        if request == UPGRADE {
            if hears {
                // Until everybody waits.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let _ = write.shutdown().await;
        }
    };
    let ((), received) = tokio::join!(send, read.read_to_end(&mut answer));
    received.unwrap();
    answer
}

fn request(method: &str, sid: &str, body: &[u8], is_last: bool) -> Vec<u8> {
    let connection = if is_last { "close" } else { "keep-alive" };
    let head = format!(
        "{method} /socket.io/?EIO=4&transport=polling{sid} HTTP/1.1\r\nHost: x\r\n\
         Connection: {connection}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A binary message: of the packet that `message` is in text, or of the bytes as they are.
fn packed(out: &mut Vec<u8>, message: &[u8]) {
    let attachment = [Bytes::from_static(b"\x01\x02")];
    let packet = std::str::from_utf8(message).ok();
    match packet.and_then(|packet| msgpack::encode(packet, &attachment).ok()) {
        Some(packet) => frame(out, 0x82, &packet),
        None => frame(out, 0x82, message),
    }
}

fn frame(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    out.push(first);
    match u16::try_from(payload.len()) {
        Ok(short @ 0..=125) => out.push(0x80 | short as u8),
        Ok(medium) => {
            out.push(0x80 | 126);
            out.extend(medium.to_be_bytes());
        }
        Err(_) => {
            out.push(0x80 | 127);
            out.extend((payload.len() as u64).to_be_bytes());
        }
    }
    out.extend(MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}
