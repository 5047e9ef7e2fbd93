//! The same requests, sent to Redis's own server and to ours: every reply has the same bytes.
//!
//! `LEVERET_SEED` says from which seed on, `LEVERET_SEEDS` how many, `LEVERET_STEPS` how many requests
//! each; `LEVERET_ONLY` names the commands that are played. A difference is shrunk
//! before it is shown.

mod about;
mod forms;
mod full;
mod grammar;
mod info;
mod play;
mod promises;
mod rng;
mod servers;
mod sessions;
mod side_effects;
mod wire;

use forms::{FORMS, Same};
use play::{Difference, Pair, Step, sequence};
use rng::Rng;
use servers::Server;
use wire::{Connection, Request, shown_request};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn chosen() -> Vec<(&'static str, Same)> {
    let only = std::env::var("LEVERET_ONLY").unwrap_or_default();
    let words: Vec<&str> = only.split_whitespace().collect();
    let name = |form: &'static str| form.split(' ').next().unwrap_or(form);
    let is_chosen = |form: &'static str| words.is_empty() || words.contains(&name(form));
    FORMS.iter().copied().filter(|(form, _)| is_chosen(form)).collect()
}

fn connect(redis: &Server, leveret: &Server) -> Pair {
    Pair {
        redis: Connection::open(redis.address),
        leveret: Connection::open(leveret.address),
        fault: None,
        slip: None,
    }
}

fn report(
    seed: u64,
    pair: &mut Pair,
    protocol: u8,
    steps: Vec<Step>,
    difference: Difference,
) -> String {
    let (steps, difference) = pair.shrink(protocol, steps, difference);
    let lines: Vec<String> = steps.iter().map(|step| shown_request(&step.request)).collect();
    format!("seed {seed}, RESP{protocol}:\n{}\nat {}\n", lines.join("\n"), difference.text)
}

#[test]
fn random_sequences_are_answered_with_the_same_bytes() {
    let (redis, leveret) = (Server::redis(&[]), Server::leveret(&["--in-memory"]));
    let mut pair = connect(&redis, &leveret);
    let forms = chosen();
    let first = number("LEVERET_SEED").unwrap_or(0);
    let by_hand = number("LEVERET_SEED").map(|_| 1);
    let seeds = number("LEVERET_SEEDS").or(by_hand).unwrap_or(1_500);
    let steps = number("LEVERET_STEPS").unwrap_or(120) as usize;
    let mut differences = Vec::new();
    for seed in first..first + seeds {
        let steps = sequence(&mut Rng::new(seed), &forms, steps);
        let protocol = if seed % 2 == 0 { 2 } else { 3 };
        if let Some(difference) = pair.play(protocol, &steps) {
            differences.push(report(seed, &mut pair, protocol, steps, difference));
            if differences.len() == 20 {
                break;
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Each fault is in one kind of reply; the sequences have to meet it.
#[test]
fn planted_faults_are_found_and_shrunk() {
    let (redis, leveret) = (Server::redis(&[]), Server::leveret(&["--in-memory"]));
    let faults: [(&str, play::Fault); 5] = [
        ("a rank is off by one", |request, reply| match reply.as_slice() {
            b":0\r\n" if request[0] == b"ZRANK" => b":1\r\n".to_vec(),
            _ => reply,
        }),
        ("an error has another text", |request, reply| {
            if request[0] == b"LSET" && reply.starts_with(b"-ERR no such key") {
                return b"-ERR no key\r\n".to_vec();
            }
            reply
        }),
        ("a key without a time to live has one", |request, reply| match reply.as_slice() {
            b":-1\r\n" if request[0] == b"PTTL" => b":5000000\r\n".to_vec(),
            _ => reply,
        }),
        ("no list is told from no value", |request, reply| match reply.as_slice() {
            b"*-1\r\n" if request[0] == b"LPOP" => b"$-1\r\n".to_vec(),
            _ => reply,
        }),
        ("a script's number is another one", |request, reply| match reply.as_slice() {
            b":1\r\n" if request[0] == b"EVAL" => b":2\r\n".to_vec(),
            _ => reply,
        }),
    ];
    for (name, fault) in faults {
        let mut pair = connect(&redis, &leveret);
        pair.fault = Some(fault);
        assert_is_found(name, &mut pair, 4);
    }
}

fn assert_is_found(name: &str, pair: &mut Pair, steps_max: usize) {
    let found = (0..400).find_map(|seed| {
        let steps = sequence(&mut Rng::new(seed), FORMS, 120);
        pair.play(2, &steps).map(|difference| (steps, difference))
    });
    let (steps, difference) = found.unwrap_or_else(|| panic!("not found: {name}"));
    let (steps, _) = pair.shrink(2, steps, difference);
    assert!(steps.len() <= steps_max, "{name}: not shrunk: {steps:?}");
}

/// The request without its options of this name.
fn without(request: &Request, name: &[u8], option: &[u8]) -> Option<Request> {
    let has = request[0] == name && request[1..].iter().any(|arg| arg == option);
    has.then(|| request.iter().filter(|arg| *arg != option).cloned().collect())
}

/// The request under another command's name.
fn renamed(request: &Request, from: &[u8], to: &[u8]) -> Option<Request> {
    let mut renamed = request.clone();
    (request[0] == from).then(|| renamed[0] = to.to_vec())?;
    Some(renamed)
}

/// Each fault is in what one command does; its own reply may be right.
#[test]
fn planted_faults_of_meaning_are_found_and_shrunk() {
    let (redis, leveret) = (Server::redis(&[]), Server::leveret(&["--in-memory"]));
    let slips: [(&str, play::Slip); 8] = [
        ("SET forgets KEEPTTL", |request| without(request, b"SET", b"KEEPTTL")),
        ("EXPIRE forgets GT", |request| without(request, b"EXPIRE", b"GT")),
        ("ZADD forgets GT", |request| without(request, b"ZADD", b"GT")),
        ("COPY forgets REPLACE", |request| without(request, b"COPY", b"REPLACE")),
        ("RPUSHX makes a list", |request| renamed(request, b"RPUSHX", b"RPUSH")),
        ("SINTERSTORE stores a union", |request| renamed(request, b"SINTERSTORE", b"SUNIONSTORE")),
        ("HSETNX overwrites", |request| renamed(request, b"HSETNX", b"HSET")),
        ("PERSIST does nothing", |request| renamed(request, b"PERSIST", b"EXISTS")),
    ];
    for (name, slip) in slips {
        let mut pair = connect(&redis, &leveret);
        pair.slip = Some(slip);
        assert_is_found(name, &mut pair, 8);
    }
}
