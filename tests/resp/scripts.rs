//! EVAL and SCRIPT among other requests.

use crate::blocking::wait;
use crate::fixture::{Client, Fixture};

const BUSY: &str =
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.";

/// Runs until someone sets `go`.
const UNTIL_GO: &str = "while redis.call('EXISTS', 'go') == 0 do end";

/// Sends a script, and returns when it has the turn.
async fn begin(fixture: &Fixture, client: &mut Client, script: &str) {
    client.send(format!("EVAL \"{script}\" 0\r\n")).await;
    while fixture.cache.try_turn().is_some() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_script_is_answered_in_its_place() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    client
        .ask(
            "SET k 1\r\nEVAL \"return redis.call('INCR', KEYS[1])\" 1 k\r\nGET k\r\n\
             EVAL \"return {KEYS[1], ARGV[1], ARGV[2]}\" 1 a b c\r\nSET k v\r\n\
             EVAL \"return redis.call('GET', 'k')\" 0\r\nGET k",
            "+OK\r\n:2\r\n$1\r\n2\r\n*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n+OK\r\n$1\r\nv\r\n\
             $1\r\nv\r\n",
        )
        .await;
    client.ask("SELECT 2\r\nEVAL \"return redis.call('GET', 'k')\" 0", "+OK\r\n$-1\r\n").await;
    client
        .ask("EVAL \"return redis.call('SET', 'k', 'two')\" 0\r\nGET k", "+OK\r\n$3\r\ntwo\r\n")
        .await;
    client
        .ask(
            "CLIENT REPLY SKIP\r\nEVAL \"return redis.call('SET', 'k', 'x')\" 0\r\nGET k",
            "$1\r\nx\r\n",
        )
        .await;
}

#[tokio::test]
async fn scripts_are_known_by_their_digests() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let digest = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
    let none = "-NOSCRIPT No matching script. Please use EVAL.\r\n";
    client.ask(&format!("EVALSHA {digest} 0"), none).await;
    client.ask("SCRIPT LOAD \"return 1\"", &format!("$40\r\n{digest}\r\n")).await;
    client.ask(&format!("SCRIPT EXISTS {digest} x"), "*2\r\n:1\r\n:0\r\n").await;
    client.ask(&format!("EVALSHA {digest} 0\r\nEVALSHA_RO {digest} 0"), ":1\r\n:1\r\n").await;
    client.ask("SCRIPT FLUSH", "+OK\r\n").await;
    client.ask(&format!("EVALSHA {digest} 0"), none).await;
    client.ask("SCRIPT KILL", "-NOTBUSY No scripts in execution right now.\r\n").await;
    client.ask("EVAL x", "-ERR wrong number of arguments for 'eval' command\r\n").await;
    client.ask("EVAL x -1", "-ERR Number of keys can't be negative\r\n").await;
    client.ask("SCRIPT NONE", "-ERR unknown subcommand 'NONE'. Try SCRIPT HELP.\r\n").await;
    client.ask("COMMAND GETKEYS EVAL x 2 a b c", "*2\r\n$1\r\na\r\n$1\r\nb\r\n").await;
}

#[tokio::test]
async fn a_transaction_may_have_scripts_in_it() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    client
        .ask(
            "MULTI\r\nSET n 1\r\nSELECT 1\r\nSET n 5\r\nEVAL \"return redis.call('INCR', 'n')\" 0\r\n\
             SELECT 0\r\nEVALSHA x 0\r\nBLPOP none 0\r\nSCRIPT KILL\r\nGET n\r\nSET n v FOO\r\nEXEC",
            &format!(
                "+OK\r\n{}*10\r\n+OK\r\n+OK\r\n+OK\r\n:6\r\n+OK\r\n\
                 -NOSCRIPT No matching script. Please use EVAL.\r\n*-1\r\n\
                 -NOTBUSY No scripts in execution right now.\r\n$1\r\n1\r\n-ERR syntax error\r\n",
                "+QUEUED\r\n".repeat(10)
            ),
        )
        .await;
    client.ask("GET n\r\nSELECT 1\r\nGET n", "$1\r\n1\r\n+OK\r\n$1\r\n6\r\n").await;
    client
        .ask(
            "MULTI\r\nEVAL x\r\nEVAL \"return 1\" 0\r\nEXEC",
            "+OK\r\n-ERR wrong number of arguments for 'eval' command\r\n+QUEUED\r\n\
             -EXECABORT Transaction discarded because of previous errors.\r\n",
        )
        .await;
}

