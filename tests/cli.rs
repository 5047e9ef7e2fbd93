//! The program as it is started: one clear line and exit code 2 for wrong values, 1 for what it can't
//! do, a server that says where it listens and drains when it is asked to, and the commands that call it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn leveret(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.args(arguments).env_remove("RABBITMQ_URL").env_remove("REDIS_URL");
    command
}

/// The one line on standard error, with the exit code that went with it.
fn refusal(command: &mut Command) -> (String, Option<i32>) {
    let Output { status, stderr, .. } = command.output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(stderr.lines().count(), 1, "one line, not: {stderr}");
    (stderr, status.code())
}

/// A server on a free port; killed when it is dropped.
struct Server {
    child: Child,
    /// What it printed, by the first word of each line.
    lines: Vec<String>,
}

impl Server {
    fn start(folder: &Path) -> Self {
        Self::start_with(folder, &[])
    }

    fn start_with(folder: &Path, more: &[&str]) -> Self {
        let folder = folder.to_str().unwrap();
        let mut child =
            leveret(&["serve", "--demo", "--http", "127.0.0.1:0", "--data-dir", folder])
                .args(more)
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let lines = stdout.lines().take(3).map(Result::unwrap).collect();
        Self { child, lines }
    }

    fn line(&self, name: &str) -> &str {
        let found = self.lines.iter().find_map(|line| line.strip_prefix(name));
        found.unwrap_or_else(|| panic!("no line '{name}' in {:?}", self.lines)).trim()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_wrong_value_is_one_line_that_names_it_and_exit_code_2() {
    let cases: [(&[&str], &str); 5] = [
        (&["serve", "--http", "nonsense"], "--http: 'nonsense'"),
        (&["serve", "--durability", "maybe"], "--durability: 'maybe'"),
        (&["serve", "--no-such-flag"], "'--no-such-flag'"),
        (&["serve", "--config", "no-such-file.toml"], "no-such-file.toml"),
        (&["token"], "--user"),
    ];
    for (arguments, named) in cases {
        let (line, code) = refusal(&mut leveret(arguments));
        assert!(line.contains(named), "{line}");
        assert_eq!(code, Some(2), "{line}");
    }
    let (line, code) = refusal(leveret(&["serve"]).env("REDIS_URL", "localhost"));
    assert!(line.contains("REDIS_URL") && code == Some(2), "{line}");
}

#[test]
fn help_names_every_flag() {
    let help = leveret(&["serve", "--help"]).output().unwrap();
    let text = String::from_utf8(help.stdout).unwrap();
    for flag in ["--data-dir", "--in-memory", "--durability", "--http", "--jwt-secret", "--demo"] {
        assert!(text.contains(flag), "{flag}");
    }
    assert!(help.status.success());
}

#[test]
fn a_server_says_where_it_is_keeps_its_folder_to_itself_and_drains() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data");
    let path = folder.to_str().unwrap();
    let mut server = Server::start(&folder);
    let url = server.line("http").to_owned();
    let address = url.strip_prefix("http://").unwrap();
    assert_eq!(server.line("demo"), format!("{url}/demo"));
    assert_eq!(server.line("data"), format!("{path} (strict)"));

    let (line, code) =
        refusal(&mut leveret(&["serve", "--http", "127.0.0.1:0", "--data-dir", path]));
    assert!(line.contains("is in use") && code == Some(1), "{line}");
    let (line, code) = refusal(&mut leveret(&["check", "--data-dir", path]));
    assert!(line.contains("is in use") && code == Some(1), "{line}");
    let (line, code) = refusal(&mut leveret(&["serve", "--http", address, "--in-memory"]));
    assert!(line.contains(address) && code == Some(1), "{line}");

    let token = leveret(&["token", "--user", "ada", "--data-dir", path]).output().unwrap();
    assert_eq!(String::from_utf8(token.stdout).unwrap().trim().split('.').count(), 3);

    let pid = server.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(server.child.wait().unwrap().success());
    let check = leveret(&["check", "--data-dir", path]).output().unwrap();
    assert!(check.status.success(), "{check:?}");
}

#[test]
fn a_damaged_folder_is_refused_with_the_file_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    drop(Server::start(folder.path()));
    let log = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let log =
        log.into_iter().find(|path| path.extension().is_some_and(|end| end == "redb")).unwrap();
    let mut bytes = std::fs::read(&log).unwrap();
    // Behind its first mebibyte lie the pages, and behind those what is not used yet.
    bytes.truncate((1 << 20) + 4096);
    std::fs::write(&log, &bytes).unwrap();
    for command in ["check", "serve"] {
        let mut command = leveret(&[command, "--data-dir", path]);
        let (line, code) = refusal(&mut command);
        let name = log.file_name().unwrap().to_str().unwrap();
        assert!(line.contains(name) && code == Some(1), "{line}");
        assert_eq!(std::fs::read(&log).unwrap(), bytes);
    }
}

