//! From a command's form to one that is asked.
//!
//! A form is words: a plain one stands for itself; `<kind>` is replaced by a value of that kind, and
//! `<kind>...` by one to three of them; `[a b|c]` is one of its branches or nothing; `(a|b)` is one of
//! its branches. Brackets do not nest.

use crate::rng::Rng;
use crate::wire::Request;

pub fn generate(form: &str, rng: &mut Rng) -> Request {
    let mut request = Request::new();
    words(form, rng, &mut request);
    // Now and then the number of arguments is wrong. Without their count, some answer by chance.
    let has_chance = ["HRANDFIELD", "SRANDMEMBER", "SPOP", "ZRANDMEMBER"];
    let may_shorten = !has_chance.iter().any(|name| form.starts_with(name));
    if may_shorten && rng.one_in(60) {
        request.truncate(1 + rng.below(request.len()));
    } else if rng.one_in(80) {
        request.push(value("val", rng));
    }
    request
}

fn words(form: &str, rng: &mut Rng, request: &mut Request) {
    let mut rest = form.trim_start();
    while !rest.is_empty() {
        let (word, after) = match rest.as_bytes()[0] {
            b'[' => bracket(rest, ']'),
            b'(' => bracket(rest, ')'),
            _ => rest.split_once(' ').unwrap_or((rest, "")),
        };
        match word.as_bytes()[0] {
            b'[' if rng.one_in(2) => {}
            b'[' | b'(' => {
                let branches: Vec<&str> = word[1..word.len() - 1].split('|').collect();
                let branch = *rng.pick(&branches);
                words(branch, rng, request);
            }
            b'<' => {
                let times = if word.ends_with("...") { 1 + rng.below(3) } else { 1 };
                let kinds: Vec<&str> = word.trim_end_matches("...").split_inclusive('>').collect();
                for _ in 0..times {
                    for kind in &kinds {
                        request.push(value(kind.trim_matches(['<', '>']), rng));
                    }
                }
            }
            _ => request.push(word.as_bytes().to_vec()),
        }
        rest = after.trim_start();
    }
}

fn bracket(rest: &str, end: char) -> (&str, &str) {
    let end = rest.find(end).expect("a closing bracket") + 1;
    rest.split_at(end)
}

const KEYS: [(&str, [&str; 3]); 7] = [
    ("str", ["s1", "s2", "s3"]),
    ("num", ["n1", "n2", "n3"]),
    ("list", ["l1", "l2", "l3"]),
    ("hash", ["h1", "h2", "h3"]),
    ("set", ["e1", "e2", "e3"]),
    ("zset", ["z1", "z2", "z3"]),
    // Sorted sets whose members share one score: on others Redis leaves the lexical order open.
    ("lexset", ["x1", "x2", "x3"]),
];

pub fn all_keys() -> impl Iterator<Item = &'static str> {
    KEYS.iter().flat_map(|(_, names)| names.iter().copied())
}

const INTEGERS: [&str; 22] = [
    "0",
    "1",
    "-1",
    "2",
    "3",
    "5",
    "-2",
    "-5",
    "10",
    "100",
    "-100",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "4294967296",
    "1.5",
    "abc",
    "",
    " 1",
    "+1",
    "01",
    "1e3",
];
/// Times to live that are refused, or past: what runs out meanwhile would be chance.
const NO_TTLS: [&str; 7] = ["0", "-1", "-100", "9223372036854775807", "1.5", "abc", ""];
const FLOATS: [&str; 23] = [
    "0",
    "1",
    "-1",
    "1.5",
    "2.25",
    "-3.75",
    "0.1",
    "0.2",
    "1e10",
    "1e-5",
    "3.0e2",
    "inf",
    "-inf",
    "+inf",
    "nan",
    "abc",
    "",
    "100",
    "1e300",
    "-1e300",
    "123456789.123",
    "0.30000000000000004",
    "17179869184",
];
const VALUES: [&str; 16] = [
    "a",
    "b",
    "hello",
    "world",
    "",
    "foo bar",
    "10",
    "-7",
    "3.5",
    "\u{0}\u{1}",
    "ohmytext",
    "mynewtext",
    "foobar",
    "9223372036854775806",
    "x\r\ny",
    "caf\u{e9}",
];
const MEMBERS: [&str; 12] = ["a", "b", "c", "d", "e", "aa", "ab", "1", "2", "10", "", "Z"];
const PATTERNS: [&str; 10] = ["*", "s*", "?1", "[hl]*", "[^s]?", "\\*", "l[1-2]", "z", "", "*1*"];
const LEX: [&str; 10] = ["-", "+", "[a", "(a", "[c", "(c", "[aa", "(b", "a", "["];
const SCORES: [&str; 14] =
    ["-inf", "+inf", "(1", "1", "(2.5", "2", "5", "(5", "0", "-1", "(inf", "abc", "(", "10"];