#[tokio::test]
async fn what_a_script_writes_changes_watched_keys() {
    let fixture = Fixture::new();
    let (mut client, mut other) = (fixture.connect(), fixture.connect());
    let set = "EVAL \"return redis.call('SET', 'k', 'v')\" 0";
    for transaction in ["MULTI\r\nGET k\r\nEXEC", "MULTI\r\nEVAL \"return 1\" 0\r\nEXEC"] {
        client.ask("WATCH k", "+OK\r\n").await;
        other.ask(set, "+OK\r\n").await;
        client.ask(transaction, "+OK\r\n+QUEUED\r\n*-1\r\n").await;
    }
    client
        .ask(
            "WATCH k\r\nMULTI\r\nEVAL \"return 1\" 0\r\nEXEC",
            "+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n:1\r\n",
        )
        .await;
}

#[tokio::test]
async fn those_that_wait_are_served_when_a_script_has_ended() {
    let fixture = Fixture::new();
    let (mut waiter, mut client) = (fixture.connect(), fixture.connect());
    wait(&fixture, &mut waiter, "BLPOP l 0").await;
    let script = "redis.call('RPUSH', 'l', 'a') redis.call('LPOP', 'l') \
        return redis.call('RPUSH', 'l', 'b')";
    client.ask(&format!("EVAL \"{script}\" 0\r\nEXISTS l"), ":1\r\n:0\r\n").await;
    waiter.expect("*2\r\n$1\r\nl\r\n$1\r\nb\r\n").await;

    // Also when someone in this process writes meanwhile.
    wait(&fixture, &mut waiter, "BLPOP l 0").await;
    let script = format!("redis.call('RPUSH', 'l', 'c') {UNTIL_GO} return redis.call('LPOP', 'l')");
    begin(&fixture, &mut client, &script).await;
    while fixture.cache.llen("l").unwrap() == 0 {
        tokio::task::yield_now().await;
    }
    fixture.cache.rpush("l", "d").unwrap();
    fixture.cache.set("go", "1").unwrap();
    client.expect("$1\r\nc\r\n").await;
    waiter.expect("*2\r\n$1\r\nl\r\n$1\r\nd\r\n").await;
}

#[tokio::test]
async fn others_wait_for_a_script_and_are_told_when_it_takes_too_long() {
    let fixture = Fixture::new();
    let (mut client, mut other) = (fixture.connect(), fixture.connect());
    begin(&fixture, &mut client, &format!("{UNTIL_GO} return redis.call('SET', 'k', 'v')")).await;
    other.send("GET k\r\n").await;
    fixture.cache.set("go", "1").unwrap();
    client.expect("+OK\r\n").await;
    other.expect("$1\r\nv\r\n").await;

    let mut third = fixture.connect();
    other.ask("CONFIG SET lua-time-limit 20", "+OK\r\n").await;
    begin(&fixture, &mut client, "while true do redis.pcall('PING') end").await;
    other.ask("PING", &format!("-{BUSY}\r\n")).await;
    other.ask("EVAL \"return 1\" 0\r\nSCRIPT HELP", &format!("-{BUSY}\r\n-{BUSY}\r\n")).await;
    third
        .ask(
            "MULTI\r\nGET k\r\nEXEC\r\nWATCH k\r\nUNWATCH\r\nMULTI\r\nDISCARD\r\nRESET\r\nGET\r\nEXEC",
            &format!(
                "+OK\r\n-{BUSY}\r\n-EXECABORT Transaction discarded because of: {BUSY}\r\n+OK\r\n\
                 +OK\r\n+OK\r\n+OK\r\n+RESET\r\n\
                 -ERR wrong number of arguments for 'get' command\r\n\
                 -EXECABORT Transaction discarded because of: {BUSY}\r\n"
            ),
        )
        .await;
    other.send("SCRIPT KILL\r\nPING\r\n").await;
    other.expect("+OK\r\n").await;
    client.send("PING\r\n").await;
    client
        .expect(
            "-ERR Script killed by user with SCRIPT KILL... script: \
             4ef91cff41e63e6c8cdc079c66b74ce81d368153, on @user_script:1.\r\n+PONG\r\n",
        )
        .await;
    third.ask("PING", "+PONG\r\n").await;
}