/// What a command printed and how it ended; the address is that of `server`.
fn call(server: &Server, arguments: &[&str]) -> (String, String, Option<i32>) {
    let output = client(server, arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

fn client(server: &Server, arguments: &[&str]) -> Command {
    let mut command = leveret(arguments);
    command.env("LEVERET_URL", server.line("http")).env_remove("LEVERET_API_KEY");
    command
}

fn succeeds(server: &Server, arguments: &[&str]) -> String {
    let (stdout, stderr, code) = call(server, arguments);
    assert_eq!((stderr.as_str(), code), ("", Some(0)), "{arguments:?}");
    stdout
}

fn fails(server: &Server, arguments: &[&str], reason: &str) {
    let (_, stderr, code) = call(server, arguments);
    assert_eq!(stderr.lines().count(), 1, "one line, not: {stderr}");
    assert!(stderr.contains(reason) && code == Some(1), "{arguments:?}: {stderr}");
}

/// Puts a dead letter into `orders.failed` that died in `user-events.failed`, which nobody consumes.
fn bury(server: &Server, body: &str, error: &str) {
    let document = serde_json::json!({
        "exchange": "", "routingKey": "orders.failed", "body": body,
        "properties": { "persistent": true },
        "headers": {
            "x-last-error": error,
            "x-death": [{
                "queue": "user-events.failed", "reason": "rejected", "count": 1,
                "exchange": "", "routing-keys": ["user-events.failed"],
                "time": { "$timestamp": 1_700_000_000 },
            }],
        },
    })
    .to_string();
    let address = server.line("http").strip_prefix("http://").unwrap().to_owned();
    let mut stream = std::net::TcpStream::connect(&address).unwrap();
    write!(
        stream,
        "POST /api/v1/publish HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{document}",
        document.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("true"), "{answer}");
}

#[test]
fn messages_are_published_and_consumed() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let queue = "user-events.failed";
    let publish = |body: &str| {
        let arguments = ["publish", "", queue, "--body", body, "--persistent", "--header", "a=b=c"];
        assert_eq!(succeeds(&server, &arguments), "");
    };
    publish("one");
    publish("two");
    let mut command = client(&server, &["publish", "", queue, "--body", "-"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"\xff three").unwrap();
    assert!(child.wait().unwrap().success());

    let looked = succeeds(&server, &["consume", queue, "--count", "2", "--requeue"]);
    assert_eq!(looked, "one\ntwo\n");
    let shown = succeeds(&server, &["consume", queue, "--count", "1", "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&shown["body"], &shown["headers"]["a"]), (&"one".into(), &"b=c".into()));
    assert_eq!(shown["redelivered"], true);
    let rest = client(&server, &["consume", queue, "--count", "2"]).output().unwrap();
    assert_eq!(rest.stdout, b"two\n\xff three\n");

    let queues = succeeds(&server, &["queues"]);
    assert!(queues.starts_with("QUEUE") && queues.contains(queue), "{queues}");
    let queues = succeeds(&server, &["queues", "--json"]);
    let line = queues.lines().find(|line| line.contains(queue)).unwrap();
    let status: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!((&status["ready"], &status["unacked"]), (&0.into(), &0.into()));

    fails(&server, &["publish", "", "nowhere"], "unroutable");
    fails(&server, &["publish", "nope", "k"], "no exchange 'nope'");
    fails(&server, &["consume", "nope"], "no queue 'nope'");
}

#[test]
fn dead_letters_are_looked_at_and_redriven() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    bury(&server, "first", "no stock");
    bury(&server, "second", "time\u{1b}out");
    bury(&server, "third", "no stock");

    let peeked = succeeds(&server, &["peek", "orders.failed", "--count", "2"]);
    assert_eq!(peeked.lines().count(), 3, "{peeked}");
    assert!(peeked.contains("2023-11-14T22:13:20Z") && peeked.contains("first"), "{peeked}");
    assert!(peeked.contains("time\\u{1b}out") && !peeked.contains('\u{1b}'), "{peeked}");
    let groups = succeeds(&server, &["peek", "orders.failed", "--group"]);
    let largest = groups.lines().nth(1).unwrap();
    assert!(largest.trim().starts_with('2') && largest.ends_with("no stock"), "{groups}");

    let redrive = |more: &[&str]| {
        let arguments = [&["redrive", "orders.failed"], more].concat();
        succeeds(&server, &arguments)
    };
    let planned = redrive(&["--error", "stock", "--dry-run"]);
    assert_eq!(planned, "2 would go to user-events.failed\n");
    assert_eq!(
        redrive(&["--error", "stock", "--rate", "1000/s"]),
        "2 moved to user-events.failed\n"
    );

    let peeked = succeeds(&server, &["peek", "orders.failed", "--json"]);
    let left: serde_json::Value = serde_json::from_str(&peeked).unwrap();
    let id = left["id"].as_str().unwrap();
    let mended = redrive(&["--ids", id, "--body", "mended"]);
    assert_eq!(mended, format!("{id} -> user-events.failed\n"));
    let bodies = succeeds(&server, &["consume", "user-events.failed", "--count", "3"]);
    assert_eq!(bodies, "first\nthird\nmended\n");

    assert_eq!(redrive(&[]), "nothing to redrive\n");
    fails(&server, &["redrive", "orders.failed", "--ids", "1,2"], "2 of the messages");
    assert_eq!(succeeds(&server, &["publish", "", "orders.failed", "--body", "alive"]), "");
    fails(&server, &["redrive", "orders.failed"], "1 of the messages that were meant did not go");
}

#[test]
fn what_nobody_wants_back_is_purged() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    for (body, error) in [("1", "spam"), ("2", "no stock"), ("3", "spam")] {
        bury(&server, body, error);
    }
    let removed = succeeds(&server, &["purge", "orders.failed", "--error", "spam"]);
    assert_eq!(removed, "2 removed\n");
    for wrong in [&["purge", "orders.failed"][..], &["purge", "q", "--all", "--error", "x"]] {
        let (_, stderr, code) = call(&server, wrong);
        assert!(stderr.contains("--all") && code == Some(2), "{stderr}");
    }
    assert_eq!(succeeds(&server, &["purge", "orders.failed", "--all"]), "1 removed\n");
}

#[test]
fn ctrl_c_cancels_a_redrive_on_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    // It is not done by itself meanwhile.
    for body in 1..=15 {
        bury(&server, &body.to_string(), "x");
    }
    let mut command = client(&server, &["redrive", "orders.failed", "--rate", "1/s"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The first goes at once: the run is under way.
    assert_eq!(succeeds(&server, &["consume", "user-events.failed", "--count", "1"]), "1\n");
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let ended = child.wait_with_output().unwrap();
    let reason = String::from_utf8(ended.stderr).unwrap();
    assert!(reason.contains("the redrive was cancelled"), "{reason}");
    assert_eq!(ended.status.code(), Some(1));
    // Nothing runs any more: another may start, and finds the rest.
    let planned = succeeds(&server, &["redrive", "orders.failed", "--rate", "1000"]);
    assert!(planned.contains("moved to user-events.failed"), "{planned}");
}

#[test]
fn ctrl_c_ends_a_dry_run_that_gets_no_answer() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    // A shell has what it runs in the background ignore the signal, these tests and their children too.
    let mut command = Command::new("env");
    command.args(["--default-signal=INT", env!("CARGO_BIN_EXE_leveret")]);
    command.args(["redrive", "q", "--dry-run"]);
    command.env("LEVERET_URL", url).env_remove("LEVERET_API_KEY");
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let (mut asked, _) = silent.accept().unwrap();
    assert!(asked.read(&mut [0; 1024]).unwrap() > 0);
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    // By the signal, and not by giving up.
    assert_eq!(child.wait().unwrap().code(), None);
}

#[test]
fn a_server_that_is_not_there_and_wrong_values_are_one_line() {
    let unreachable = ["queues", "--url", "http://127.0.0.1:1"];
    let (line, code) = refusal(&mut leveret(&unreachable));
    assert!(line.contains("there is no server at http://127.0.0.1:1") && code == Some(1), "{line}");
    let cases: [(&[&str], &str); 8] = [
        (&["queues", "--url", "https://x"], "--url: 'https://x'"),
        (&["queues", "--api-key", "a b"], "--api-key"),
        (&["publish", "x"], "<KEY>"),
        (&["publish", "x", "k", "--header", "nonsense"], "--header: 'nonsense'"),
        (&["consume", "q", "--count", "0"], "--count"),
        (&["consume", "q", "--requeue", "--count", "1001"], "--requeue"),
        (&["redrive", "q", "--rate", "fast"], "--rate"),
        (&["redrive", "q", "--body", "x"], "--ids"),
    ];
    for (arguments, named) in cases {
        let (line, code) = refusal(&mut leveret(arguments));
        assert!(line.contains(named) && code == Some(2), "{line}");
    }
}

#[test]
fn a_probe_learns_whether_a_server_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(folder.path(), &["--api-key", "open-sesame-open"]);
    // As any probe, without a key.
    assert_eq!(succeeds(&server, &["ready"]), "ready\n");
    assert!(succeeds(&server, &["ready", "--json"]).contains(r#""status":"ready""#));

    let full = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", full.local_addr().unwrap());
    let answers = std::thread::spawn(move || {
        let (mut asked, _) = full.accept().unwrap();
        assert!(asked.read(&mut [0; 1024]).unwrap() > 0);
        let body = r#"{"status":"not ready","reasons":["journal: no space","draining"]}"#;
        let head = format!("HTTP/1.1 503 X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        asked.write_all(head.as_bytes()).unwrap();
    });
    let (line, code) = refusal(&mut leveret(&["ready", "--url", &url]));
    assert!(line.contains("not ready: journal: no space; draining") && code == Some(1), "{line}");
    answers.join().unwrap();
}

#[test]
fn a_server_with_a_key_asks_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(folder.path(), &["--api-key", "open-sesame-open"]);
    fails(&server, &["queues"], "An API key is required (--api-key or LEVERET_API_KEY)");
    fails(&server, &["queues", "--api-key", "guess"], "The API key is wrong");
    succeeds(&server, &["queues", "--api-key", "open-sesame-open"]);
    let mut with_key = client(&server, &["queues"]);
    with_key.env("LEVERET_API_KEY", "open-sesame-open");
    assert!(with_key.output().unwrap().status.success());
}

/// `leveret consume` that has printed its first message.
fn consumer(server: &Server, queue: &str, first: &str) -> Child {
    let mut command = client(server, &["consume", queue, "--requeue", "--count", "9"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line.trim(), first);
    child
}

#[test]
fn what_a_killed_consumer_held_returns_to_the_queue() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let queue = "user-events.failed";
    succeeds(&server, &["publish", "", queue, "--body", "kept", "--persistent"]);
    let mut child = consumer(&server, queue, "kept");
    child.kill().unwrap();
    child.wait().unwrap();
    // Waits for the message if it is not back yet.
    assert_eq!(succeeds(&server, &["consume", queue, "--count", "1"]), "kept\n");
}

#[test]
fn a_server_that_stops_tells_its_consumers_and_does_not_wait_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path());
    let queue = "user-events.failed";
    succeeds(&server, &["publish", "", queue, "--body", "kept", "--persistent"]);
    let child = consumer(&server, queue, "kept");
    let pid = server.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let ended = child.wait_with_output().unwrap();
    let reason = String::from_utf8(ended.stderr).unwrap();
    assert!(reason.contains("the consumer ended: the server stops"), "{reason}");
    assert_eq!(ended.status.code(), Some(1));
    assert!(server.child.wait().unwrap().success());

    let again = Server::start(folder.path());
    assert_eq!(succeeds(&again, &["consume", queue, "--count", "1"]), "kept\n");
}

#[test]
fn the_path_of_a_message_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let queue = "user-events.failed";
    let arguments = ["publish", "", queue, "--persistent", "--message-id", "m-1"];
    assert_eq!(succeeds(&server, &arguments), "");
    assert_eq!(succeeds(&server, &["consume", queue, "--count", "1"]), "\n");
    let path = succeeds(&server, &["explain", "m-1"]);
    let lines: Vec<&str> = path.lines().collect();
    assert!(lines[0].starts_with("AT") && lines[1].contains("published"), "{path}");
    assert!(lines[4].contains("acked") && lines[4].contains(queue), "{path}");
    let json = succeeds(&server, &["explain", "m-1", "--json"]);
    assert!(json.starts_with('{') && json.contains("delivered"), "{json}");
    fails(&server, &["explain", "nothing"], "Nothing is known of this message");
}
