//! A message that kills its worker's process each time is dead-lettered at its delivery limit, on a broker on
//! which nothing else happens.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use leveret::backend::Embedded;
use leveret::model::message::{Message, Value};
use leveret::model::topology::QueueSpec;

use super::fixture::{key, name, queue_name};

/// The folder that the process of a worker opens.
const FOLDER: &str = "LEVERET_TEST_KILLED";
const TEST: &str = "killed::a_message_that_kills_its_process_soon_reaches_its_delivery_limit";
const GOT: &str = "the worker has it: ";
const EMPTY: &str = "the queue is empty";
/// How long the message takes to kill, well before a mark that waits for another commit is written.
const DEADLY: Duration = Duration::from_millis(50);
/// A kill that came before the disk had the mark is not counted.
const KILLS_MAX: usize = 40;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_kills_its_process_soon_reaches_its_delivery_limit() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return work(Path::new(&folder)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let leveret = Embedded::open(folder.path()).unwrap();
    let broker = leveret.broker();
    broker.declare_queue(QueueSpec::durable(queue_name("dead"))).await.unwrap();
    let spec = QueueSpec::quorum(queue_name("q")).delivery_limit(1);
    broker.declare_queue(spec.dead_letter(name(""), Some(key("dead")))).await.unwrap();
    let poison = Message::new(name(""), key("q"), "poison").persistent();
    broker.publish(poison).await.unwrap().confirmed().await.unwrap();
    leveret.close().await.unwrap();

    let mut counts = Vec::new();
    while let Some(count) = tokio::task::block_in_place(|| kill_a_worker(folder.path())) {
        counts.push(count);
        assert!(counts.len() < KILLS_MAX, "it is delivered for ever: {counts:?}");
    }
    counts.dedup();
    assert_eq!(counts, [0, 1]);
    let leveret = Embedded::open(folder.path()).unwrap();
    let dead = leveret.broker().get(&queue_name("dead")).await.unwrap().expect("the dead letter");
    let reason = dead.message().properties.headers.get("x-first-death-reason");
    assert_eq!(reason, Some(&Value::from("delivery_limit")));
    dead.ack().await.unwrap();
    leveret.close().await.unwrap();
}

/// A worker's process: takes the message and says so; its end comes from outside.
async fn work(folder: &Path) {
    let leveret = Embedded::open(folder).unwrap();
    match leveret.broker().get(&queue_name("q")).await.unwrap() {
        Some(delivery) => {
            println!("\n{GOT}{}", delivery.delivery_count());
            std::future::pending::<()>().await;
        }
        None => println!("\n{EMPTY}"),
    }
    leveret.close().await.unwrap();
}

/// The message's delivery count in the worker that it killed; `None`: there was none any more.
fn kill_a_worker(folder: &Path) -> Option<u32> {
    let mut worker = Worker(
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", TEST])
            .env(FOLDER, folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let said = BufReader::new(worker.0.stdout.take().unwrap());
    for line in said.lines() {
        let line = line.unwrap();
        if let Some(count) = line.strip_prefix(GOT) {
            std::thread::sleep(DEADLY);
            return Some(count.parse().unwrap());
        }
        if line == EMPTY {
            assert!(worker.0.wait().unwrap().success());
            return None;
        }
    }
    panic!("the worker ended without a word");
}

/// Killed when it is dropped.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