pub fn value(kind: &str, rng: &mut Rng) -> Vec<u8> {
    match kind {
        "val" if rng.one_in(40) => vec![b'x'; 1 + rng.below(300)],
        "val" => one_of(rng, &VALUES),
        "mem" => one_of(rng, &MEMBERS),
        "int" => one_of(rng, &INTEGERS),
        "idx" => (rng.below(13) as i64 - 6).to_string().into_bytes(),
        "cnt" if rng.one_in(8) => one_of(rng, &INTEGERS),
        "cnt" => rng.below(5).to_string().into_bytes(),
        "float" => one_of(rng, &FLOATS),
        "score" if rng.one_in(6) => one_of(rng, &FLOATS),
        "score" => (rng.below(9) as i64 - 3).to_string().into_bytes(),
        "min" | "max" => one_of(rng, &SCORES),
        "lex" => one_of(rng, &LEX),
        "pat" => one_of(rng, &PATTERNS),
        "ttl" | "msttl" if rng.one_in(8) => one_of(rng, &NO_TTLS),
        // GT and LT compare deadlines, and the two servers do not read their clocks at one moment:
        // no two of a sequence are drawn close enough for that to decide.
        "ttl" => (100 * (1 + rng.below(1_000_000))).to_string().into_bytes(),
        "msttl" => (50_000 + 100_000 * (1 + rng.below(1_000_000))).to_string().into_bytes(),
        "at" => one_of(rng, &["2000000000", "3000000000", "1000", "0", "-5", "abc"]),
        "later" => one_of(rng, &["2000000000", "3000000000", "0", "-5", "abc"]),
        "mslater" => one_of(rng, &["2000000000000", "3000000000000", "0", "-5", "abc"]),
        "msat" => one_of(rng, &["2000000000000", "3000000000000", "1000", "0", "-5", "abc"]),
        "bit" => one_of(rng, &["0", "1", "7", "8", "9", "100", "65", "-1", "4294967296", "abc"]),
        "db" => one_of(rng, &["0", "1", "15", "16", "-1", "a"]),
        "type" => one_of(rng, &["u8", "i8", "u4", "i16", "u63", "i64", "u64", "u1", "i65", "x"]),
        "off" => one_of(rng, &["0", "1", "#0", "#1", "#3", "8", "-1", "a"]),
        "any" => {
            let (_, names) = rng.pick(&KEYS[..6]);
            one_of(rng, names)
        }
        kind => {
            // One key in fifteen is of another type.
            if kind != "lexset" && rng.one_in(15) {
                return value("any", rng);
            }
            let found = KEYS.iter().find(|(name, _)| *name == kind);
            let (_, names) = found.unwrap_or_else(|| panic!("no kind of value '{kind}'"));
            one_of(rng, names)
        }
    }
}

fn one_of(rng: &mut Rng, names: &[&str]) -> Vec<u8> {
    rng.pick(names).as_bytes().to_vec()
}
