//! What a client says of itself and asks of the server, in an order that is fixed: both servers give
//! the same bytes.

use crate::connect;
use crate::servers::Server;
use crate::wire::{Connection, Request, shown};

/// One after the other on one connection.
pub const LINES: &[&str] = &[
    "CLIENT GETREDIR",
    "CLIENT NO-EVICT ON",
    "CLIENT NO-EVICT maybe",
    "CLIENT SETNAME worker",
    "CLIENT GETNAME",
    "CLIENT SETNAME 'a b'",
    "CLIENT SETNAME ''",
    "CLIENT GETNAME",
    "CLIENT REPLY ON",
    "CLIENT REPLY nope",
    "CLIENT UNBLOCK 99999",
    "CLIENT KILL ID 99999",
    "CLIENT KILL 127.0.0.1:1",
    "CLIENT LIST TYPE nosuch",
    "CLIENT LIST ID 99999",
    "CLIENT LIST ID 0",
    "CLIENT LIST ID -1",
    "CLIENT LIST ID x",
    "CLIENT UNBLOCK 99999 ERROR x",
    "SELECT 4294967296",
    "CLIENT NOSUCH",
    "CLIENT",
    "PUBSUB SHARDNUMSUB a b",
    "PUBSUB NUMSUB",
    "PUBSUB NUMSUB a",
    "PUBSUB NUMPAT",
    // The gateway of the server listens to messages, notifications and presence.
    "PUBSUB CHANNELS [^mnp]*",
    "PUBSUB SHARDCHANNELS",
    "PUBSUB NOSUCH",
    "PUBLISH c m",
    "SPUBLISH c m",
    "CONFIG RESETSTAT",
    "CONFIG REWRITE",
    "CONFIG GET appendfsync",
    "CONFIG GET nosuch",
    "CONFIG GET",
    "CONFIG SET nosuch 1",
    // What testers of a Redis begin with.
    "CONFIG SET save ''",
    "CONFIG SET save '' appendonly no",
    "CONFIG SET maxmemory abc",
    "CONFIG SET maxmemory-policy nosuch",
    "CONFIG SET appendfsync sometimes",
    "WAIT 0 0",
    "WAIT 0 -1",
    "WAIT x 0",
    "SET k v",
    "SWAPDB 0 1",
    "GET k",
    "SELECT 1",
    "GET k",
    "SWAPDB 0 99",
    "SWAPDB x 1",
    "FLUSHALL nope",
    "FLUSHALL ASYNC",
    "DBSIZE",
    "FLUSHALL SYNC",
    "FLUSHDB ASYNC",
    "SELECT 99",
    "OBJECT REFCOUNT missing",
    "OBJECT FREQ missing",
    "OBJECT IDLETIME missing",
    "OBJECT HELP",
    "SET k v",
    "OBJECT REFCOUNT k",
    // In one go, or a second may begin between them.
    "SET k v ; OBJECT IDLETIME k",
    "OBJECT FREQ k",
    "RANDOMKEY",
    "SCAN 0",
    "SCAN 0 TYPE string",
    "SCAN 0 MATCH x*",
    "SCAN x",
    "SCAN 0 COUNT 0",
    "SCAN 0 TYPE",
    "HSCAN missing 0",
    "SSCAN missing 0",
    "ZSCAN missing 0",
    "HSCAN k 0",
    "MEMORY USAGE missing",
    "MEMORY USAGE missing SAMPLES x",
    "SLOWLOG LEN x",
    "SLOWLOG GET -2",
    "SLOWLOG RESET",
    "COMMAND COUNT x",
    "COMMAND GETKEYS GET a",
    "COMMAND GETKEYS MSET a 1 b 2",
    "COMMAND GETKEYS ZUNION 2 a b",
    "COMMAND GETKEYS PING",
    "COMMAND INFO nosuch",
    "COMMAND NOSUCH",
    "TIME x",
    "INFO nosuch",
    "EVALSHA_RO e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0",
    "AUTH x",
    "AUTH a b",
    "HELLO 4",
    "HELLO x",
    "HELLO 2 SETNAME",
    "HELLO 2 AUTH a b",
    "MULTI",
    "CLIENT SETNAME other",
    "SUBSCRIBE",
    "EXEC",
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    "PUNSUBSCRIBE",
    "SUNSUBSCRIBE",
    "SUBSCRIBE a",
    "PSUBSCRIBE a*",
    "SSUBSCRIBE a",
    "PING a b",
    "PING a",
    "UNSUBSCRIBE a",
    "PUNSUBSCRIBE a*",
    "SUNSUBSCRIBE a",
    "RESET",
    "QUIT",
];

