//! The broker on a disk that is nearly full, and on one that failed: publishers are held off and told
//! why, consumers go on.

use std::time::Duration;

use leveret::backend::{Alarm, BackendError, Broker, Consumer, Delivery, Embedded};
use leveret::broker::{
    BrokerOptions, ChannelEvent, DeathFilter, Recovery, Redrive, RunState, Selection,
};
use leveret::journal::{Group, Journal, JournalError, JournalOptions};
use leveret::model::clock::SystemClock;
use leveret::model::message::Message;
use leveret::model::names::{ExchangeName, QueueName, RoutingKey};
use leveret::model::topology::QueueSpec;

use crate::disk::{Disk, Random};

const RESERVE_BYTES: u64 = 1_000_000;
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

fn message(key: &str, body: &str) -> Message {
    let (exchange, key) = (ExchangeName::new("").unwrap(), RoutingKey::new(key).unwrap());
    Message::new(exchange, key, body.to_owned()).persistent()
}

fn open(disk: &Disk) -> Embedded {
    let options = JournalOptions { reserve_bytes: RESERVE_BYTES, ..JournalOptions::default() };
    Embedded::open_on(disk.store(), options, SystemClock::shared()).unwrap()
}

/// A queue `q` with these bodies, whose dead letters go to `dead`.
async fn filled(disk: &Disk, bodies: &[&str]) -> Embedded {
    let leveret = open(disk);
    let broker = leveret.broker();
    let dead_letter = (ExchangeName::new("").unwrap(), RoutingKey::new("dead").unwrap());
    let spec = QueueSpec::durable(queue("q")).dead_letter(dead_letter.0, Some(dead_letter.1));
    broker.declare_queue(QueueSpec::durable(queue("dead"))).await.unwrap();
    broker.declare_queue(spec).await.unwrap();
    for body in bodies {
        broker.publish(message("q", body)).await.unwrap().confirmed().await.unwrap();
    }
    leveret
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

async fn next(consumer: &mut Consumer) -> Delivery {
    in_time(consumer.next()).await.expect("a live consumer")
}

fn body(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message().body.to_vec()).unwrap()
}

async fn bodies(broker: &Broker, name: &str) -> Vec<String> {
    let peeked = broker.peek(&queue(name), 100).await.unwrap();
    peeked.iter().map(|it| String::from_utf8(it.message.body.to_vec()).unwrap()).collect()
}

#[tokio::test]
async fn publishers_wait_for_a_disk_that_is_nearly_full_and_consumers_go_on() {
    let disk = Disk::new(Random(1));
    let leveret = filled(&disk, &["got", "consumed", "rejected", "requeued"]).await;
    let (broker, engine) = (leveret.broker(), leveret.broker_engine());
    let mut channel = engine.channel(None);
    assert!(channel.try_next().is_none());
    let mut alarm = leveret.journal().disk_alarm().unwrap();
    disk.state().free_bytes = RESERVE_BYTES - 1;
    in_time(alarm.wait_for(|alarmed| *alarmed)).await.unwrap();

    // Whoever asks is told, and whoever listens.
    let error =
        JournalError::DiskAlarm { free_bytes: RESERVE_BYTES - 1, needed_bytes: RESERVE_BYTES };
    assert_eq!(broker.alarms(), [Alarm::Disk(error.clone())]);
    assert_eq!(broker.ready().await.unwrap_err().to_string(), error.to_string());
    match in_time(channel.next()).await {
        ChannelEvent::Blocked { reason } => assert_eq!(reason, "low on disk"),
        _ => panic!("it is blocked"),
    }
    assert!(channel.try_next().is_none(), "it is told once");
    let refused = broker.try_publish(message("q", "refused")).await.err().unwrap();
    assert!(refused.is_retryable());
    assert!(matches!(&refused, BackendError::Journal(reason) if *reason == error), "{refused}");
    let refused = engine.try_publish(message("q", "refused")).err().unwrap();
    assert_eq!(refused.reply_text(), format!("RESOURCE_ERROR - {error}"));
    let mut waiting = tokio::spawn({
        let broker = broker.clone();
        async move { broker.publish(message("q", "waited")).await.unwrap().confirmed().await }
    });
    let early = tokio::time::timeout(Duration::from_millis(20), &mut waiting).await;
    assert!(early.is_err(), "admitted under the alarm");

    // What is here already moves and goes.
    let got = broker.get(&queue("q")).await.unwrap().unwrap();
    assert_eq!(body(&got), "got");
    Delivery::ack_all(vec![got]).await.unwrap();
    let mut consumer = broker.consume(&queue("q"), 1).await.unwrap();
    let consumed = next(&mut consumer).await;
    assert_eq!(body(&consumed), "consumed");
    Delivery::ack_all(vec![consumed]).await.unwrap();
    next(&mut consumer).await.fail("rejected").await.unwrap();
    next(&mut consumer).await.requeue().await.unwrap();
    drop(consumer);
    in_time(engine.flush()).await.unwrap();
    assert_eq!(bodies(&broker, "q").await, ["requeued"]);
    assert_eq!(bodies(&broker, "dead").await, ["rejected"]);
    assert!(!waiting.is_finished() && channel.try_next().is_none());

    disk.state().free_bytes = 2 * RESERVE_BYTES;
    assert!(matches!(in_time(channel.next()).await, ChannelEvent::Unblocked));
    in_time(waiting).await.unwrap().unwrap();
    assert_eq!(broker.alarms(), []);
    broker.ready().await.unwrap();
    disk.pull_the_plug();
    drop((broker, channel));
    let _ = leveret.close().await;

    // And all of it was on the disk.
    disk.reboot();
    let leveret = open(&disk);
    assert_eq!(bodies(&leveret.broker(), "q").await, ["requeued", "waited"]);
    assert_eq!(bodies(&leveret.broker(), "dead").await, ["rejected"]);
    leveret.close().await.unwrap();
}

