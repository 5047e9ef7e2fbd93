//! Any JSON that a script decodes: what was read is written to something that reads the same.
#![no_main]

use leveret::cache::script::cjson::{Config, InvalidNumbers, decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let config = Config { encode_invalid: InvalidNumbers::Null, ..Config::default() };
    let strict = Config { decode_invalid: false, ..Config::default() };
    let Ok(value) = decode(data, &config) else {
        assert!(decode(data, &strict).is_err(), "what is refused is refused by the stricter too");
        return;
    };
    let mut text = Vec::new();
    encode(&value, &config, &mut text).expect("what was read is written");
    let value = decode(&text, &strict).expect("what was written is JSON");
    let mut twice = Vec::new();
    encode(&value, &config, &mut twice).expect("what was read is written");
    assert_eq!(text, twice, "{value:?}");
});
