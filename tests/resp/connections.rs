//! A connection's own commands, its limits and its end.

use leveret::resp::Options;

use crate::fixture::Fixture;

#[tokio::test]
async fn a_pipeline_is_answered_in_order_however_it_is_split() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let pipeline = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\nGET k\r\nfoo\r\n*1\r\n$4\r\nPING\r\n";
    let expected =
        "+OK\r\n$1\r\nv\r\n-ERR unknown command 'foo', with args beginning with: \r\n+PONG\r\n";
    client.send(pipeline).await;
    client.expect(expected).await;
    for byte in pipeline {
        client.send([*byte]).await;
    }
    client.expect(expected).await;
    assert_eq!(fixture.cache.get("k").unwrap().as_deref(), Some(&b"v"[..]));
}

#[tokio::test]
async fn answers_larger_than_the_stream_come_whole() {
    let fixture = Fixture::new();
    let value = "x".repeat(1_000_000);
    fixture.cache.set("large", value.clone()).unwrap();
    let mut client = fixture.connect();
    client.send("GET large\r\nGET large\r\nPING\r\n").await;
    let one = format!("$1000000\r\n{value}\r\n");
    client.expect(&format!("{one}{one}+PONG\r\n")).await;
    client.send(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n{one}STRLEN k\r\n")).await;
    client.expect("+OK\r\n:1000000\r\n").await;
}

#[tokio::test]
async fn each_client_has_its_own_database() {
    let fixture = Fixture::new();
    let (mut first, mut second) = (fixture.connect(), fixture.connect());
    first.ask("SELECT 3", "+OK\r\n").await;
    first.ask("SET k three", "+OK\r\n").await;
    second.ask("GET k", "$-1\r\n").await;
    second.ask("SELECT 16", "-ERR DB index is out of range\r\n").await;
    second.ask("SELECT x", "-ERR value is not an integer or out of range\r\n").await;
    second.ask("SELECT 3", "+OK\r\n").await;
    second.ask("GET k", "$5\r\nthree\r\n").await;
    first.ask("RESET", "+RESET\r\n").await;
    first.ask("GET k", "$-1\r\n").await;
}

#[tokio::test]
async fn a_stranger_can_do_nothing_but_log_in() {
    let options = Options { password: Some("secret".to_owned()), ..Options::default() };
    let fixture = Fixture::with(&options);
    let mut client = fixture.connect();
    client.ask("GET k", "-NOAUTH Authentication required.\r\n").await;
    client.ask("CLIENT LIST", "-NOAUTH Authentication required.\r\n").await;
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    client.ask("AUTH wrong", wrong).await;
    client.ask("AUTH someone secret", wrong).await;
    client
        .ask(
            "HELLO 3",
            "-NOAUTH HELLO must be called with the client already authenticated, \
        otherwise the HELLO AUTH <user> <pass> option can be used to authenticate the client \
        and select the RESP protocol version at the same time\r\n",
        )
        .await;
    client.ask("AUTH default secret", "+OK\r\n").await;
    client.ask("GET k", "$-1\r\n").await;
    client.ask("RESET", "+RESET\r\n").await;
    client.ask("GET k", "-NOAUTH Authentication required.\r\n").await;
    client.send("*11\r\n").await;
    client.expect("-ERR Protocol error: unauthenticated multibulk length\r\n").await;
    client.expect_end().await;
}

#[tokio::test]
async fn what_is_no_request_ends_the_connection_with_a_word() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    client.send("PING\r\n*1\r\n:1\r\nPING\r\n").await;
    client.expect("+PONG\r\n-ERR Protocol error: expected '$', got ':'\r\n").await;
    client.expect_end().await;

    let mut browser = fixture.connect();
    browser.send("POST / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    browser.expect_end().await;

    let mut client = fixture.connect();
    client.ask("QUIT\r\nPING", "+OK\r\n").await;
    client.expect_end().await;
}

#[tokio::test]
async fn a_request_beyond_the_limit_ends_the_connection() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    let mut other = fixture.connect();
    client.ask("PING", "+PONG\r\n").await;
    other.ask("CONFIG SET client-query-buffer-limit 1mb", "+OK\r\n").await;
    client.send("*2\r\n$4\r\nECHO\r\n$1000000\r\n").await;
    client.send(&"x".repeat(1_000_000)).await;
    client.send("\r\n").await;
    client.expect(&format!("$1000000\r\n{}\r\n", "x".repeat(1_000_000))).await;
    client.send("*2\r\n$4\r\nECHO\r\n$1048576\r\n").await;
    client.expect("-ERR Protocol error: too big request\r\n").await;
    client.expect_end().await;
    other.ask("PING", "+PONG\r\n").await;
}