#[tokio::test]
async fn a_redrive_waits_for_room_for_a_large_body_and_can_be_cancelled_meanwhile() {
    let disk = Disk::new(Random(1));
    let large = "x".repeat(400_000);
    let bodies_before = ["before", &large, "behind"];
    let leveret = filled(&disk, &bodies_before).await;
    let (broker, engine) = (leveret.broker(), leveret.broker_engine());
    let mut consumer = broker.consume(&queue("q"), 1).await.unwrap();
    for _ in bodies_before {
        next(&mut consumer).await.fail("broken").await.unwrap();
    }
    drop(consumer);
    // No alarm, and no room for the large one beside the reserve.
    let mut alarm = leveret.journal().disk_alarm().unwrap();
    disk.state().free_bytes = RESERVE_BYTES - 1;
    in_time(alarm.wait_for(|alarmed| *alarmed)).await.unwrap();
    disk.state().free_bytes = RESERVE_BYTES + 200_000;
    in_time(alarm.wait_for(|alarmed| !*alarmed)).await.unwrap();

    let waiting = async || {
        let selection = Selection::Matching(DeathFilter::default());
        let redrive = Redrive { selection, per_second: None };
        let (run, work) = engine.start_redrive(&queue("dead"), redrive).unwrap();
        tokio::spawn(work);
        let told = async {
            while run.progress().waits_for.is_none() {
                assert_eq!(run.progress().state, RunState::Running);
                tokio::task::yield_now().await;
            }
        };
        in_time(told).await;
        run
    };
    let run = waiting().await;
    let reason = run.progress().waits_for.unwrap();
    assert!(reason.contains("disk"), "{reason}");
    assert_eq!(run.progress().tally.moved, 1);
    run.cancel();
    assert_eq!(in_time(run.ended()).await.state, RunState::Cancelled);
    assert_eq!(bodies(&broker, "dead").await, bodies_before[1..]);

    let run = waiting().await;
    disk.state().free_bytes = 4 * RESERVE_BYTES;
    let ended = in_time(run.ended()).await;
    assert_eq!((ended.state, ended.tally.moved), (RunState::Done, 2));
    disk.pull_the_plug();
    drop(broker);
    let _ = leveret.close().await;

    disk.reboot();
    let leveret = open(&disk);
    assert_eq!(bodies(&leveret.broker(), "q").await, bodies_before);
    assert_eq!(bodies(&leveret.broker(), "dead").await, [""; 0]);
    leveret.close().await.unwrap();
}

#[tokio::test]
async fn both_alarms_are_told_as_one() {
    let disk = Disk::new(Random(1));
    let leveret = filled(&disk, &["1"]).await;
    let engine = leveret.broker_engine();
    engine.set_memory_limit(1);
    let mut alarm = leveret.journal().disk_alarm().unwrap();
    disk.state().free_bytes = 0;
    in_time(alarm.wait_for(|alarmed| *alarmed)).await.unwrap();
    let mut channel = engine.channel(None);
    match in_time(channel.next()).await {
        ChannelEvent::Blocked { reason } => assert_eq!(reason, "low on memory & disk"),
        _ => panic!("it is blocked"),
    }
    // The end of one is not the end of the other.
    engine.set_memory_limit(1_000_000);
    assert!(channel.try_next().is_none());
    assert_eq!(engine.blocked_reason().as_deref(), Some("low on disk"));
    disk.state().free_bytes = 2 * RESERVE_BYTES;
    assert!(matches!(in_time(channel.next()).await, ChannelEvent::Unblocked));
}

