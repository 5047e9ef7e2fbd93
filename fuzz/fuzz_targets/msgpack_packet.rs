//! Any message of a client of `socket.io-msgpack-parser`, and of Socket.IO's Redis adapter, which writes the same
//! packets.
#![no_main]

use leveret::wire::socket_io::{Limits, Packet, ParseError, msgpack};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { attachments_max: 10, attachments_bytes_max: 1000, depth_max: 127 };

fuzz_target!(|data: &[u8]| {
    let _ = msgpack::decode_published(data, LIMITS);

    let Ok((text, attachments)) = msgpack::decode(data, LIMITS) else { return };
    assert!(attachments.len() <= LIMITS.attachments_max);
    let bytes: usize = attachments.iter().map(|attachment| attachment.len()).sum();
    assert!(bytes <= LIMITS.attachments_bytes_max);
    match Packet::parse(&text, attachments.len()) {
        Ok(packet) => assert_eq!(packet.body.attachments(), attachments.len()),
        // Its fields are read one by one, and need not make a packet together.
        Err(error) => {
            assert!(!matches!(error, ParseError::MessagePack(_) | ParseError::Empty), "{error}");
            return;
        }
    }
    // What was read is written to something that reads the same.
    let written = msgpack::encode(&text, &attachments).expect("a packet is written");
    let (again, again_attachments) =
        msgpack::decode(&written, LIMITS).expect("a written packet is read");
    assert_eq!(again_attachments, attachments);
    // A name that is a number is written as a string.
    let reads = |text| format!("{:?}", Packet::parse(text, attachments.len()));
    assert_eq!(reads(&again), reads(&text));
});
