//! Headers of messages, and the arguments of bindings that are compared to them, each as a short text.

use leveret::model::message::{Headers, Value};

pub type Header = (&'static str, i64);

/// What messages carry.
pub const HEADERS: [&[Header]; 5] = [
    &[("color", 1)],
    &[("color", 1), ("x-size", 2)],
    &[("color", 2), ("x-size", 2)],
    &[("x-size", 2)],
    &[("size", 2)],
];

/// `x-match`, if it is there, and the headers that are wanted; one without a value takes any.
pub const ARGUMENTS: [&str; 8] = [
    " color=1",
    "all color=1 x-size=9",
    "all size=2 color=1",
    "all-with-x color=1 x-size=2",
    "any color=2 x-size=2",
    "any-with-x color=2 x-size=2",
    "any color= size=2",
    "any x-size=2",
];

/// Arguments as the engine is given them.
pub fn arguments(text: &str) -> Headers {
    let (mode, wanted) = text.split_once(' ').unwrap();
    let mut headers = Headers::default();
    if !mode.is_empty() {
        headers.set("x-match", mode);
    }
    for (name, value) in wanted.split(' ').map(|wanted| wanted.split_once('=').unwrap()) {
        headers.set(name, value.parse().map_or(Value::Void, Value::Int));
    }
    headers
}

/// Whether a binding with those arguments takes a message with those headers.
pub fn matches(arguments: &str, headers: &[Header]) -> bool {
    let mut words = arguments.split(' ');
    let mode = words.next().unwrap_or_default();
    let is_compared = |word: &&str| mode.ends_with("with-x") || !word.starts_with("x-");
    let is_there = |word: &str| {
        let carried = headers.iter();
        carried
            .into_iter()
            .any(|(name, value)| word == format!("{name}={value}") || word == format!("{name}="))
    };
    let mut hits = words.filter(is_compared).map(is_there);
    if mode.starts_with("any") { hits.any(|hit| hit) } else { hits.all(|hit| hit) }
}