#[tokio::test]
async fn hello_changes_the_version() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    client.ask("HELLO 4", "-NOPROTO unsupported protocol version\r\n").await;
    client
        .ask(
            "HELLO 3 SETNAME worker",
            "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n\
        $6\r\n7.0.15\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:1\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n\
        $4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n",
        )
        .await;
    client.ask("GET nothing", "_\r\n").await;
    client.ask("CLIENT GETNAME", "$6\r\nworker\r\n").await;
    client.ask("CONFIG GET timeout", "%1\r\n$7\r\ntimeout\r\n$1\r\n0\r\n").await;
}

#[tokio::test]
async fn replies_can_be_switched_off() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    client.ask("CLIENT REPLY SKIP\r\nPING a\r\nPING b", "$1\r\nb\r\n").await;
    client
        .ask("CLIENT REPLY OFF\r\nPING a\r\nCLIENT REPLY ON\r\nPING b", "+OK\r\n$1\r\nb\r\n")
        .await;
}

#[tokio::test]
async fn a_client_ends_another_one() {
    let fixture = Fixture::new();
    let (mut first, mut second) = (fixture.connect(), fixture.connect());
    first.ask("CLIENT ID", ":1\r\n").await;
    second.ask("CLIENT ID", ":2\r\n").await;
    second.ask("CLIENT KILL ID 1", ":1\r\n").await;
    first.expect_end().await;
    second.ask("CLIENT KILL ID 1", ":0\r\n").await;
    second.ask("CLIENT KILL TYPE normal", ":0\r\n").await;
    second.ask("CLIENT KILL TYPE normal SKIPME no", ":1\r\n").await;
    second.expect_end().await;
}

#[tokio::test]
async fn slow_requests_are_kept_without_their_secrets() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    client.ask("CONFIG SET slowlog-log-slower-than 0 slowlog-max-len 2", "+OK\r\n").await;
    client.ask("SLOWLOG RESET", "+OK\r\n").await;
    client
        .ask("AUTH a b", "-WRONGPASS invalid username-password pair or user is disabled.\r\n")
        .await;
    client.ask("CONFIG SET slowlog-log-slower-than -1", "+OK\r\n").await;
    client.ask("SLOWLOG LEN", ":2\r\n").await;
    client.ask("SLOWLOG GET -2", "-ERR count should be greater than or equal to -1\r\n").await;
}

#[tokio::test]
async fn memory_is_told_and_bounded() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    client.ask("MEMORY USAGE k", "$-1\r\n").await;
    client
        .ask(
            "SET k v\r\nMEMORY USAGE k SAMPLES x",
            "+OK\r\n-ERR value is not an integer or out of range\r\n",
        )
        .await;
    client.ask("MEMORY USAGE k FOO 1", "-ERR syntax error\r\n").await;
    client.ask("CONFIG SET maxmemory 1", "+OK\r\n").await;
    let refused = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";
    client.ask("SET other v", refused).await;
    client.ask("GET k\r\nDEL k", "$1\r\nv\r\n:1\r\n").await;
    client.ask("MULTI\r\nSET k v\r\nEXEC", "+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n").await;
}

#[tokio::test]
async fn settings_are_set_as_a_whole_or_not_at_all() {
    let fixture = Fixture::new();
    let mut client = fixture.connect();
    client
        .ask(
            "CONFIG SET timeout 5 maxclients 0",
            "-ERR CONFIG SET failed (possibly related to argument 'maxclients') - argument must be \
             between 1 and 4294967295 inclusive\r\n",
        )
        .await;
    client.ask("CONFIG GET timeout", "*2\r\n$7\r\ntimeout\r\n$1\r\n0\r\n").await;
    client.ask("CONFIG GET TimeOut time*", "*2\r\n$7\r\nTimeOut\r\n$1\r\n0\r\n").await;
    let other = "-ERR CONFIG SET failed (possibly related to argument 'appendonly') - this server was \
                 started with 'no'\r\n";
    client.ask("CONFIG SET timeout 9 appendonly yes", other).await;
    client.ask("CONFIG SET timeout 1 x", "-ERR syntax error\r\n").await;
    client.ask("CONFIG SET appendfsync always", "+OK\r\n").await;
    client.ask("SET k v", "+OK\r\n").await;
    assert_eq!(fixture.cache.fsync().name(), "always");
}
