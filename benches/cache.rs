//! The embedded cache in process and in memory: one caller, no journal on disk, no network.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use leveret::cache::{AppendFsync, Cache, Command, Recovery};
use leveret::journal::Journal;
use leveret::model::clock::SystemClock;

fn cache() -> Cache {
    Cache::new(
        Journal::in_memory(),
        SystemClock::shared(),
        AppendFsync::EverySec,
        Recovery::default(),
    )
}

fn command(line: &str) -> Command {
    let args: Vec<Bytes> =
        line.split(' ').map(|arg| Bytes::copy_from_slice(arg.as_bytes())).collect();
    Command::parse(&args).expect("a good line")
}

fn a_few_keys(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cache");
    group.throughput(Throughput::Elements(1));
    let value = Bytes::from(vec![b'x'; 64]);

    let cache = cache();
    let _ = cache.set("key", value.clone());
    group.bench_function("get", |bench| bench.iter(|| cache.get(black_box("key"))));
    group.bench_function("set 64 B", |bench| {
        bench.iter(|| cache.set(black_box("key"), value.clone()).map(drop))
    });
    group.bench_function("set 64 B with a time to live", |bench| {
        let ttl = Duration::from_secs(300);
        bench.iter(|| cache.set_ex(black_box("key"), value.clone(), ttl).map(drop))
    });
    group.bench_function("incr", |bench| bench.iter(|| cache.incr(black_box("n")).map(drop)));

    let keep = NonZeroUsize::new(100).expect("not zero");
    group.bench_function("lpush + ltrim to 100", |bench| {
        bench.iter(|| cache.push_capped(black_box("list"), value.clone(), keep).map(drop))
    });

    let pipeline: Vec<Command> = (0..100).map(|n| command(&format!("GET key:{n}"))).collect();
    for n in 0..100 {
        let _ = cache.set(format!("key:{n}"), value.clone());
    }
    group.throughput(Throughput::Elements(100));
    group.bench_function("pipeline of 100 GET commands", |bench| {
        bench.iter(|| cache.execute(black_box(&pipeline), None).replies)
    });
    group.finish();
}

/// Keys in a table that no processor cache holds.
fn a_million_keys(criterion: &mut Criterion) {
    const KEYS: u64 = 1_000_000;
    let cache = cache();
    for n in 0..KEYS {
        let _ = cache.set(format!("key:{n:07}"), format!("value:{n:07}"));
    }
    let mut state: u64 = 1;
    let mut next_key = move || {
        // A full-period generator modulo 2^64; its upper bits are even enough.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("key:{:07}", (state >> 33) % KEYS)
    };
    let mut group = criterion.benchmark_group("cache");
    group.throughput(Throughput::Elements(1));
    group.bench_function("get, 1,000,000 keys", |bench| {
        bench.iter_batched(&mut next_key, |key| cache.get(&key), BatchSize::SmallInput)
    });
    group.bench_function("set 64 B, 1,000,000 keys", |bench| {
        let value = Bytes::from(vec![b'x'; 64]);
        bench.iter_batched(
            &mut next_key,
            |key| cache.set(&key, value.clone()).map(drop),
            BatchSize::SmallInput,
        )
    });
    group.finish();
}

fn publish(criterion: &mut Criterion) {
    let cache = cache();
    let mut subscriber = cache.subscribe(["channel"]);
    let (channel, payload) = (Bytes::from_static(b"channel"), Bytes::from(vec![b'x'; 64]));
    let mut group = criterion.benchmark_group("cache");
    group.throughput(Throughput::Elements(1));
    group.bench_function("publish to one subscriber, and take it", |bench| {
        bench.iter(|| {
            cache.publish(channel.clone(), payload.clone());
            subscriber.try_recv()
        })
    });
    group.finish();
}

criterion_group!(benches, a_few_keys, a_million_keys, publish);
criterion_main!(benches);
