//! The program with a RabbitMQ as its broker.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use leveret::model::topology::QueueSpec;

use super::faults::{alone, control};
use super::{PATIENCE, connect, delete, listener, server, text, unique};

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ask(address: &str, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn serve(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.args(["serve", "--in-memory", "--http", "127.0.0.1:0"]).args(arguments);
    command.env_remove("RABBITMQ_URL").env_remove("REDIS_URL");
    command
}

/// The program with this broker, its address, and the rest of what it says.
fn start(url: &str, arguments: &[&str]) -> (Program, String, impl Iterator<Item = String>) {
    start_with(serve(arguments).env("RABBITMQ_URL", url))
}

fn start_with(command: &mut Command) -> (Program, String, impl Iterator<Item = String> + use<>) {
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut program = Program(command.spawn().unwrap());
    let mut lines = BufReader::new(program.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let first = lines.next().unwrap();
    let address = first.split_once("http://").unwrap().1.to_owned();
    (program, address, lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_through_the_program_is_in_rabbitmq() {
    let Some(url) = server() else { return };
    let (_program, address, mut lines) = start(&url, &[]);
    let second = lines.next().unwrap();
    assert!(second.starts_with("broker  amqp://127.0.0.1:"), "{second}");
    assert!(!second.contains("guest"), "{second}");

    let broker = connect(&url).await.unwrap();
    let queue = unique("q");
    broker.declare_queue(QueueSpec::durable(queue.clone())).await.unwrap();
    let ready = ask(&address, "GET", "/ready", "");
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    let body = format!(r#"{{"exchange":"","routingKey":"{queue}","body":"hello"}}"#);
    let answer = ask(&address, "POST", "/api/v1/publish", &body);
    assert!(answer.contains(r#"{"routed":true}"#), "{answer}");
    let got = broker.get(&queue).await.unwrap().unwrap();
    assert_eq!(text(got.message()), "hello");
    got.ack().await.unwrap();
    delete(&broker, &[&queue]).await;
}

#[test]
fn the_demo_runs_unchanged() {
    let Some(url) = server() else { return };
    let (_program, address, _lines) = start(&url, &["--demo"]);
    let order =
        r#"{"userId":"ada","items":[{"productId":"tea","quantity":2,"price":3.5}],"total":7}"#;
    let answer = ask(&address, "POST", "/api/orders", order);
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let placed: serde_json::Value = serde_json::from_str(body).unwrap();
    let path = format!("/api/orders/{}", placed["orderId"].as_str().unwrap());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ask(&address, "GET", &path, "");
        if answer.contains("completed") {
            break;
        }
        assert!(Instant::now() < deadline, "{answer}");
        // The program tells nobody when an order is done but by its state.
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_broker_that_is_not_there_is_one_line_at_the_start() {
    let refused = serve(&["--broker-url", "amqp://guest:secret@127.0.0.1:1"]).output().unwrap();
    let line = String::from_utf8(refused.stderr).unwrap();
    assert!(line.contains("the broker at amqp://127.0.0.1:1 can't be used: "), "{line}");
    assert!(!line.contains("secret"), "{line}");
    assert_eq!(refused.status.code(), Some(1));
}

/// Of nobody whom the server knows.
fn other_authority(folder: &Path) -> PathBuf {
    let file = folder.join("other.pem");
    let made = Command::new("openssl")
        .current_dir(folder)
        .args(["req", "-x509", "-subj", "/CN=another authority", "-days", "2", "-nodes"])
        .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-keyout", "other.key", "-out", "other.pem"])
        .output()
        .expect("openssl is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn amqps_is_tls_whose_certificate_is_verified_and_the_url_says_who_and_where() {
    let Some(url) = server() else { return };
    let port = std::env::var("LEVERET_RABBITMQ_TLS").expect("its port for TLS");
    let authority = std::env::var("LEVERET_RABBITMQ_CA").expect("its authority");
    let vhost = format!("team/{}", unique("v"));
    let user = unique("me").to_string();
    control(&["add_vhost", &vhost]).await;
    control(&["add_user", &user, "s@cret/1%"]).await;
    control(&["set_permissions", "-p", &vhost, &user, ".*", ".*", ".*"]).await;
    let (plain, place) = (listener(&url), vhost.replace('/', "%2f"));
    let secure = format!("amqps://{user}:s%40cret%2F1%25@localhost:{port}/{place}");

    let (program, address, mut lines) =
        start_with(serve(&[]).env("RABBITMQ_URL", &secure).env("SSL_CERT_FILE", &authority));
    let line = lines.next().unwrap();
    assert!(line.contains(&format!("amqps://localhost:{port}/{vhost}")), "{line}");
    assert!(!line.contains("cret"), "{line}");
    let ready = ask(&address, "GET", "/ready", "");
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    // What it publishes is in that vhost, and nowhere else.
    let here = connect(&format!("amqp://{user}:s%40cret%2F1%25@{plain}/{place}")).await.unwrap();
    let queue = unique("q");
    here.declare_queue(QueueSpec::durable(queue.clone())).await.unwrap();
    let body = format!(r#"{{"exchange":"","routingKey":"{queue}","body":"hello"}}"#);
    let answer = ask(&address, "POST", "/api/v1/publish", &body);
    assert!(answer.contains(r#"{"routed":true}"#), "{answer}");
    here.get(&queue).await.unwrap().unwrap().ack().await.unwrap();
    let elsewhere = connect(&url).await.unwrap();
    assert!(elsewhere.queue(&queue).await.is_err());
    drop(program);

    let folder = tempfile::tempdir().unwrap();
    let other = other_authority(folder.path());
    // Its name is not in the certificate, or its authority is not the one.
    let elsewhere = secure.replace("localhost", "127.0.0.1");
    for (url, trusted) in [(&secure, &other), (&elsewhere, &PathBuf::from(&authority))] {
        let refused = serve(&[]).env("RABBITMQ_URL", url).env("SSL_CERT_FILE", trusted).output();
        let refused = refused.unwrap();
        let line = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(1), "{line}");
        assert!(line.contains("can't be used: ") && line.contains("certificate"), "{line}");
        assert!(line.lines().count() == 1 && !line.contains("cret"), "{line}");
    }
    control(&["delete_vhost", &vhost]).await;
    control(&["delete_user", &user]).await;
}

/// Asks until the answer is as it should be.
async fn until(address: &str, path: &str, status: u16, text: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ask(address, "GET", path, "");
        if answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(text) {
            return;
        }
        assert!(Instant::now() < deadline, "{path}: {answer}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What those see who ask the program, under each fault of the server.
#[tokio::test(flavor = "multi_thread")]
async fn ready_metrics_and_refusals_say_what_is_wrong_with_the_server() {
    let Some(url) = server() else { return };
    let _alone = alone().await;
    let (_program, address, _lines) = start(&url, &[]);
    let broker = connect(&url).await.unwrap();
    let queue = unique("q");
    broker.declare_queue(QueueSpec::durable(queue.clone())).await.unwrap();
    let body = format!(
        r#"{{"exchange":"","routingKey":"{queue}","body":"hello","properties":{{"persistent":true}}}}"#
    );
    let publish = || ask(&address, "POST", "/api/v1/publish", &body);
    assert!(publish().starts_with("HTTP/1.1 200"));

    control(&["set_disk_free_limit", "1000000GB"]).await;
    // Only what publishes hears of it.
    until(&address, "/ready", 503, "disk").await;
    until(&address, "/metrics", 200, "leveret_broker_blocked 1").await;
    let refused = publish();
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("disk"), "{refused}");
    control(&["set_disk_free_limit", "1MB"]).await;
    let since = Instant::now();
    until(&address, "/ready", 200, "").await;
    println!("disk alarm ended: /ready is 200 after {:.2} s", since.elapsed().as_secs_f64());
    until(&address, "/metrics", 200, "leveret_broker_blocked 0").await;

    control(&["stop_app"]).await;
    until(&address, "/ready", 503, "RabbitMQ can't be reached").await;
    until(&address, "/metrics", 200, "leveret_broker_connected 0").await;
    let refused = publish();
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(ask(&address, "GET", "/health", "").starts_with("HTTP/1.1 200"));
    control(&["start_app"]).await;
    let since = Instant::now();
    until(&address, "/ready", 200, "").await;
    println!("server started: /ready is 200 after {:.2} s", since.elapsed().as_secs_f64());
    assert!(publish().starts_with("HTTP/1.1 200"));
    let broker = connect(&url).await.unwrap();
    for _ in 0..2 {
        broker.get(&queue).await.unwrap().expect("what was confirmed").ack().await.unwrap();
    }
    delete(&broker, &[&queue]).await;
}
