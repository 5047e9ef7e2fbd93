//! Any MessagePack that a script unpacks: what was read is written to something that reads the same.
#![no_main]

use leveret::cache::script::Data;
use leveret::cache::script::cmsgpack::{decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    while !rest.is_empty() {
        let left = rest.len();
        let Ok(value) = decode(&mut rest) else { return };
        assert!(rest.len() < left, "a value takes a byte at least");
        let mut packed = Vec::new();
        encode(&value, &mut packed);
        let mut again = &packed[..];
        let value = decode(&mut again).expect("what was written is read");
        assert!(again.is_empty());
        // A table's form and a deep one's end are settled by the first writing.
        let mut twice = Vec::new();
        encode(&value, &mut twice);
        assert_eq!(packed, twice, "{value:?}");
        if let Data::Number(number) = value {
            assert!(packed.len() <= 9, "{number}");
        }
    }
});
