//! What a script may do to others, and they to it.

use std::time::Duration;

use bytes::Bytes;

use super::{ScriptCommand, ScriptName, ScriptRequest, Step};
use crate::cache::{AppendFsync, Cache, CacheError, Command, Recovery, Reply};
use crate::journal::{FolderStore, Journal, JournalOptions};
use crate::model::clock::{ManualClock, SystemClock};

fn cache() -> Cache {
    let clock = SystemClock::shared();
    Cache::new(Journal::in_memory(), clock, AppendFsync::EverySec, Recovery::default())
}

fn start(cache: &Cache, script: &'static str) -> tokio::task::JoinHandle<Reply> {
    let cache = cache.clone();
    tokio::spawn(async move { cache.eval(script, [], []).await })
}

/// Waits until a script has its turn.
async fn until_running(cache: &Cache) {
    while cache.try_turn().is_some() {
        tokio::task::yield_now().await;
    }
}

async fn kill(cache: &Cache) -> Reply {
    cache.script(ScriptRequest { db: 0, command: ScriptCommand::Kill }).await
}

async fn killed(cache: &Cache) {
    // It is killed once it has begun.
    while kill(cache).await == Reply::Error(CacheError::NotBusy) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_script_over_its_time_makes_others_busy_and_can_be_killed() {
    let cache = cache();
    cache.set_script_time_limit(Duration::from_millis(20));
    for endless in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "coroutine.wrap(function() while true do pcall(redis.call, 'ping') end end)()",
        "while true do redis.call('ping') end",
    ] {
        let script = start(&cache, endless);
        until_running(&cache).await;
        assert_eq!(cache.turn().await.err(), Some(CacheError::Busy));
        assert_eq!(cache.eval("return 1", [], []).await, Reply::Error(CacheError::Busy));
        // Methods do not wait.
        cache.set("k", "v").unwrap();
        assert_eq!(kill(&cache).await, Reply::OK);
        let Reply::ErrorText(error) = script.await.unwrap() else { panic!("no error") };
        assert!(error.starts_with(b"ERR Script killed by user with SCRIPT KILL..."), "{error:?}");
        assert!(cache.turn().await.is_ok());
        assert_eq!(kill(&cache).await, Reply::Error(CacheError::NotBusy));
    }
}

#[tokio::test]
async fn a_script_that_has_written_can_not_be_killed() {
    let cache = cache();
    let script = "
        redis.call('set', 'begun', 1)
        while redis.call('exists', 'go') == 0 do end
        return redis.call('get', 'begun')
    ";
    let script = start(&cache, script);
    while cache.get("begun").unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(kill(&cache).await, Reply::Error(CacheError::Unkillable));
    cache.set("go", "1").unwrap();
    assert_eq!(script.await.unwrap(), Reply::Bulk(Bytes::from_static(b"1")));
}

#[tokio::test]
async fn clients_wait_for_a_script_and_scripts_for_clients() {
    let cache = cache();
    let turn = cache.try_turn().unwrap();
    let script = start(&cache, "redis.call('set', 'k', 1) return 1");
    until_running(&cache).await;
    assert_eq!(cache.get("k").unwrap(), None);
    drop(turn);
    assert_eq!(script.await.unwrap(), Reply::Integer(1));
    let script = start(&cache, "while redis.call('exists', 'go') == 0 do end");
    until_running(&cache).await;
    let waiting = cache.turn();
    tokio::pin!(waiting);
    let early = tokio::time::timeout(Duration::from_millis(20), &mut waiting).await;
    assert!(early.is_err());
    cache.set("go", "1").unwrap();
    assert!(waiting.await.is_ok());
    assert_eq!(script.await.unwrap(), Reply::Nil);
}

#[tokio::test]
async fn a_script_that_wants_too_much_memory_gets_an_error_and_the_next_one_runs() {
    let cache = cache();
    for greedy in [
        "local t = {} while true do t[#t + 1] = string.rep('x', 1000000) .. #t end",
        "local s = 'x' while true do s = s .. s end",
        "local t = {1} for i = 1, 100 do t = {t, t} end return t",
        // A byte of text, or two, for a value of many.
        "return #cmsgpack.unpack('\\221\\0\\80\\0\\0' .. string.rep('\\1', 5242880))",
        "return #cjson.decode('[' .. string.rep('0,', 5000000) .. '0]')",
        // A byte of six.
        "return #cjson.encode(string.rep('\\1', 48000000))",
        "cjson.encode_sparse_array(false, 0) local t = {} \
         for i = 1, 100 do t[i] = {[16777216] = 1} end return #cjson.encode(t)",
    ] {
        let Reply::ErrorText(error) = cache.eval(greedy, [], []).await else { panic!("{greedy}") };
        let error = String::from_utf8_lossy(&error);
        assert!(error.contains("not enough memory"), "{greedy}: {error}");
        assert_eq!(cache.eval("return #{1, 2}", [], []).await, Reply::Integer(2));
    }
}

