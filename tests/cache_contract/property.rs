//! Any commands, in any pipelines, at any pace, with restarts between them: every answer is the
//! model's, and the journal holds exactly what the model holds.

use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use leveret::cache::{Command, TimeToLive};
use proptest::prelude::*;

use crate::case::{Answer, args};
use crate::model::{Model, Value};
use crate::stand::Stand;
use crate::{START_MS, answer};

#[derive(Debug, Clone)]
enum Step {
    /// Lines of one pipeline.
    Pipeline(Vec<String>),
    PushCapped {
        key: String,
        value: String,
        keep: usize,
    },
    RateLimit {
        key: String,
        limit: u32,
        window_ms: u64,
    },
    Wait {
        ms: u64,
    },
    Restart,
}

fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c", "d"]).prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec!["''", "0", "-7", "007", "9223372036854775807"])
            .prop_map(str::to_owned),
        "[a-z]{1,3}",
        (1usize..9_000).prop_map(|count| format!("x*{count}")),
    ]
}

fn line() -> impl Strategy<Value = String> {
    let set_option = prop_oneof![
        4 => Just(String::new()),
        1 => Just(" NX".to_owned()),
        1 => Just(" XX".to_owned()),
        1 => Just(" GET".to_owned()),
        1 => Just(" KEEPTTL".to_owned()),
        1 => Just(" KEEPTTL XX GET".to_owned()),
        3 => (1u32..15).prop_map(|tens| format!(" PX {}", tens * 10)),
    ];
    let condition = prop::sample::select(vec!["", " NX", " XX", " GT", " LT"]);
    let end = prop::sample::select(vec!["L", "R"]);
    prop_oneof![
        2 => key().prop_map(|key| format!("GET {key}")),
        6 => (key(), value(), set_option)
            .prop_map(|(key, value, option)| format!("SET {key} {value}{option}")),
        3 => (key(), key()).prop_map(|(one, other)| format!("DEL {one} {other}")),
        1 => key().prop_map(|key| format!("EXISTS {key}")),
        1 => key().prop_map(|key| format!("TYPE {key}")),
        4 => (key(), -1i64..15, condition)
            .prop_map(|(key, tens, condition)| format!("PEXPIRE {key} {}{condition}", tens * 10)),
        2 => key().prop_map(|key| format!("PTTL {key}")),
        1 => key().prop_map(|key| format!("PERSIST {key}")),
        3 => (key(), -3i64..4).prop_map(|(key, by)| format!("INCRBY {key} {by}")),
        2 => (key(), value()).prop_map(|(key, value)| format!("APPEND {key} {value}")),
        8 => (end.clone(), key(), prop::collection::vec(value(), 1..4))
            .prop_map(|(end, key, values)| format!("{end}PUSH {key} {}", values.join(" "))),
        3 => (end.clone(), key()).prop_map(|(end, key)| format!("{end}POP {key}")),
        2 => (end, key(), 0usize..4).prop_map(|(end, key, count)| format!("{end}POP {key} {count}")),
        2 => (key(), -5i64..5, -5i64..5)
            .prop_map(|(key, start, stop)| format!("LRANGE {key} {start} {stop}")),
        3 => (key(), -5i64..5, -5i64..5)
            .prop_map(|(key, start, stop)| format!("LTRIM {key} {start} {stop}")),
        1 => Just("FLUSHALL".to_owned()),
    ]
}

/// All times are tens of milliseconds, so that they often meet a deadline exactly.
fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => prop::collection::vec(line(), 1..6).prop_map(Step::Pipeline),
        2 => (key(), value(), 1usize..4)
            .prop_map(|(key, value, keep)| Step::PushCapped { key, value, keep }),
        2 => (key(), 0u32..4, 1u64..10)
            .prop_map(|(key, limit, tens)| Step::RateLimit { key, limit, window_ms: tens * 10 }),
        3 => (0u64..12).prop_map(|tens| Step::Wait { ms: tens * 10 }),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_commands_answer_as_the_model_does_also_after_a_restart(
        steps in prop::collection::vec(step(), 1..40)
    ) {
        let mut stand = Stand::new();
        let mut model = Model::at(START_MS);
        for step in &steps {
            play(step, &mut stand, &mut model);
        }
        compare_after_restart(&mut stand, &model);
    }
}

fn play(step: &Step, stand: &mut Stand, model: &mut Model) {
    match step {
        Step::Pipeline(lines) => {
            let commands: Vec<Command> = lines
                .iter()
                .map(|line| {
                    let args: Vec<Bytes> = args(line).into_iter().map(Bytes::from).collect();
                    Command::parse(&args).expect("a good line")
                })
                .collect();
            let replies = stand.cache().execute(&commands, None).replies;
            for (line, reply) in lines.iter().zip(replies) {
                assert_eq!(answer(reply), model.ask(&args(line)), "{line}");
            }
        }
        Step::PushCapped { key, value, keep } => {
            let args = args(&format!("LPUSH {key} {value}"));
            let keep_max = NonZeroUsize::new(*keep).expect("at least one");
            let pushed = stand.cache().push_capped(&args[1], args[2].clone(), keep_max);
            let expected = model.ask(&args);
            match pushed {
                Err(error) => assert_eq!(Answer::Error(error.to_string()), expected),
                Ok(pushed) => {
                    let Answer::Int(length) = expected else { panic!("{expected:?}") };
                    assert_eq!(pushed.length, (length as usize).min(*keep));
                    let stop = (*keep - 1).to_string().into_bytes();
                    model.ask(&[b"LTRIM".to_vec(), args[1].clone(), b"0".to_vec(), stop]);
                    stand.note_position(pushed.commit.position());
                }
            }
        }
        Step::RateLimit { key, limit, window_ms } => {
            let window = Duration::from_millis(*window_ms);
            let got = stand.cache().rate_limit(key, *limit, window).map(|written| written.value);
            let expected = model.rate_limit(key.as_bytes(), *limit, *window_ms);
            assert_eq!(got.map_err(|error| error.to_string()), expected);
        }
        Step::Wait { ms } => {
            stand.wait_ms(*ms);
            model.wait_ms(*ms);
        }
        Step::Restart => compare_after_restart(stand, model),
    }
}

fn compare_after_restart(stand: &mut Stand, model: &Model) {
    let (keys_before, bytes_before) = (stand.cache().key_count(), stand.cache().memory_bytes());
    // What had expired unseen is still in the journal at the first restart, and ended by it.
    assert!(stand.restart() >= *model.facts().start());
    let facts = stand.restart();
    assert!(
        model.facts().contains(&facts),
        "{facts} facts in the journal, not {:?}",
        model.facts()
    );
    let cache = stand.cache();
    assert_eq!(cache.key_count(), model.keys().count());
    if cache.key_count() == keys_before {
        assert_eq!(cache.memory_bytes(), bytes_before);
    }
    for (key, value, ttl_ms) in model.keys() {
        match value {
            Value::String(value) => assert_eq!(cache.get(key).unwrap().unwrap(), *value),
            Value::List(values) => assert_eq!(cache.lrange(key, 0, -1).unwrap(), *values),
        }
        let left = match cache.ttl(key) {
            TimeToLive::Left(left) => Some(left.as_millis() as u64),
            _ => None,
        };
        assert_eq!(left, ttl_ms);
    }
}
