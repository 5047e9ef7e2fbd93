//! MULTI, EXEC, DISCARD, WATCH.

use crate::fixture::{Client, Fixture};

#[tokio::test]
async fn what_is_queued_runs_as_one() {
    let fixture = Fixture::new();
    let (mut client, mut other) = (fixture.connect(), fixture.connect());
    client.ask("MULTI\r\nSET k 1\r\nINCR k", "+OK\r\n+QUEUED\r\n+QUEUED\r\n").await;
    other.ask("GET k", "$-1\r\n").await;
    client.ask("SELECT 1\r\nGET k\r\nSET k v FOO", "+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n").await;
    client.ask("EXEC", "*5\r\n+OK\r\n:2\r\n+OK\r\n$-1\r\n-ERR syntax error\r\n").await;
    other.ask("GET k", "$1\r\n2\r\n").await;
    client.ask("EXEC", "-ERR EXEC without MULTI\r\n").await;
    client.ask("DISCARD", "-ERR DISCARD without MULTI\r\n").await;
}

#[tokio::test]
async fn one_that_can_not_be_queued_spoils_all() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    client
        .ask(
            "MULTI\r\nSET k 1\r\nGET",
            "+OK\r\n+QUEUED\r\n-ERR wrong number of arguments for 'get' command\r\n",
        )
        .await;
    let abort = "-EXECABORT Transaction discarded because of previous errors.\r\n";
    client.ask("EXEC", abort).await;
    client.ask("GET k", "$-1\r\n").await;
    client.ask("MULTI\r\nMULTI\r\nWATCH k", "+OK\r\n-ERR MULTI calls can not be nested\r\n-ERR WATCH inside MULTI is not allowed\r\n").await;
    client.ask("EXEC", "*0\r\n").await;
    client
        .ask(
            "MULTI\r\nEXEC x",
            "+OK\r\n-EXECABORT Transaction discarded because of: wrong number \
        of arguments for 'exec' command\r\n",
        )
        .await;
    client.ask("MULTI\r\nSET k 1\r\nDISCARD\r\nGET k", "+OK\r\n+QUEUED\r\n+OK\r\n$-1\r\n").await;
}

#[tokio::test]
async fn a_watched_key_that_another_one_changes_stops_it() {
    let fixture = Fixture::new();
    let (mut client, mut other) = (fixture.connect(), fixture.connect());
    client.ask("SET k 1\r\nWATCH k", "+OK\r\n+OK\r\n").await;
    other.ask("SET k 2", "+OK\r\n").await;
    client.ask("MULTI\r\nSET k 3\r\nEXEC", "+OK\r\n+QUEUED\r\n*-1\r\n").await;
    client.ask("GET k", "$1\r\n2\r\n").await;
    // Nobody changed it since; and what is not watched any more does not matter.
    client
        .ask("WATCH k\r\nMULTI\r\nSET k 3\r\nEXEC", "+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n")
        .await;
    client.ask("WATCH k\r\nUNWATCH", "+OK\r\n+OK\r\n").await;
    other.ask("SET k 4", "+OK\r\n").await;
    client.ask("MULTI\r\nEXEC", "+OK\r\n*0\r\n").await;
    // The same name in another database is another key.
    client.ask("WATCH k", "+OK\r\n").await;
    other.ask("SELECT 1\r\nSET k x", "+OK\r\n+OK\r\n").await;
    client.ask("MULTI\r\nEXEC", "+OK\r\n*0\r\n").await;
}

/// The commands in the slow log, the oldest first.
async fn logged(client: &mut Client, expected: &[&str]) {
    client.ask("CONFIG SET slowlog-log-slower-than -1", "+OK\r\n").await;
    for (at, command) in expected.iter().enumerate() {
        let script = format!(
            "EVAL \"return table.concat(redis.call('slowlog', 'get', '-1')[{}][4], ' ')\" 0",
            expected.len() - at
        );
        client.ask(&script, &format!("${}\r\n{command}\r\n", command.len())).await;
    }
    client.ask("SLOWLOG LEN", &format!(":{}\r\n", expected.len())).await;
}

#[tokio::test]
async fn the_slow_log_names_what_ran_and_not_what_was_queued() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let begin = "CONFIG SET slowlog-log-slower-than 0\r\nSLOWLOG RESET";
    client.ask(begin, "+OK\r\n+OK\r\n").await;
    client
        .ask(
            "MULTI\r\nSET a 1\r\nINCR a\r\nEXEC",
            "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n:2\r\n",
        )
        .await;
    client.ask("FOO", "-ERR unknown command 'FOO', with args beginning with: \r\n").await;
    client.ask("BLPOP nothing 0.001", "*-1\r\n").await;
    logged(&mut client, &["SLOWLOG RESET", "MULTI", "SET a 1", "INCR a"]).await;
    // The calls of a script come before the script, in a transaction too.
    client.ask(begin, "+OK\r\n+OK\r\n").await;
    client
        .ask(
            "MULTI\r\nGET a\r\nEVAL \"return redis.call('incr', KEYS[1])\" 1 a\r\nGET a\r\nEXEC",
            "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n$1\r\n2\r\n:3\r\n$1\r\n3\r\n",
        )
        .await;
    logged(
        &mut client,
        &[
            "SLOWLOG RESET",
            "MULTI",
            "GET a",
            "incr a",
            "EVAL return redis.call('incr', KEYS[1]) 1 a",
            "GET a",
        ],
    )
    .await;
}