#[tokio::test]
async fn more_results_than_lua_takes_are_an_error() {
    let cache = cache();
    for (script, wrong) in [
        (
            "return select('#', cmsgpack.unpack(string.rep('\\1', N)))",
            "too many return values at once",
        ),
        (
            "return select('#', struct.unpack(string.rep('b', N), string.rep('b', N))) - 1",
            "too many results",
        ),
    ] {
        let fits = script.replace('N', "7900");
        assert_eq!(cache.eval(fits, [], []).await, Reply::Integer(7_900));
        let Reply::ErrorText(error) = cache.eval(script.replace('N', "8100"), [], []).await else {
            panic!("no error")
        };
        assert!(String::from_utf8_lossy(&error).contains(wrong), "{error:?}");
    }
}

#[tokio::test]
async fn deep_nesting_is_an_error() {
    let cache = cache();
    let nested = "local t = {} t[1] = t return t";
    let mut reply = cache.eval(nested, [], []).await;
    while let Reply::Array(replies) = reply {
        reply = replies.into_iter().next().unwrap();
    }
    assert_eq!(reply, Reply::Error(CacheError::LuaStack));
    let Reply::ErrorText(error) =
        cache.eval("local function f() return 1 + f() end return f()", [], []).await
    else {
        panic!("no error")
    };
    assert!(String::from_utf8_lossy(&error).contains("stack overflow"), "{error:?}");
}

#[tokio::test]
async fn what_a_script_changed_is_one_group_also_when_others_write_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let store = Box::new(FolderStore::open(folder.path()).unwrap());
        let mut recovery = Recovery::default();
        let mut accept = |entry, kind, payload: &[u8]| recovery.accept(entry, kind, payload);
        let journal = Journal::open(store, JournalOptions::default(), &mut accept).unwrap();
        Cache::new(journal, ManualClock::at(1_000), AppendFsync::Always, recovery)
    };
    let cache = open();
    cache.set("k", "old").unwrap();
    cache.rpush("l", "0").unwrap();
    let script = "
        redis.call('set', 'k', 'script')
        redis.call('rpush', 'l', '1')
        redis.call('set', 'begun', 1)
        while redis.call('exists', 'go') == 0 do end
        redis.call('rpush', 'l', '3')
        redis.call('del', 'begun')
        redis.call('expire', 'k', 100)
    ";
    let script = start(&cache, script);
    while cache.get("begun").unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    cache.rpush("l", "2").unwrap();
    cache.set("k", "other").unwrap();
    cache.set("go", "1").unwrap();
    assert_eq!(script.await.unwrap(), Reply::Nil);
    let state = |cache: &Cache| {
        (
            cache.get("k").unwrap(),
            cache.get("begun").unwrap(),
            cache.lrange("l", 0, -1).unwrap(),
            cache.ttl("k"),
        )
    };
    let before = state(&cache);
    assert_eq!(before.0.as_deref(), Some(&b"other"[..]));
    assert_eq!(before.2.len(), 4);
    cache.journal().close();
    drop(cache);
    assert_eq!(state(&open()), before);
}

#[tokio::test]
async fn a_transaction_may_have_scripts_in_it() {
    let cache = cache();
    let command = |line: &str| {
        let args: Vec<Bytes> =
            line.split(' ').map(|arg| Bytes::copy_from_slice(arg.as_bytes())).collect();
        Step::Command(Command::parse(&args).unwrap())
    };
    let script = Step::Script(ScriptCommand::Eval {
        script: ScriptName::Text("return redis.call('incrby', KEYS[1], ARGV[1])".into()),
        keys: vec!["n".into()],
        args: vec!["5".into()],
        read_only: false,
    });
    let steps =
        vec![(3, command("SET n 1")), (3, script), (3, command("GET n")), (0, command("GET n"))];
    let replies = cache.exclusive().await.unwrap().run(steps).await.unwrap().replies;
    let six = Reply::Bulk(Bytes::from_static(b"6"));
    assert_eq!(replies, [Reply::OK, Reply::Integer(6), six, Reply::Nil]);
}

#[tokio::test]
async fn a_script_that_nobody_waits_for_runs_to_its_end() {
    let cache = cache();
    let script =
        start(&cache, "while redis.call('exists', 'go') == 0 do end redis.call('set', 'k', 1)");
    until_running(&cache).await;
    // Its turn is the thread's by now, or it has not begun.
    tokio::task::yield_now().await;
    script.abort();
    cache.set("go", "1").unwrap();
    let _turn = cache.turn().await.unwrap();
}

#[tokio::test]
async fn a_killed_script_is_over_for_good() {
    let cache = cache();
    let script = start(&cache, "while true do pcall(redis.call, 'get', 'k') end");
    killed(&cache).await;
    assert!(matches!(script.await.unwrap(), Reply::ErrorText(_)));
    assert_eq!(cache.eval("return 1", [], []).await, Reply::Integer(1));
}
