//! Any body of a polling request: read without a panic, and what was read comes back the same.
#![no_main]

use leveret::wire::engine_io::{self, Packet, Payload};
use libfuzzer_sys::fuzz_target;

const BYTES_MAX: usize = 1_000_000;

fuzz_target!(|body: &[u8]| {
    let Ok(packets) = engine_io::packets(body, BYTES_MAX) else { return };
    let mut read = Vec::new();
    for packet in packets {
        match packet {
            Ok(packet) => read.push(packet),
            Err(_) => break,
        }
    }

    let mut payload = Payload::new(usize::MAX);
    for packet in &read {
        let fits = if let Packet::Binary(message) = packet {
            payload.push_binary(message)
        } else {
            let mut text = Vec::new();
            packet.encode(&mut text);
            payload.push_text(&text)
        };
        assert!(fits);
    }
    if read.is_empty() {
        return;
    }
    let payload = payload.into_bytes();
    let again: Result<Vec<_>, _> =
        engine_io::packets(&payload, usize::MAX).expect("written as UTF-8").collect();
    assert_eq!(again.expect("written packets parse"), read);
});
