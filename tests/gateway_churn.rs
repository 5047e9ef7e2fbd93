//! Sockets that come and are cut at every point of every transport leave nothing behind: the gauges of
//! `/metrics` and the runtime's own count of tasks return to where they were, and a socket that stays
//! misses nothing meanwhile.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use leveret::backend::Embedded;
use leveret::gateway::{Authenticator, Claims, Gateway, GatewayOptions};
use leveret::http::{Limits, Listener, Metrics, Readiness, router};
use leveret::model::clock::SystemClock;
use leveret::model::names::UserId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

const ROUNDS: usize = 3_000;

/// Clients at once.
const CLIENTS: usize = 40;

const PATIENCE: Duration = Duration::from_secs(60);

const SECRET: &str = "the secret of the gateway's tests";

const MASK: [u8; 4] = [1, 2, 3, 4];

struct Stand {
    gateway: Gateway,
    address: SocketAddr,
    token: String,
    stop: oneshot::Sender<()>,
    _engines: Embedded,
}

impl Stand {
    async fn start() -> Self {
        let metrics = Metrics::install();
        let clock = SystemClock::shared();
        let engines = Embedded::in_memory(clock.clone());
        let mut options = GatewayOptions::new(Authenticator::new(SECRET));
        // Those that vanish without a word are found by these.
        let timeout = Duration::from_secs(3);
        options.connect_timeout = timeout;
        options.ping_interval = timeout;
        options.ping_timeout = timeout;
        options.upgrade_timeout = timeout;
        let gateway = Gateway::new(options, engines.cache(), clock);
        let readiness =
            Readiness::new(engines.journal().clone(), engines.broker(), engines.cache());
        let routes = router(readiness, metrics, "/socket.io/", gateway.router());
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), Limits::default()).await.unwrap();
        let address = listener.address();
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(listener.run(routes, async {
            let _ = stopped.await;
        }));
        Self { gateway, address, token: token(), stop, _engines: engines }
    }

    async fn metric(&self, name: &str) -> f64 {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.expect(&text).trim().parse().unwrap()
    }

    async fn returns_to(&self, name: &str, value: f64) {
        let returns = async {
            while self.metric(name).await != value {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, returns).await.is_err() {
            panic!("{name} stays at {}", self.metric(name).await);
        }
    }
}

