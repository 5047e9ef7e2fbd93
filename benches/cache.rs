//! The embedded cache in process and in memory: one caller, no journal on disk, no network.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
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

/// A full-period generator modulo 2^64; its upper bits are even enough.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        let Self(state) = self;
        *state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) % end
    }
}

/// Writes a command with two random numbers.
type Line<'a> = &'a dyn Fn(u64, u64) -> String;

/// What a command costs beside a thousand keys and beside a million, and on a collection of as many
/// parts: it may grow with what no processor cache holds, and with nothing else.
fn as_keys_grow(criterion: &mut Criterion) {
    const PREPARED: usize = 10_000;
    let text = "x".repeat(64);
    let lines: [(&str, Line<'_>); 12] = [
        ("get", &|n, _| format!("GET key:{n:07}")),
        ("set 64 B", &|n, _| format!("SET key:{n:07} {text}")),
        ("incr", &|n, _| format!("INCR number:{n:07}")),
        ("expire", &|n, m| format!("PEXPIRE key:{n:07} {}", 100_000_000 + m)),
        ("hset", &|n, m| format!("HSET hash field:{n:07} {m}")),
        ("hget", &|n, _| format!("HGET hash field:{n:07}")),
        ("sadd", &|n, _| format!("SADD set member:{n:07}")),
        ("zadd", &|n, m| format!("ZADD zset {m} member:{n:07}")),
        ("zrange of 10", &|n, _| format!("ZRANGE zset {n} {}", n + 9)),
        ("zrank", &|n, _| format!("ZRANK zset member:{n:07}")),
        ("lrange of 10 at the head", &|_, _| "LRANGE list 0 9".to_owned()),
        ("lpush + rpop", &|_, m| format!("LPUSH list {m}\nRPOP list")),
    ];
    for keys in [1_000, 1_000_000] {
        let cache = cache();
        let run = |line: String| drop(cache.execute(&[command(&line)], None));
        for n in 0..keys {
            run(format!("SET key:{n:07} {text}"));
            run(format!("HSET hash field:{n:07} {n}"));
            run(format!("SADD set member:{n:07}"));
            run(format!("ZADD zset {n} member:{n:07}"));
            run(format!("RPUSH list {n}"));
        }
        let mut group = criterion.benchmark_group(format!("{keys} keys"));
        let mut numbers = Numbers(1);
        for (name, line) in lines {
            let prepared: Vec<Vec<Command>> = (0..PREPARED)
                .map(|_| line(numbers.below(keys), numbers.below(keys)))
                .map(|lines| lines.lines().map(command).collect())
                .collect();
            let mut next = prepared.iter().cycle();
            let commands = prepared.first().map_or(1, Vec::len);
            group.throughput(Throughput::Elements(commands as u64));
            group.bench_function(name, |bench| {
                bench.iter(|| next.next().map(|commands| cache.execute(commands, None)))
            });
        }
        let sixteen: Vec<Command> =
            (0..16).map(|n| command(&format!("GET key:{:07}", n * keys / 16))).collect();
        group.throughput(Throughput::Elements(16));
        group.bench_function("a pipeline of 16 get", |bench| {
            bench.iter(|| cache.execute(black_box(&sixteen), None))
        });
        group.finish();
    }
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

criterion_group!(benches, a_few_keys, as_keys_grow, publish);
criterion_main!(benches);
