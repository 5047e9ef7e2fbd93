//! A broadcast to 1,000 sockets in memory: what one delivery costs, from the event to the client's bytes.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use leveret::backend::Cache;
use leveret::cache::{AppendFsync, Cache as Engine, Recovery};
use leveret::gateway::{self, Authenticator, Claims, Gateway, GatewayOptions};
use leveret::journal::Journal;
use leveret::model::clock::SystemClock;
use leveret::model::names::{RoomId, UserId};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const SOCKETS: usize = 1_000;
const PIPE_BYTES: usize = 64 * 1024;
const SECRET: &str = "the secret of the gateway's bench";

fn fanout(criterion: &mut Criterion) {
    // One thread, so that time is work and not waiting.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (gateway, received) = runtime.block_on(crowd(None));
    let room = RoomId::new("general").unwrap();
    let event = json!({
        "id": "018f3b1e-7a30-7000-8000-000000000000",
        "roomId": "general",
        "userId": "ada",
        "username": "Ada",
        "content": "x".repeat(200),
        "type": "text",
        "timestamp": 1_700_000_000_000_u64,
    });

    let mut group = criterion.benchmark_group("fanout");
    group.throughput(Throughput::Elements(SOCKETS as u64));
    for burst in [1, 16] {
        let id = format!("{SOCKETS} sockets, bursts of {burst}");
        group.bench_function(id, |bencher| {
            bencher.iter_custom(|rounds| {
                runtime.block_on(broadcasts(&gateway, &room, &event, rounds, burst, &received))
            });
        });
    }
    group.bench_function(format!("{SOCKETS} sockets, queued only"), |bencher| {
        bencher.iter_custom(|rounds| runtime.block_on(queued(&gateway, &event, rounds, &received)));
    });
    let (gateway, received) = runtime.block_on(crowd(Some(gateway::Recovery::default())));
    for burst in [1, 16] {
        let id = format!("{SOCKETS} sockets, bursts of {burst}, recovery on");
        group.bench_function(id, |bencher| {
            bencher.iter_custom(|rounds| {
                runtime.block_on(broadcasts(&gateway, &room, &event, rounds, burst, &received))
            });
        });
    }
    group.finish();
}

/// Time of `rounds` broadcasts, `burst` of them at once, each until every socket has it.
async fn broadcasts(
    gateway: &Gateway,
    room: &RoomId,
    event: &serde_json::Value,
    rounds: u64,
    burst: u64,
    received: &AtomicUsize,
) -> Duration {
    let start = Instant::now();
    let mut left = rounds;
    while left > 0 {
        let now = left.min(burst);
        received.store(0, Ordering::Relaxed);
        for _ in 0..now {
            gateway.emit_to_room(room, "message:new", event).await;
        }
        while received.load(Ordering::Relaxed) < SOCKETS * usize::try_from(now).unwrap() {
            tokio::task::yield_now().await;
        }
        left -= now;
    }
    start.elapsed()
}

/// Time of encoding and queueing alone.
async fn queued(
    gateway: &Gateway,
    event: &serde_json::Value,
    rounds: u64,
    received: &AtomicUsize,
) -> Duration {
    let mut elapsed = Duration::ZERO;
    for _ in 0..rounds {
        received.store(0, Ordering::Relaxed);
        let start = Instant::now();
        black_box(gateway.emit_to_all("message:new", event));
        elapsed += start.elapsed();
        while received.load(Ordering::Relaxed) < SOCKETS {
            tokio::task::yield_now().await;
        }
    }
    elapsed
}

/// A gateway and its sockets, all in one room; the counter counts what they receive.
async fn crowd(recovery: Option<gateway::Recovery>) -> (Gateway, Arc<AtomicUsize>) {
    let (journal, clock) = (Journal::in_memory(), SystemClock::shared());
    let engine = Engine::new(journal, Arc::clone(&clock), AppendFsync::No, Recovery::default());
    let options = GatewayOptions { recovery, ..GatewayOptions::new(Authenticator::new(SECRET)) };
    let gateway = Gateway::new(options, Cache::Embedded(engine), clock);
    let received = Arc::new(AtomicUsize::new(0));
    for _ in 0..SOCKETS {
        let stream = connect(&gateway).await;
        tokio::spawn(count(stream, Arc::clone(&received)));
    }
    (gateway, received)
}

async fn connect(gateway: &Gateway) -> DuplexStream {
    let (mut client, server) = tokio::io::duplex(PIPE_BYTES);
    let service = TowerToHyperService::new(gateway.router());
    let serving = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(server), service)
        .with_upgrades();
    tokio::spawn(serving);
    let request = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\n\
        Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    read_frame(&mut client).await;
    write_frame(&mut client, &format!("40{}", json!({ "token": token() }))).await;
    read_frame(&mut client).await;
    write_frame(&mut client, r#"42["join:room","general"]"#).await;
    read_frame(&mut client).await;
    client
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

/// Reads frames and counts them.
async fn count(mut stream: DuplexStream, received: Arc<AtomicUsize>) {
    loop {
        if read_frame(&mut stream).await == b'4' {
            received.fetch_add(1, Ordering::Relaxed);
        } else {
            write_frame(&mut stream, "3").await;
        }
    }
}

/// Reads one frame; the first byte of its payload.
async fn read_frame(stream: &mut DuplexStream) -> u8 {
    let mut payload = [0; 1024];
    let mut head = [0; 2];
    stream.read_exact(&mut head).await.unwrap();
    let length = match head[1] {
        126 => usize::from(stream.read_u16().await.unwrap()),
        short => usize::from(short),
    };
    stream.read_exact(&mut payload[..length]).await.unwrap();
    payload[0]
}

/// Writes one masked text frame; the mask is zero.
async fn write_frame(stream: &mut DuplexStream, text: &str) {
    let mut frame = vec![0x81];
    match u8::try_from(text.len()) {
        Ok(short @ 0..=125) => frame.push(0x80 | short),
        _ => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&u16::try_from(text.len()).unwrap().to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(text.as_bytes());
    stream.write_all(&frame).await.unwrap();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(5));
    targets = fanout
}
criterion_main!(benches);
