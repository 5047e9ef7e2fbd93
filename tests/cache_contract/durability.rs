//! What is written to the journal, and what a commit says.

use std::num::NonZeroUsize;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use leveret::cache::{AppendFsync, Command, Reply};

use crate::case::args;
use crate::stand::Stand;

fn commands(lines: &[&str]) -> Vec<Command> {
    lines
        .iter()
        .map(|line| {
            let args: Vec<Bytes> = args(line).into_iter().map(Bytes::from).collect();
            Command::parse(&args).expect("a good line")
        })
        .collect()
}

#[tokio::test]
async fn a_capped_push_records_what_it_touches_however_long_the_list_is() {
    let mut stand = Stand::new();
    let keep = NonZeroUsize::new(1_000).unwrap();
    let message = |n: usize| Bytes::from(format!("{n:0100}"));
    for n in 0..1_000 {
        let pushed = stand.cache().push_capped("room", message(n), keep).unwrap();
        stand.note_position(pushed.commit.position());
    }
    stand.cache().journal().flush().await.unwrap();
    let before = stand.cache().journal().stats();
    for n in 1_000..1_010 {
        let pushed = stand.cache().push_capped("room", message(n), keep).unwrap();
        assert_eq!(pushed.length, 1_000);
        stand.note_position(pushed.commit.position());
        pushed.commit.await.unwrap();
    }
    let after = stand.cache().journal().stats();
    let bytes = after.bytes_appended - before.bytes_appended;
    assert!(bytes < 10 * 400, "{bytes} bytes for 10 pushes of 100 bytes");
    assert_eq!(after.live_facts, 1_001);

    assert_eq!(stand.restart(), 1_001);
    let newest = stand.cache().lrange("room", 0, 49).unwrap();
    let expected: Vec<Bytes> = (960..1_010).rev().map(message).collect();
    assert_eq!(newest, expected);
    // Indexes go on where they were.
    stand.cache().push_capped("room", message(1_010), keep).unwrap().commit.await.unwrap();
    stand.restart();
    assert_eq!(stand.cache().lrange("room", 0, 0).unwrap(), [message(1_010)]);
}

#[tokio::test]
async fn a_new_deadline_does_not_rewrite_the_value() {
    let mut stand = Stand::new();
    let value = Bytes::from(vec![b'x'; 1 << 20]);
    stand.cache().set("big", value.clone()).unwrap().durable().await.unwrap();
    let before = stand.cache().journal().stats();
    for seconds in 100..110 {
        let written = stand.cache().expire("big", Duration::from_secs(seconds)).unwrap();
        assert!(written.value);
        stand.cache().journal().flush().await.unwrap();
    }
    let bytes = stand.cache().journal().stats().bytes_appended - before.bytes_appended;
    assert!(bytes < 4_096, "{bytes} bytes for ten deadlines");
    assert_eq!(stand.restart(), 2);
    assert_eq!(stand.cache().get("big").unwrap(), Some(value));
}

/// Bytes of rows that a line makes the journal write.
async fn written(stand: &Stand, line: &str) -> u64 {
    let journal = stand.cache().journal();
    journal.flush().await.unwrap();
    let before = journal.stats().bytes_appended;
    let executed = stand.cache().execute(&commands(&[line]), None);
    assert!(!matches!(executed.replies.as_slice(), [Reply::Error(_)]), "{line}");
    journal.flush().await.unwrap();
    journal.stats().bytes_appended - before
}

#[tokio::test]
async fn a_change_of_a_part_of_a_long_string_records_the_part() {
    const LEN: usize = 1 << 20;
    let mut stand = Stand::new();
    let mut value = vec![b'x'; LEN];
    stand.cache().set("big", value.clone()).unwrap().durable().await.unwrap();
    // The first one puts it into pieces.
    assert!(written(&stand, "SETRANGE big 0 first").await > LEN as u64);
    value[..5].copy_from_slice(b"first");
    for line in [
        "SETBIT big 4194304 1",
        "SETRANGE big 700000 part",
        "APPEND big tail",
        "BITFIELD big SET u8 80 65 SET u8 8000000 66",
        "SETRANGE big 8190 across",
        "SETBIT big 8421376 1",
        "EXPIRE big 100",
        "PERSIST big",
        "RENAME big other",
        "RENAME other big",
    ] {
        let bytes = written(&stand, line).await;
        assert!(bytes < 10_000, "{line}: {bytes} bytes");
    }
    value[524_288] |= 0x80;
    value[700_000..700_004].copy_from_slice(b"part");
    value.extend_from_slice(b"tail");
    (value[10], value[1_000_000]) = (65, 66);
    value[8_190..8_196].copy_from_slice(b"across");
    value.resize(1_052_673, 0);
    value[1_052_672] = 0x80;
    let bytes_before = stand.cache().memory_bytes();
    let pieces = value.len().div_ceil(4_096);
    for _ in 0..2 {
        assert_eq!(stand.restart(), 1 + pieces);
        assert!(stand.cache().get("big").unwrap().unwrap() == value);
        assert_eq!(stand.cache().memory_bytes(), bytes_before);
    }
    // It goes on where it was, and what replaces it leaves none of it.
    assert!(written(&stand, "APPEND big more").await < 5_000);
    value.extend_from_slice(b"more");
    stand.restart();
    assert!(stand.cache().get("big").unwrap().unwrap() == value);
    assert!(written(&stand, "SET big short").await < 5_000);
    assert_eq!(stand.restart(), 1);
    assert_eq!(stand.cache().get("big").unwrap().unwrap(), "short");
}

