//! The program with a RabbitMQ as its broker.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use leveret::model::topology::QueueSpec;

use super::{PATIENCE, connect, delete, server, text, unique};

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
    let mut command = serve(arguments);
    command.env("RABBITMQ_URL", url).stdout(Stdio::piped()).stderr(Stdio::null());
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
