//! Any commands, played on a cache that restarts now and then, and on the real server.

use std::cell::RefCell;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::case::{Answer, args};
use crate::stand::Stand;
use crate::{embedded, redis};

/// Every line is answered alike; so are those of `inspection`, one a key, after each restart. The
/// journal holds a fact for each key and as many as `parts` says of the length of its answer.
pub fn play(line: impl Strategy<Value = String>, inspection: &[String], parts: fn(usize) -> usize) {
    let server = RefCell::new(redis::Server::start());
    let ask = |line: &str| server.borrow_mut().ask(&args(line));
    let config =
        ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() };
    let step = prop_oneof![60 => line.prop_map(Some), 1 => Just(None)];
    let result = TestRunner::new(config).run(&prop::collection::vec(step, 1..160), |steps| {
        let mut stand = Stand::new();
        ask("FLUSHALL");
        let compare = |stand: &Stand, line: &str| {
            let expected = ask(line);
            assert_eq!(embedded(stand.cache(), line).shown(), expected.shown(), "{line}");
            expected
        };
        for step in steps.iter().chain([&None]) {
            if let Some(line) = step {
                compare(&stand, line);
                continue;
            }
            let bytes = stand.cache().memory_bytes();
            let recovered = stand.restart();
            assert_eq!(stand.cache().memory_bytes(), bytes);
            let facts = inspection.iter().map(|line| match compare(&stand, line) {
                Answer::Array(answers) if answers.is_empty() => Some(0),
                Answer::Array(answers) => Some(1 + parts(answers.len())),
                _ => None,
            });
            // There is no telling how many parts a key of another type has.
            if let Some(facts) = facts.sum::<Option<usize>>() {
                assert_eq!(recovered, facts, "facts in the journal");
            }
        }
        Ok(())
    });
    result.unwrap();
}
