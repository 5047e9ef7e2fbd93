//! What an idle WebSocket keeps allocated, all that is made for it counted: its tasks, its session, its
//! socket, its places in the tables.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime};

use leveret::backend::Embedded;
use leveret::gateway::{Authenticator, Claims, Gateway, GatewayOptions};
use leveret::http::{Limits, Listener, Metrics, Readiness, router};
use leveret::model::clock::SystemClock;
use leveret::model::names::UserId;
use tokio::runtime::{Builder, Runtime};

/// What the first ones make for all is no socket's; and the tables are as full as they get.
const SOCKETS_BEFORE: usize = 448;
const SOCKETS: usize = 448;

const SECRET: &str = "the secret of the gateway's tests";

const UPGRADE: &[u8] = b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\n\
    Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

struct Stand {
    /// All happens on the thread whose allocations are counted; clients allocate nothing that stays.
    runtime: Runtime,
    gateway: Gateway,
    address: SocketAddr,
    token: String,
    _engines: Embedded,
}

impl Stand {
    fn start(set: impl FnOnce(&mut GatewayOptions)) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let entered = runtime.enter();
        let clock = SystemClock::shared();
        let engines = Embedded::in_memory(clock.clone());
        let mut options = GatewayOptions::new(Authenticator::new(SECRET));
        set(&mut options);
        let gateway = Gateway::new(options, engines.cache(), clock);
        let readiness =
            Readiness::new(engines.journal().clone(), engines.broker(), engines.cache());
        let routes = router(readiness, Metrics::install(), "/socket.io/", gateway.router());
        let bound = Listener::bind(([127, 0, 0, 1], 0).into(), Limits::default());
        let listener = runtime.block_on(bound).unwrap();
        let address = listener.address();
        runtime.spawn(listener.run(routes, std::future::pending()));
        drop(entered);
        Self { runtime, gateway, address, token: token(), _engines: engines }
    }

    fn open(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream.write_all(UPGRADE).unwrap();
        self.read_until(&mut stream, "\"sid\"");
        let connect = format!("40{{\"token\":\"{}\"}}", self.token);
        let bytes = u16::try_from(connect.len()).unwrap().to_be_bytes();
        let head = [0x81, 0x80 | 126, bytes[0], bytes[1], 0, 0, 0, 0];
        stream.write_all(&[&head, connect.as_bytes()].concat()).unwrap();
        self.read_until(&mut stream, "40{");
        stream
    }

    fn read_until(&self, stream: &mut TcpStream, text: &str) {
        let mut received = Vec::new();
        while !String::from_utf8_lossy(&received).contains(text) {
            let mut bytes = [0; 1024];
            match stream.read(&mut bytes) {
                Ok(0) => panic!("the server ended it"),
                Ok(read) => received.extend_from_slice(&bytes[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.go_on(),
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn go_on(&self) {
        self.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
    }

    /// Bytes that one more socket keeps allocated.
    fn bytes_a_socket(&self) -> usize {
        let mut streams: Vec<TcpStream> = (0..SOCKETS_BEFORE).map(|_| self.open()).collect();
        streams.reserve(SOCKETS);
        let counted = allocation_counter::measure(|| {
            (0..SOCKETS).for_each(|_| streams.push(self.open()));
            (0..10).for_each(|_| self.go_on());
        });
        assert_eq!(self.gateway.connections(), streams.len());
        usize::try_from(counted.bytes_current).unwrap() / SOCKETS
    }
}

#[expect(clippy::disallowed_methods, reason = "a token ends at a time of the wall clock")]
fn token() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let claims = Claims {
        user: UserId::new("ada").unwrap(),
        username: "Ada".to_owned(),
        rooms: vec!["*".to_owned()],
        expires_at_s: now.as_secs() + 3600,
    };
    Authenticator::new(SECRET).mint(&claims).unwrap()
}

#[test]
fn an_idle_websocket_takes_little() {
    let bytes = Stand::start(|options| options.recovery = None).bytes_a_socket();
    assert!((1_000..3_000).contains(&bytes), "{bytes}");
}

#[test]
fn a_session_that_may_be_resumed_takes_little_more() {
    let bytes = Stand::start(|_| {}).bytes_a_socket();
    assert!((1_000..3_000).contains(&bytes), "{bytes}");
}
