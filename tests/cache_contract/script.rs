//! Scripts: each is run by the engine and by the real server, on the same keys, and has to give the
//! same answer.

use bytes::Bytes;
use leveret::cache::script::{ScriptCommand, ScriptRequest};
use leveret::cache::{AppendFsync, Cache, Command, Recovery, Reply};
use leveret::journal::Journal;
use leveret::model::clock::ManualClock;

use crate::case::Answer;
use crate::script_table::{COMMANDS, SCRIPTS};
use crate::{START_MS, answer, redis};

pub fn cache() -> Cache {
    let clock = ManualClock::at(START_MS);
    Cache::new(Journal::in_memory(), clock, AppendFsync::EverySec, Recovery::default())
}

/// Runs one request, on scripts or not.
pub async fn ask(cache: &Cache, args: &[Vec<u8>]) -> Answer {
    let args: Vec<Bytes> = args.iter().map(|arg| Bytes::copy_from_slice(arg)).collect();
    let parsed = match ScriptCommand::parse(&args.iter().map(Into::into).collect::<Vec<_>>()) {
        Ok(Some(command)) => return answer(cache.script(ScriptRequest { db: 0, command }).await),
        Ok(None) => Command::parse(&args),
        Err(error) => Err(error),
    };
    let reply = match parsed {
        Ok(command) => {
            let replies = cache.execute(&[command], None).replies;
            replies.into_iter().next().expect("an answer")
        }
        Err(error) => Reply::Error(error),
    };
    answer(reply)
}

fn request(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

/// Both answers to each request in turn.
async fn compare(requests: impl IntoIterator<Item = Vec<Vec<u8>>>) {
    let mut server = redis::Server::start();
    let cache = cache();
    let mut wrong = Vec::new();
    for args in requests {
        let ours = ask(&cache, &args).await;
        let theirs = server.ask(&args);
        if ours != theirs {
            let shown: Vec<_> = args.iter().map(|arg| String::from_utf8_lossy(arg)).collect();
            wrong.push(format!("{}\n  ours:   {ours:?}\n  redis's: {theirs:?}", shown.join(" ")));
        }
    }
    assert!(wrong.is_empty(), "{} wrong answers\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn every_script_answers_as_on_redis() {
    let requests = SCRIPTS.iter().map(|(script, keys, args)| {
        let count = keys.len().to_string();
        let words = [&["EVAL", script, &count], *keys, *args].concat();
        request(&words)
    });
    compare(requests).await;
}

#[tokio::test]
async fn the_commands_on_scripts_answer_as_on_redis() {
    compare(COMMANDS.iter().map(|words| request(words))).await;
}
