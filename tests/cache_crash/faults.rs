//! A full disk and a failing one: writes are refused with Redis's word for it, reads go on, and with
//! space or a new start everything that was acknowledged is there.

use leveret::backend;
use leveret::cache::{AppendFsync, Cache, CacheError, Reply};
use leveret::http::Readiness;
use leveret::journal::{JournalError, JournalOptions};
use leveret::model::clock::ManualClock;

use crate::START_MS;
use crate::disk::{Disk, Random};
use crate::op::Text;
use crate::stand::{open, read, run};

const RESERVE_BYTES: u64 = 1_000_000;

fn opened(disk: &Disk, reserve_bytes: u64) -> Cache {
    let options = JournalOptions { reserve_bytes, ..JournalOptions::default() };
    let clock = ManualClock::at(START_MS);
    open(disk, options, &clock, AppendFsync::Always, |_| {}).unwrap().unwrap()
}

fn ask(cache: &Cache, line: &str) -> Reply {
    let request: Vec<Text> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
    run(cache, 0, &[request]).replies.remove(0)
}

/// Runs a line and waits until it is on disk.
async fn kept(cache: &Cache, line: &str) -> Result<Reply, JournalError> {
    let request: Vec<Text> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
    let mut executed = run(cache, 0, &[request]);
    if let Some(commit) = executed.commit {
        commit.await?;
    }
    Ok(executed.replies.remove(0))
}

fn assert_refused(reply: &Reply, reason: &str) {
    let Reply::Error(error @ CacheError::Journal(_)) = reply else { panic!("{reply:?}") };
    let text = error.to_string();
    assert!(text.starts_with("MISCONF Errors writing to the AOF file: "), "{text}");
    assert!(text.contains(reason), "{text}");
}

async fn reasons(cache: &Cache) -> Vec<String> {
    let broker = leveret::broker::Broker::new(
        cache.journal().clone(),
        ManualClock::at(START_MS),
        leveret::broker::Recovery::default(),
    );
    let (broker, cache_port) =
        (backend::Broker::Embedded(broker), backend::Cache::Embedded(cache.clone()));
    Readiness::new(cache.journal().clone(), broker, cache_port).reasons().await
}

const GROWING: [&str; 6] =
    ["SET k v", "APPEND text more", "RPUSH list x", "HSET hash f v", "SADD set m", "ZADD zset 1 m"];

#[tokio::test]
async fn a_full_disk_refuses_what_grows_and_lets_removals_through() {
    let disk = Disk::new(Random(1));
    let cache = opened(&disk, RESERVE_BYTES);
    for line in ["SET text value", "RPUSH list a b", "HSET hash g v", "SET gone v"] {
        kept(&cache, line).await.unwrap();
    }
    let mut alarm = cache.journal().disk_alarm().unwrap();
    disk.state().free_bytes = RESERVE_BYTES - 1;
    alarm.wait_for(|alarmed| *alarmed).await.unwrap();

    let before = read(&cache);
    for line in GROWING {
        assert_refused(&ask(&cache, line), "the disk is nearly full");
    }
    assert_eq!(read(&cache), before, "a refused write changes nothing, and reads go on");
    let found = reasons(&cache).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("journal: the disk is nearly full"), "{found:?}");
    // What frees space is kept like any other write.
    assert_eq!(kept(&cache, "DEL gone").await, Ok(Reply::Integer(1)));
    assert_eq!(kept(&cache, "LPOP list").await, Ok(Reply::Bulk("a".into())));
    assert_eq!(kept(&cache, "PEXPIREAT text 1750000099000").await, Ok(Reply::Integer(1)));

    disk.state().free_bytes = RESERVE_BYTES * 10;
    alarm.wait_for(|alarmed| !*alarmed).await.unwrap();
    assert_eq!(reasons(&cache).await, Vec::<String>::new());
    for line in GROWING {
        let reply = kept(&cache, line).await.unwrap();
        assert!(!matches!(reply, Reply::Error(_)), "{line}: {reply:?}");
    }
    let before = read(&cache);
    disk.pull_the_plug();
    cache.journal().close();
    disk.reboot();
    assert_eq!(read(&opened(&disk, RESERVE_BYTES)), before);
}

#[tokio::test]
async fn a_cache_that_starts_on_a_full_disk_reads_and_refuses() {
    let disk = Disk::new(Random(2));
    let cache = opened(&disk, RESERVE_BYTES);
    kept(&cache, "SET text value").await.unwrap();
    cache.journal().close();
    disk.state().free_bytes = RESERVE_BYTES - 1;
    let cache = opened(&disk, RESERVE_BYTES);
    assert_eq!(ask(&cache, "GET text"), Reply::Bulk("value".into()));
    assert_refused(&ask(&cache, "SET k v"), "the disk is nearly full");
    assert_eq!(kept(&cache, "DEL text").await, Ok(Reply::Integer(1)));
}

#[tokio::test]
async fn an_error_in_a_commit_stops_all_writes_and_a_restart_is_whole() {
    // The error hits each operation of the commit once, and then none.
    let mut intact = 0;
    for operation in 1..24 {
        let disk = Disk::new(Random(operation));
        let cache = opened(&disk, 0);
        kept(&cache, "SET before 1").await.unwrap();
        let old = read(&cache);
        disk.state().until_error = Some(operation);
        let lines: Vec<Vec<Text>> = ["SET before 2", "RPUSH list a b", "SET large *"]
            .iter()
            .map(|line| line.split(' ').map(|word| word.as_bytes().to_vec()).collect())
            .map(|mut request: Vec<Text>| {
                if request[2] == b"*" {
                    request[2] = vec![b'x'; 300_000];
                }
                request
            })
            .collect();
        let outcome = run(&cache, 0, &lines).commit.unwrap().await;
        let new = read(&cache);
        let met = disk.state().until_error.take().is_none();
        match &outcome {
            Err(JournalError::Poisoned { reason }) => {
                assert!(met && reason.contains("the disk failed"), "{reason}");
                for line in ["SET k v", "DEL before", "LPOP list", "PEXPIREAT before 1"] {
                    assert_refused(&ask(&cache, line), "the disk failed");
                }
                assert_eq!(read(&cache), new, "reads go on, and nothing was changed");
                let found = reasons(&cache).await;
                let tells = |reason: &String| {
                    reason.starts_with("journal: ") && reason.contains("the disk failed")
                };
                assert!(found.iter().any(tells), "{found:?}");
            }
            Ok(_) => {
                assert!(!met, "operation {operation} failed and was not noticed");
                intact += 1;
            }
            Err(error) => panic!("{error}"),
        }
        cache.journal().close();
        let cache = opened(&disk, 0);
        let found = read(&cache);
        // A commit that failed may be there, then as a whole.
        assert!(found == new || (outcome.is_err() && found == old), "operation {operation}");
        assert_eq!(kept(&cache, "SET before 3").await, Ok(Reply::Status("OK")));
    }
    assert!((1..20).contains(&intact), "{intact} of 23 rounds met no error");
}
