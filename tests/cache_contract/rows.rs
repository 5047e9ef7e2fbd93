//! The table of commands says of each what Redis's COMMAND INFO says.

use std::collections::BTreeSet;

use leveret::cache::{Keys, Spec};

use crate::case::Answer;
use crate::redis::Server;

/// Words that tell of Redis's own ways, not of a client's.
const NOT_TOLD: [&str; 7] = [
    "loading",
    "stale",
    "movablekeys",
    "skip_monitor",
    "skip_slowlog",
    "may_replicate",
    "allow_busy",
];

fn ints(answers: &[Answer]) -> Vec<i64> {
    answers
        .iter()
        .map(|answer| match answer {
            Answer::Int(int) => *int,
            _ => panic!("no integer: {answer:?}"),
        })
        .collect()
}

fn compare(row: &Spec, info: &Answer, wrong: &mut Vec<String>) {
    let Answer::Array(info) = info else { panic!("{}: {info:?}", row.name) };
    let arity = ints(&info[1..2])[0];
    if arity != row.redis_arity() {
        wrong.push(format!("{}: arity {arity}, not {}", row.name, row.redis_arity()));
    }
    let Answer::Array(flags) = &info[2] else { panic!("{}: no flags", row.name) };
    let flags: BTreeSet<String> =
        flags.iter().map(Answer::shown).filter(|flag| !NOT_TOLD.contains(&flag.as_str())).collect();
    let ours: BTreeSet<String> = row.flags.names().map(str::to_owned).collect();
    if ours != flags {
        wrong.push(format!("{}: flags {flags:?}, not {ours:?}", row.name));
    }
    let keys = match row.keys {
        Keys::None => vec![0, 0, 0],
        Keys::Range { first, last, step } => vec![first as i64, last as i64, step as i64],
        Keys::Counted { also, .. } => {
            let also = also as i64;
            vec![also, also, also.min(1)]
        }
    };
    let theirs = ints(&info[3..6]);
    if theirs != keys {
        wrong.push(format!("{}: keys {theirs:?}, not {keys:?}", row.name));
    }
    let Answer::Array(subcommands) = &info[9] else { panic!("{}: no subcommands", row.name) };
    for sub in row.subcommands {
        let is_named =
            |info: &&Answer| matches!(info, Answer::Array(info) if info[0].shown() == sub.name);
        match subcommands.iter().find(is_named) {
            Some(info) => compare(sub, info, wrong),
            None => wrong.push(format!("{}: Redis has none", sub.name)),
        }
    }
}

#[test]
fn every_row_is_what_redis_tells_of_the_command() {
    let mut server = Server::start();
    let mut wrong = Vec::new();
    for row in Spec::all() {
        let request = ["COMMAND", "INFO", row.name].map(|arg| arg.as_bytes().to_vec());
        let Answer::Array(infos) = server.ask(&request) else { panic!("{}", row.name) };
        compare(row, &infos[0], &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