#[tokio::test]
async fn a_script_is_stopped_before_its_time_is_over_but_not_once_it_has_written() {
    let fixture = Fixture::new();
    let (mut client, mut other) = (fixture.connect(), fixture.connect());
    other.ask("CONFIG SET busy-reply-threshold 0", "+OK\r\n").await;
    other.ask("CONFIG GET lua-time-*", "*2\r\n$14\r\nlua-time-limit\r\n$1\r\n0\r\n").await;
    begin(&fixture, &mut client, &format!("redis.call('SET', 'k', 'v') {UNTIL_GO}")).await;
    while fixture.cache.get("k").unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    other
        .ask(
            "SCRIPT KILL",
            "-UNKILLABLE Sorry the script already executed write commands against the dataset. You \
             can either wait the script termination or kill the server in a hard way using the \
             SHUTDOWN NOSAVE command.\r\n",
        )
        .await;
    fixture.cache.set("go", "1").unwrap();
    client.expect("$-1\r\n").await;
    // Each script of a transaction is stopped by itself, whatever came before it.
    client
        .ask(
            "MULTI\r\nSET k w\r\nEVAL \"while true do end\" 0\r\nEVAL \"return 2\" 0",
            "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n",
        )
        .await;
    client.send("EXEC\r\n").await;
    while fixture.cache.get("k").unwrap().as_deref() != Some(b"w") {
        tokio::task::yield_now().await;
    }
    other.ask("SCRIPT KILL", "+OK\r\n").await;
    client
        .expect(
            "*3\r\n+OK\r\n-ERR Script killed by user with SCRIPT KILL... script: \
             694a5fe1ddb97a4c6a1bf299d9537c7d3d0f84e7, on @user_script:1.\r\n:2\r\n",
        )
        .await;
}

#[tokio::test]
async fn a_client_that_is_ended_leaves_its_script_to_end_by_itself() {
    let fixture = Fixture::new();
    let (mut client, mut other) = (fixture.connect(), fixture.connect());
    client.ask("CLIENT ID", ":1\r\n").await;
    other.send("PING\r\n").await;
    other.expect("+PONG\r\n").await;
    begin(&fixture, &mut client, &format!("{UNTIL_GO} redis.call('SET', 'k', 'v')")).await;
    drop(client);
    fixture.cache.set("go", "1").unwrap();
    other.ask("GET k", "$1\r\nv\r\n").await;
}

#[tokio::test]
async fn a_script_may_ask_about_the_server_as_in_redis() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let asks = |call: &str| format!("EVAL \"return {call}\" 0");
    client
        .ask(
            &asks("redis.call('info', 'cluster')"),
            "$30\r\n# Cluster\r\ncluster_enabled:0\r\n\r\n",
        )
        .await;
    client.ask(&asks("redis.call('command', 'getkeys', 'get', 'k')"), "*1\r\n$1\r\nk\r\n").await;
    client.ask(&asks("type(redis.call('command', 'docs', 'get')[2])"), "$5\r\ntable\r\n").await;
    client.ask(&asks("redis.call('slowlog', 'len')"), ":0\r\n").await;
    client
        .ask(
            &asks("redis.call('slowlog', 'help')[1].ok"),
            "$64\r\nSLOWLOG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:\r\n",
        )
        .await;
    client
        .ask(
            "EVAL \"redis.setresp(3) return redis.call('command', 'info', 'get')[1][3]\" 0",
            "*2\r\n+readonly\r\n+fast\r\n",
        )
        .await;
    // A script is no client.
    let count = "string.match(redis.call('info', 'clients'), 'connected_clients:(%d+)')";
    client.ask(&asks(count), "$1\r\n1\r\n").await;
    for (call, error) in [
        ("redis.pcall('client', 'id')", "ERR This Redis command is not allowed from script"),
        ("redis.pcall('debug', 'sleep', '0')", "ERR This Redis command is not allowed from script"),
        ("redis.pcall('acl', 'whoami')", "ERR This Redis command is not allowed from script"),
        ("redis.pcall('slowlog', 'foo')", "ERR Unknown Redis command called from script"),
        ("redis.pcall('slowlog')", "ERR Wrong number of args calling Redis command from script"),
        ("redis.pcall('command', 'list', 'x')", "ERR syntax error"),
    ] {
        let error = format!("${}\r\n{error}\r\n", error.len());
        client.ask(&asks(&format!("{call}.err")), &error).await;
    }
}
