//! What the servers tell of their commands, and answer where no keys are: the same, written by hand.

use super::servers::Server;
use super::wire::{Connection, Request, elements, shown};

/// Of Redis 7.2, for clients that send it whatever the version.
pub const NEWER: &str = "client|setinfo";

fn request(line: &str) -> Request {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

fn ask(connection: &mut Connection, request: Request) -> Vec<u8> {
    connection.send_all(&[request]);
    connection.read()
}

fn parts(reply: &[u8]) -> Vec<Vec<u8>> {
    elements(reply).map(|(_, parts)| parts).unwrap_or_default()
}

fn sorted(reply: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = parts(reply);
    parts.sort_unstable();
    parts
}

/// The text of a bulk string.
fn text(reply: &[u8]) -> String {
    let text = String::from_utf8_lossy(reply);
    text.lines().nth(1).unwrap_or_default().to_owned()
}

/// Compares Redis's ten fields but tips and key specifications. Flags and categories have no order.
fn compare(ours: &[u8], theirs: &[u8], wrong: &mut Vec<String>) {
    let (ours, theirs) = (parts(ours), parts(theirs));
    let name = text(&ours[0]);
    if theirs.is_empty() {
        wrong.push(format!("{name}: Redis has none"));
        return;
    }
    for field in [0, 1, 3, 4, 5] {
        if ours[field] != theirs[field] {
            let (ours, theirs) = (shown(&ours[field]), shown(&theirs[field]));
            wrong.push(format!("{name}: field {field} is {theirs}, not {ours}"));
        }
    }
    for field in [2, 6] {
        if sorted(&ours[field]) != sorted(&theirs[field]) {
            let (ours, theirs) = (shown(&ours[field]), shown(&theirs[field]));
            wrong.push(format!("{name}: field {field} is {theirs}, not {ours}"));
        }
    }
    let their_subcommands = parts(&theirs[9]);
    for sub in parts(&ours[9]) {
        let sub_name = text(&parts(&sub)[0]);
        let is_it = |other: &&Vec<u8>| text(&parts(other)[0]) == sub_name;
        match their_subcommands.iter().find(is_it) {
            Some(theirs) => compare(&sub, theirs, wrong),
            None if sub_name == NEWER => {}
            None => wrong.push(format!("{sub_name}: Redis has none")),
        }
    }
}

#[test]
fn command_tells_of_each_command_what_redis_tells() {
    let (redis, leveret) = (Server::redis(&[]), Server::leveret(&["--in-memory"]));
    let (mut redis, mut leveret) =
        (Connection::open(redis.address), Connection::open(leveret.address));
    let ours = parts(&ask(&mut leveret, request("COMMAND")));
    assert!(ours.len() > 150, "{}", ours.len());
    let mut wrong = Vec::new();
    for ours in &ours {
        let name = text(&parts(ours)[0]);
        let theirs = ask(&mut redis, request(&format!("COMMAND INFO {name}")));
        compare(ours, &parts(&theirs)[0], &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for category in ["fast", "sortedset", "dangerous", "scripting", "nothing"] {
        let list = request(&format!("COMMAND LIST FILTERBY ACLCAT {category}"));
        let theirs = sorted(&ask(&mut redis, list.clone()));
        let known = sorted(&ask(&mut leveret, request("COMMAND LIST")));
        let shared: Vec<_> = theirs.into_iter().filter(|name| known.contains(name)).collect();
        assert_eq!(sorted(&ask(&mut leveret, list)), shared, "{category}");
    }
}

/// What a map of strings says of `field`.
fn field(map: &[u8], field: &str) -> Vec<u8> {
    let parts = parts(map);
    let pair = parts.chunks(2).find(|pair| text(&pair[0]) == field);
    pair.unwrap_or_else(|| panic!("{field} in {}", shown(map)))[1].clone()
}

#[test]
fn docs_say_of_each_command_what_it_is_for() {
    let (redis, leveret) = (Server::redis(&[]), Server::leveret(&["--in-memory"]));
    let (mut redis, mut leveret) =
        (Connection::open(redis.address), Connection::open(leveret.address));
    for name in parts(&ask(&mut leveret, request("COMMAND LIST"))) {
        let name = text(&name);
        let docs = request(&format!("COMMAND DOCS {name}"));
        let ours = parts(&ask(&mut leveret, docs.clone()));
        assert!(!text(&field(&ours[1], "summary")).is_empty(), "{name}");
        if name == NEWER {
            continue;
        }
        let theirs = parts(&ask(&mut redis, docs));
        assert_eq!(text(&ours[0]), text(&theirs[0]));
        for fact in ["since", "group"] {
            assert_eq!(text(&field(&ours[1], fact)), text(&field(&theirs[1], fact)), "{name}");
        }
    }
    let all = parts(&ask(&mut leveret, request("COMMAND DOCS")));
    let count = ask(&mut leveret, request("COMMAND COUNT"));
    assert_eq!(count, format!(":{}\r\n", all.len() / 2).into_bytes());
}

#[test]
fn help_has_the_lines_of_redis_on_what_is_there() {
    let (redis, leveret) = (Server::redis(&[]), Server::leveret(&["--in-memory"]));
    let (mut redis, mut leveret) =
        (Connection::open(redis.address), Connection::open(leveret.address));
    let mut helped = Vec::new();
    for command in parts(&ask(&mut leveret, request("COMMAND"))) {
        let command = parts(&command);
        let subcommands = parts(&command[9]);
        if subcommands.is_empty() {
            continue;
        }
        let line = format!("{} HELP", text(&command[0]).to_ascii_uppercase());
        let help = request(&line);
        helped.push(line);
        let ours = parts(&ask(&mut leveret, help.clone()));
        let theirs = parts(&ask(&mut redis, help));
        let mut rest = theirs.iter();
        for line in &ours {
            assert!(rest.any(|other| other == line), "{}", shown(line));
        }
        for sub in subcommands {
            let name = text(&parts(&sub)[0]);
            let (_, word) = name.split_once('|').expect("both names");
            let is_told = ours.iter().any(|line| {
                let line = String::from_utf8_lossy(line).to_ascii_lowercase();
                line.trim_start_matches('+').split_whitespace().next() == Some(word)
            });
            assert!(is_told || name == NEWER, "{name}");
        }
    }
    helped.sort();
    let all = [
        "CLIENT HELP",
        "COMMAND HELP",
        "CONFIG HELP",
        "MEMORY HELP",
        "OBJECT HELP",
        "PUBSUB HELP",
        "SCRIPT HELP",
        "SLOWLOG HELP",
    ];
    assert_eq!(helped, all);
}

#[test]
fn what_has_no_keys_is_answered_as_redis_answers() {
    let (redis, leveret) =
        (Server::redis(&["--enable-debug-command", "yes"]), Server::leveret(&["--in-memory"]));
    let lines = include_str!("about.txt").lines().filter(|line| !line.starts_with('#'));
    let scripts = include_str!("scripts.txt").lines().filter(|line| !line.starts_with('#'));
    let of_script =
        |script: &str| [b"EVAL".to_vec(), script.as_bytes().to_vec(), b"0".to_vec()].to_vec();
    let requests: Vec<Request> = lines.map(request).chain(scripts.map(of_script)).collect();
    let mut wrong = Vec::new();
    for protocol in [2, 3] {
        let (mut redis, mut leveret) =
            (Connection::open(redis.address), Connection::open(leveret.address));
        for connection in [&mut redis, &mut leveret] {
            ask(connection, request(&format!("HELLO {protocol}")));
        }
        for request in &requests {
            let ours = ask(&mut leveret, request.clone());
            let theirs = ask(&mut redis, request.clone());
            if ours != theirs {
                let request = super::wire::shown_request(request);
                let (ours, theirs) = (shown(&ours), shown(&theirs));
                wrong.push(format!("RESP{protocol} {request}\n  Redis {theirs}\n  ours  {ours}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