/// Words between blanks; one in single quotes may be empty or hold some.
fn request(line: &str) -> Request {
    let mut rest = line;
    let mut request = Request::new();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split_once('\'').expect("a closing quote"),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        request.push(word.as_bytes().to_vec());
        rest = after.trim_start();
    }
    request
}

/// The answers to a line of one request, or of some.
fn ask(connection: &mut Connection, line: &str) -> Vec<u8> {
    let requests: Vec<Request> = line.split(" ; ").map(request).collect();
    connection.send_all(&requests);
    requests.iter().flat_map(|_| connection.read()).collect()
}

#[test]
fn a_client_is_told_the_same_of_itself_and_of_the_server() {
    let (redis, leveret) = (Server::redis(&[]), Server::leveret(&["--in-memory"]));
    for protocol in ["2", "3"] {
        let mut pair = connect(&redis, &leveret);
        let hello = request(&format!("HELLO {protocol}"));
        for connection in [&mut pair.redis, &mut pair.leveret] {
            connection.send_all(std::slice::from_ref(&hello));
            connection.read();
        }
        // From where one of them is, a session goes on in RESP2.
        let mut wrong = Vec::new();
        for line in LINES {
            let (theirs, ours) = (ask(&mut pair.redis, line), ask(&mut pair.leveret, line));
            if theirs != ours {
                wrong.push(format!(
                    "{line}\n  redis:   {}\n  leveret: {}",
                    shown(&theirs),
                    shown(&ours)
                ));
            }
        }
        assert!(wrong.is_empty(), "RESP{protocol}:\n{}", wrong.join("\n"));
    }
}

/// The names in `name=value name=value`, of a bulk string.
fn field_names(reply: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(reply);
    let fields = text.split(['\n', ' ']).filter_map(|field| field.split_once('='));
    fields.map(|(name, _)| name.to_owned()).collect()
}

/// Their values are each server's own.
#[test]
fn a_clients_row_has_the_same_fields() {
    let (redis, leveret) = (Server::redis(&[]), Server::leveret(&["--in-memory"]));
    let mut pair = connect(&redis, &leveret);
    for line in ["CLIENT INFO", "CLIENT LIST", "CLIENT LIST TYPE normal"] {
        let theirs = field_names(&ask(&mut pair.redis, line));
        assert!(theirs.len() > 10, "{theirs:?}");
        assert_eq!(field_names(&ask(&mut pair.leveret, line)), theirs, "{line}");
    }
    // Redis 7.0 has no SETINFO, and every client of today sends it.
    let said = ask(&mut pair.leveret, "CLIENT SETINFO LIB-NAME ours");
    assert_eq!(shown(&said), "+OK\\r\\n");
    let said = ask(&mut pair.leveret, "CLIENT SETINFO LIB-NAME 'a b'");
    assert!(said.starts_with(b"-ERR"), "{}", shown(&said));
}

#[test]
fn the_time_is_that_of_the_machine() {
    let (redis, leveret) = (Server::redis(&[]), Server::leveret(&["--in-memory"]));
    let mut pair = connect(&redis, &leveret);
    let seconds = |reply: Vec<u8>| -> u64 {
        let text = String::from_utf8(reply).unwrap();
        text.split("\r\n").nth(2).unwrap().parse().unwrap()
    };
    let before = seconds(ask(&mut pair.redis, "TIME"));
    let ours = seconds(ask(&mut pair.leveret, "TIME"));
    let after = seconds(ask(&mut pair.redis, "TIME"));
    assert!((before..=after).contains(&ours), "{before}, {ours}, {after}");
}