#[tokio::test]
async fn a_long_string_is_one_thing_to_every_command() {
    let mut stand = Stand::new();
    let value = Bytes::from(vec![b'7'; 20_000]);
    stand.cache().set("long", value.clone()).unwrap().durable().await.unwrap();
    let way = commands(&[
        "SETRANGE long 3 7",
        "STRLEN long",
        "TYPE long",
        "GETRANGE long 19998 -1",
        "INCR long",
        "COPY long copy",
        "LPUSH long x",
        "APPEND gone x*30000",
        "APPEND gone x",
        "DEL gone",
        "MOVE copy 3",
    ]);
    let executed = stand.cache().execute(&way, None);
    let shown: Vec<String> = executed.replies.iter().map(|reply| format!("{reply:?}")).collect();
    assert_eq!(executed.replies[1], Reply::Integer(20_000), "{shown:?}");
    assert!(shown[2].contains("string") && shown[3].contains("77"), "{shown:?}");
    assert!(matches!(executed.replies[4], Reply::Error(_)), "{shown:?}");
    assert_eq!(executed.replies[5], Reply::Integer(1), "{shown:?}");
    assert!(shown[6].contains("WrongType"), "{shown:?}");
    assert_eq!(executed.replies[8], Reply::Integer(30_001), "{shown:?}");
    executed.commit.unwrap().await.unwrap();
    // `long` and its five pieces, and the copy, which is whole.
    assert_eq!(stand.restart(), 1 + 5 + 1);
    assert_eq!(stand.cache().get("long").unwrap(), Some(value));
    stand.cache().execute(&commands(&["FLUSHALL"]), None).commit.unwrap().await.unwrap();
    assert_eq!(stand.restart(), 0);
}

#[tokio::test]
async fn a_pipeline_records_its_outcome_and_not_its_way() {
    let mut stand = Stand::new();
    let way = commands(&[
        "SET a 1",
        "SET a 2 EX 100",
        "INCRBY a 5",
        "PERSIST a",
        "RPUSH l x y z",
        "LPOP l",
        "RPOP l",
        "SET gone 1",
        "DEL gone",
        "LPUSH gone x",
        "LPOP gone",
    ]);
    let executed = stand.cache().execute(&way, None);
    assert_eq!(executed.replies.len(), way.len());
    executed.commit.expect("something changed").await.unwrap();
    assert_eq!(stand.cache().journal().stats().live_facts, 3, "a, l, and its one element");

    let nothing = commands(&["SET n 1", "DEL n", "GET a", "DEL missing", "SET a 9 NX"]);
    assert!(stand.cache().execute(&nothing, None).commit.is_none());
    let reads = commands(&["GET a", "LRANGE l 0 -1", "PTTL a", "KEYS *"]);
    assert!(stand.cache().execute(&reads, None).commit.is_none());

    assert_eq!(stand.restart(), 3);
    assert_eq!(stand.cache().get("a").unwrap().unwrap(), "7");
    assert_eq!(stand.cache().lrange("l", 0, -1).unwrap(), ["y"]);
}

#[tokio::test]
async fn a_failing_command_does_not_stop_its_pipeline() {
    let mut stand = Stand::new();
    let executed = stand.cache().execute(&commands(&["SET a x", "INCR a", "SET b 1"]), None);
    assert!(matches!(executed.replies.as_slice(), [_, Reply::Error(_), Reply::Status("OK")]));
    assert_eq!(stand.restart(), 2);
}

#[tokio::test]
async fn appendfsync_always_settles_when_the_value_is_on_disk() {
    let stand = Stand::with_fsync(AppendFsync::Always);
    let cache = stand.cache();
    let commits = cache.journal().stats().commits;
    cache.settle(cache.set("a", "1").unwrap()).await.unwrap();
    assert!(cache.journal().stats().commits > commits);
    // Something that changed nothing waits for nothing.
    assert!(!cache.settle(cache.del("missing").unwrap()).await.unwrap());
}

/// A value that comes and goes before anything is written leaves no trace; what ended the one before
/// it is written, and until then both can come back.
#[tokio::test]
async fn what_came_and_went_is_durable_once_what_it_replaced_is_gone() {
    let stand = Stand::new();
    let cache = stand.cache();
    cache.set("k", "old").unwrap().durable().await.unwrap();
    let _ = cache.del("k").unwrap();
    let mut new = Box::pin(cache.set("k", "new").unwrap().durable());
    let mut gone = Box::pin(cache.del("k").unwrap().durable());
    let mut context = Context::from_waker(Waker::noop());
    assert!(new.as_mut().poll(&mut context).is_pending());
    assert!(gone.as_mut().poll(&mut context).is_pending());
    cache.journal().flush().await.unwrap();
    new.await.unwrap();
    assert!(gone.await.unwrap());
}

#[test]
fn ten_thousand_writes_of_one_key_leave_one_fact() {
    let mut stand = Stand::new();
    for n in 0..10_000_u32 {
        let ttl = Duration::from_secs(300);
        let _ = stand.cache().set_ex("presence:alice", n.to_string(), ttl).unwrap();
    }
    assert_eq!(stand.restart(), 2, "a value and its deadline");
    assert_eq!(stand.cache().get("presence:alice").unwrap().unwrap(), "9999");
}

#[test]
fn json_goes_in_and_comes_out() {
    let stand = Stand::new();
    let _ = stand.cache().set_json("order", &("o-1", 3), Some(Duration::from_secs(1))).unwrap();
    assert_eq!(stand.cache().get_json("order").unwrap(), Some(("o-1".to_owned(), 3)));
    assert_eq!(stand.cache().get_json::<u32>("missing").unwrap(), None);
    assert!(stand.cache().get_json::<u32>("order").is_err());
    stand.wait_ms(1_000);
    assert_eq!(stand.cache().get_json::<u32>("order").unwrap(), None);
}
