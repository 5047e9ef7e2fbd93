//! INFO: fields by Redis's names, and values that follow what happens.

use std::collections::BTreeMap;

use crate::servers::Server;
use crate::wire::Connection;

fn ask(connection: &mut Connection, line: &str) -> String {
    let request = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
    connection.send_all(&[request]);
    String::from_utf8(connection.read()).expect("a text")
}

fn info(connection: &mut Connection, sections: &str) -> BTreeMap<String, String> {
    let text = ask(connection, format!("INFO {sections}").trim_end());
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn sections(connection: &mut Connection, asked: &str) -> Vec<String> {
    let text = ask(connection, format!("INFO {asked}").trim_end());
    text.lines().filter_map(|line| Some(line.strip_prefix("# ")?.to_owned())).collect()
}

/// What clients look at before they work, and what watchers of a Redis show.
const READ_BY_OTHERS: [&str; 34] = [
    "redis_version",
    "redis_mode",
    "os",
    "process_id",
    "run_id",
    "tcp_port",
    "uptime_in_seconds",
    "uptime_in_days",
    "connected_clients",
    "blocked_clients",
    "maxclients",
    "used_memory",
    "used_memory_human",
    "used_memory_rss",
    "total_system_memory",
    "maxmemory",
    "maxmemory_human",
    "maxmemory_policy",
    "loading",
    "aof_enabled",
    "rdb_bgsave_in_progress",
    "total_connections_received",
    "total_commands_processed",
    "total_net_input_bytes",
    "total_net_output_bytes",
    "rejected_connections",
    "expired_keys",
    "evicted_keys",
    "keyspace_hits",
    "keyspace_misses",
    "pubsub_channels",
    "role",
    "used_cpu_sys",
    "used_cpu_user",
];

#[test]
fn the_fields_are_among_those_of_redis() {
    let (redis, leveret) = (Server::redis(&[]), Server::leveret(&["--in-memory"]));
    let (mut redis, mut leveret) =
        (Connection::open(redis.address), Connection::open(leveret.address));
    for connection in [&mut redis, &mut leveret] {
        // The gateway of ours has keys in the first database.
        ask(connection, "SELECT 2");
        ask(connection, "SET k v");
    }
    let (theirs, ours) = (info(&mut redis, "everything"), info(&mut leveret, ""));
    // The first is ours alone, the second of Redis 7.4, the third the gateway's.
    let others = ["leveret_version", "pubsub_clients", "db0"];
    let is_other = |name: &&String| others.contains(&name.as_str());
    for name in ours.keys().filter(|name| !is_other(name)) {
        assert!(theirs.contains_key(name), "Redis has no {name}");
    }
    for name in READ_BY_OTHERS {
        assert!(ours.contains_key(name), "{name} is missing");
    }
    for name in ["redis_version", "redis_mode", "maxmemory_policy", "role", "db2"] {
        assert_eq!(ours[name], theirs[name], "{name}");
    }
    assert_eq!(ours["run_id"].len(), theirs["run_id"].len());
    for asked in ["server", "CLIENTS", "memory stats", "nosuch", "nosuch keyspace", "cpu cpu"] {
        assert_eq!(sections(&mut leveret, asked), sections(&mut redis, asked), "{asked}");
    }
    let all = sections(&mut leveret, "");
    for asked in ["default", "all", "everything", "server all"] {
        assert_eq!(sections(&mut leveret, asked), all, "{asked}");
    }
}

#[test]
fn the_values_follow_what_happens_until_they_are_reset() {
    let leveret = Server::leveret(&["--in-memory"]);
    let mut client = Connection::open(leveret.address);
    let before = info(&mut client, "");
    let mut listener = Connection::open(leveret.address);
    ask(&mut listener, "SUBSCRIBE c");
    ask(&mut listener, "PSUBSCRIBE p*");
    ask(&mut client, "SELECT 2");
    ask(&mut client, &format!("SET a {}", "x".repeat(10_000)));
    ask(&mut client, "SELECT 3");
    ask(&mut client, "SET b 1 EX 100");
    ask(&mut client, "GET b");
    ask(&mut client, "GET missing");
    ask(&mut client, "EXISTS missing");
    ask(&mut client, "LPUSH b 1");
    let after = info(&mut client, "");
    let number = |of: &BTreeMap<String, String>, name: &str| -> i64 {
        of[name].parse().unwrap_or_else(|_| panic!("{name}: {}", of[name]))
    };
    let rise = |name: &str| number(&after, name) - number(&before, name);
    for (name, by) in [
        ("connected_clients", 1),
        ("pubsub_clients", 1),
        ("pubsub_channels", 1),
        ("pubsub_patterns", 1),
        ("total_connections_received", 1),
        ("keyspace_hits", 1),
        ("keyspace_misses", 2),
        ("total_error_replies", 1),
    ] {
        assert_eq!(rise(name), by, "{name}");
    }
    assert!(rise("used_memory") > 10_000, "{}", rise("used_memory"));
    assert!(rise("total_net_input_bytes") > 10_000);
    assert!(number(&after, "used_memory_rss") > number(&after, "used_memory"));
    assert!(number(&after, "total_system_memory") > number(&after, "used_memory_rss"));
    assert_eq!(after["db2"], "keys=1,expires=0,avg_ttl=0");
    assert_eq!(after["db3"], "keys=1,expires=1,avg_ttl=0");
    assert_eq!(ask(&mut client, "CONFIG RESETSTAT"), "+OK\r\n");
    let reset = info(&mut client, "stats");
    for name in ["keyspace_hits", "keyspace_misses", "total_error_replies", "expired_keys"] {
        assert_eq!(reset[name], "0", "{name}");
    }
    // What is there is not forgotten.
    assert_eq!(reset["pubsub_channels"], after["pubsub_channels"]);
}