fn token() -> String {
    #[expect(clippy::disallowed_methods, reason = "a token ends at a time of the wall clock")]
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let claims = Claims {
        user: UserId::new("ada").unwrap(),
        username: "Ada".to_owned(),
        rooms: vec!["*".to_owned()],
        expires_at_s: now + 3600,
    };
    Authenticator::new(SECRET).mint(&claims).unwrap()
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..=125 => bytes.push(0x80 | short as u8),
        medium => {
            bytes.push(0x80 | 126);
            bytes.extend((medium as u16).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// One client of the churn: what it has of the server.
struct Visit<'a> {
    address: SocketAddr,
    token: &'a str,
}

impl Visit<'_> {
    async fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let _ = stream.write_all(bytes).await;
        stream
    }

    fn polling(&self, method: &str, sid: &str, body: &str) -> String {
        let sid = if sid.is_empty() { String::new() } else { format!("&sid={sid}") };
        format!(
            "{method} /socket.io/?EIO=4&transport=polling{sid} HTTP/1.1\r\nHost: x\r\n\
             Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    async fn request(&self, method: &str, sid: &str, body: &str) -> String {
        let mut stream = self.send(self.polling(method, sid, body).as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// A polling session, in a namespace if `joined`.
    async fn polling_session(&self, joined: bool) -> String {
        let opened = self.request("GET", "", "").await;
        let sid = opened.split("\"sid\":\"").nth(1).expect(&opened);
        let sid = sid.split('"').next().unwrap().to_owned();
        if joined {
            self.request("POST", &sid, &self.connect()).await;
            self.request("POST", &sid, "42[\"join:room\",\"general\"]").await;
        }
        sid
    }

    fn connect(&self) -> String {
        format!("40{{\"token\":\"{}\"}}", self.token)
    }

    fn upgrade(&self, sid: &str) -> String {
        let sid = if sid.is_empty() { String::new() } else { format!("&sid={sid}") };
        format!(
            "GET /socket.io/?EIO=4&transport=websocket{sid} HTTP/1.1\r\nHost: x\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
    }

    /// A WebSocket whose handshake is answered.
    async fn websocket(&self, sid: &str) -> TcpStream {
        let mut stream = self.send(self.upgrade(sid).as_bytes()).await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        stream
    }

    /// Comes, and is cut at a point that `n` says.
    async fn happen(&self, n: usize) {
        let room = b"42[\"join:room\",\"general\"]";
        match n % 16 {
            0 => drop(self.send(b"").await),
            1 => drop(self.send(b"GET /socket.io/?EIO=4&transpo").await),
            2 => drop(self.send(self.polling("GET", "", "").as_bytes()).await),
            // These two are never heard of again.
            3 => drop(self.polling_session(false).await),
            4 => drop(self.polling_session(true).await),
            5 => {
                let sid = self.polling_session(true).await;
                let _ = self.request("GET", &sid, "").await;
                drop(self.send(self.polling("GET", &sid, "").as_bytes()).await);
            }
            6 => {
                let sid = self.polling_session(true).await;
                let whole = self.polling("POST", &sid, "42[\"presence:update\",\"away\"]");
                drop(self.send(&whole.as_bytes()[..whole.len() - 5]).await);
            }
            7 => {
                let sid = self.polling_session(true).await;
                self.request("POST", &sid, "1").await;
            }
            8 => drop(self.send(self.upgrade("").as_bytes()).await),
            9 => drop(self.websocket("").await),
            10 => {
                let mut stream = self.websocket("").await;
                let whole = frame(0x81, self.connect().as_bytes());
                let _ = stream.write_all(&whole[..whole.len() / 2]).await;
            }
            11 => {
                let mut stream = self.websocket("").await;
                let _ = stream.write_all(&frame(0x81, self.connect().as_bytes())).await;
                let _ = stream.write_all(&frame(0x81, room)).await;
                let _ = stream.write_all(&frame(0x01, b"42[\"begun")).await;
            }
            12 => {
                // Unread answers make this end a reset.
                let mut stream = self.websocket("").await;
                let _ = stream.write_all(&frame(0x81, self.connect().as_bytes())).await;
                let _ = stream.write_all(&frame(0x81, room)).await;
                let _ = stream.read_u8().await;
            }
            13 => {
                let mut stream = self.websocket("").await;
                let _ = stream.write_all(&frame(0x81, self.connect().as_bytes())).await;
                let _ = stream.write_all(&frame(0x88, &1000_u16.to_be_bytes())).await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
            14 => {
                let sid = self.polling_session(true).await;
                let mut stream = self.websocket(&sid).await;
                let _ = stream.write_all(&frame(0x81, b"2probe")).await;
                let _ = stream.read_u8().await;
            }
            _ => {
                let sid = self.polling_session(true).await;
                let mut stream = self.websocket(&sid).await;
                let _ = stream.write_all(&frame(0x81, b"2probe")).await;
                let _ = stream.read_u8().await;
                let _ = stream.write_all(&frame(0x81, b"5")).await;
                let _ = stream.write_all(&frame(0x81, room)).await;
            }
        }
    }
}

/// Answers pings, and reads numbered notifications until the last; how many came, none missing.
async fn bystander(mut stream: TcpStream, connect: String, ready: oneshot::Sender<()>) -> u64 {
    stream.write_all(&frame(0x81, connect.as_bytes())).await.unwrap();
    let (mut ready, mut seen) = (Some(ready), 0);
    loop {
        let opcode = stream.read_u8().await.expect("the bystander stays") & 0x0F;
        let length = match stream.read_u8().await.unwrap() {
            126 => usize::from(stream.read_u16().await.unwrap()),
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.unwrap();
        assert_eq!(opcode, 1, "{payload:?}");
        let text = String::from_utf8(payload).unwrap();
        match text.as_str() {
            "2" => stream.write_all(&frame(0x81, b"3")).await.unwrap(),
            r#"42["notification","last"]"# => return seen,
            _ if text.starts_with("40") => drop(ready.take().map(|ready| ready.send(()))),
            _ if text.starts_with(r#"42["notification","#) => {
                assert_eq!(text, format!(r#"42["notification",{seen}]"#));
                seen += 1;
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_that_are_cut_leave_nothing_behind() {
    let stand = Stand::start().await;
    let alive_at_start = Handle::current().metrics().num_alive_tasks();
    let sessions = "leveret_gateway_sessions ";
    let tasks = "leveret_gateway_tasks ";
    assert_eq!(stand.metric(sessions).await, 0.0);
    let visit = Visit { address: stand.address, token: &stand.token };

    let (ready, connected) = oneshot::channel();
    let stays = tokio::spawn(bystander(visit.websocket("").await, visit.connect(), ready));
    connected.await.unwrap();
    stand.returns_to(sessions, 1.0).await;
    // Its reader and its writer.
    stand.returns_to(tasks, 2.0).await;

    let mut sent = 0;
    for round in 0..ROUNDS / CLIENTS {
        let visits = (0..CLIENTS).map(|n| (round * CLIENTS + n, stand.token.clone()));
        let clients: Vec<_> = visits
            .map(|(n, token)| {
                let address = stand.address;
                tokio::spawn(async move { Visit { address, token: &token }.happen(n).await })
            })
            .collect();
        stand.gateway.emit_to_user(&UserId::new("ada").unwrap(), "notification", &sent);
        sent += 1;
        for client in clients {
            tokio::time::timeout(PATIENCE, client).await.expect("a client is served").unwrap();
        }
    }

    stand.returns_to(sessions, 1.0).await;
    stand.returns_to(tasks, 2.0).await;
    stand.returns_to("websocket_connections ", 1.0).await;
    stand.gateway.emit_to_all("notification", "last");
    assert_eq!(tokio::time::timeout(PATIENCE, stays).await.unwrap().unwrap(), sent);
    stand.returns_to(sessions, 0.0).await;
    stand.returns_to(tasks, 0.0).await;
    assert_eq!(stand.gateway.sessions(), 0);
    // Connections that end, and a room whose last member went, are gone as well.
    let gone = async {
        while Handle::current().metrics().num_alive_tasks() > alive_at_start {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let left = tokio::time::timeout(PATIENCE, gone).await;
    assert!(left.is_ok(), "{} tasks", Handle::current().metrics().num_alive_tasks());
    drop(stand.stop);
}
