//! Socket.IO and Engine.IO packets: what one event costs in bytes-to-values and back.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use leveret::wire::engine_io::{self, Payload};
use leveret::wire::socket_io::{Namespace, Packet, encode};
use serde::Serialize;

/// An event as the chat sends it, about 200 bytes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MessageNew<'a> {
    id: &'a str,
    room_id: &'a str,
    user_id: &'a str,
    username: &'a str,
    content: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    timestamp: u64,
}

const MESSAGE: MessageNew<'_> = MessageNew {
    id: "0193a1c2-5f7e-7d3a-9c55-2f8f6f1f9b10",
    room_id: "general",
    user_id: "user-4711",
    username: "Ada Lovelace",
    content: "The engine might act upon other things besides number.",
    kind: "text",
    timestamp: 1_764_000_000_000,
};

fn encoded() -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    out.push(engine_io::MESSAGE);
    encode::event(&mut out, Namespace::ROOT, "message:new", None, &[&MESSAGE])
        .expect("the message has JSON");
    out
}

fn packets(criterion: &mut Criterion) {
    let event = encoded();
    let text = std::str::from_utf8(&event[1..]).expect("packets are UTF-8");
    let large = format!(r#"2["message:new",{{"content":"{}"}}]"#, "x".repeat(100_000));

    let mut group = criterion.benchmark_group("packets");
    group.throughput(Throughput::Bytes(event.len() as u64));
    group.bench_function("encode event", |bench| bench.iter(|| black_box(encoded())));
    group.bench_function("parse event", |bench| {
        bench.iter(|| Packet::parse(black_box(text), 10).expect("valid"));
    });
    group.throughput(Throughput::Bytes(large.len() as u64));
    group.bench_function("parse event of 100 kB", |bench| {
        bench.iter(|| Packet::parse(black_box(&large), 10).expect("valid"));
    });

    let mut payload = Payload::new(1_000_000);
    while payload.push_text(&event) {}
    let payload = payload.into_bytes();
    group.throughput(Throughput::Bytes(payload.len() as u64));
    group.bench_function("split payload of 1 MB", |bench| {
        bench.iter(|| {
            let packets =
                engine_io::packets(black_box(&payload), 1_000_000).expect("within bounds");
            packets.filter(Result::is_ok).count()
        });
    });
    group.finish();
}

criterion_group!(benches, packets);
criterion_main!(benches);