#[tokio::test]
async fn a_disk_that_failed_refuses_publishers_and_consumers_go_on() {
    let disk = Disk::new(Random(1));
    let leveret = filled(&disk, &["got", "consumed", "rejected", "stays"]).await;
    let (broker, engine) = (leveret.broker(), leveret.broker_engine());
    disk.state().until_error = Some(1);
    let unlucky = broker.publish(message("q", "unlucky")).await.unwrap();
    let poisoned = |error: BackendError| match &error {
        BackendError::Journal(JournalError::Poisoned { reason })
        | BackendError::Broker(leveret::broker::BrokerError::Journal(JournalError::Poisoned {
            reason,
        })) => {
            assert!(reason.contains("the disk failed"), "{reason}");
        }
        other => panic!("expected the failure of the disk, got {other}"),
    };
    poisoned(in_time(unlucky.confirmed()).await.unwrap_err());
    poisoned(in_time(broker.publish(message("q", "late"))).await.err().unwrap());
    poisoned(broker.try_publish(message("q", "late")).await.err().unwrap());
    // The health says why; it is no alarm, which would pass.
    let reason = broker.ready().await.unwrap_err();
    assert!(reason.to_string().contains("the disk failed"), "{reason}");
    poisoned(reason);
    assert_eq!(broker.alarms(), []);

    // What is in memory is still handed out and settled, for as long as the process lives.
    let shown = bodies(&broker, "q").await;
    assert_eq!(shown, ["got", "consumed", "rejected", "stays", "unlucky"]);
    let got = broker.get(&queue("q")).await.unwrap().unwrap();
    assert_eq!(body(&got), "got");
    got.ack().await.unwrap();
    let mut consumer = broker.consume(&queue("q"), 1).await.unwrap();
    let consumed = next(&mut consumer).await;
    assert_eq!(body(&consumed), "consumed");
    // Who asks whether that is durable is told that it is not known.
    poisoned(in_time(Delivery::ack_all(vec![consumed])).await.unwrap_err());
    next(&mut consumer).await.fail("rejected").await.unwrap();
    let stays = next(&mut consumer).await;
    assert_eq!(body(&stays), "stays");
    stays.requeue().await.unwrap();
    assert_eq!(bodies(&broker, "dead").await, ["rejected"]);
    drop((broker, consumer));
    poisoned(BackendError::Journal(in_time(engine.flush()).await.unwrap_err()));
    assert!(leveret.close().await.is_err());

    // A restart on a sound disk is whole.
    let leveret = open(&disk);
    let broker = leveret.broker();
    let mut back = bodies(&broker, "q").await;
    // What was not confirmed may be there.
    back.retain(|body| body != "unlucky");
    assert_eq!(back, ["got", "consumed", "rejected", "stays"]);
    broker.publish(message("q", "again")).await.unwrap().confirmed().await.unwrap();
    leveret.close().await.unwrap();
}

/// Where whatever can leaves memory at once.
#[tokio::test]
async fn what_a_failed_disk_did_not_take_stays_in_memory() {
    let disk = Disk::new(Random(3));
    let mut recovery = Recovery::default();
    let options = JournalOptions { reserve_bytes: RESERVE_BYTES, ..JournalOptions::default() };
    let journal = Journal::open_by_tags(disk.store(), options, &mut |entry, kind, content| {
        recovery.accept_content(entry, kind, content)
    });
    let (journal, clock) = (journal.unwrap(), SystemClock::shared());
    let options = BrokerOptions { ready_bytes_max: 0 };
    let broker = leveret::broker::Broker::with_options(journal.clone(), clock, recovery, options);
    for name in ["q", "output"] {
        broker.declare_queue(QueueSpec::durable(queue(name))).unwrap();
    }
    let names: Vec<String> = (0..40).map(|at| format!("number {at}")).collect();
    for name in &names {
        broker.publish(message("q", name)).await.unwrap().confirm.await.unwrap();
    }
    disk.state().until_error = Some(1);
    let unlucky = broker.publish(message("q", "unlucky")).await.unwrap();
    in_time(unlucky.confirm).await.unwrap_err();
    // Each has an output, which nothing writes any more.
    for name in &names {
        let mut delivery = broker.get(&queue("q")).unwrap().expect("what was written");
        let claimed = delivery.claim(vec![message("output", name)]).unwrap();
        drop(claimed.append(Group::new()).1.enqueue());
    }
    broker.page_out();
    for name in &names {
        let delivery = broker.get(&queue("output")).unwrap().expect("what was refused");
        assert_eq!(delivery.message().body, name.as_bytes());
        drop(delivery.ack());
    }
    let unlucky = broker.get(&queue("q")).unwrap().expect("what was not written");
    assert_eq!(&unlucky.message().body[..], b"unlucky");
    assert!(broker.get(&queue("q")).unwrap().is_none());
}
