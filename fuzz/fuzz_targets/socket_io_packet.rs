//! Any messages of a connection: the first line is a text message, each further one a binary message.
#![no_main]

use bytes::Bytes;
use leveret::wire::socket_io::{
    Body, Decoder, Limits, Packet, is_reserved, placeholder, without_lone_surrogates,
};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { attachments_max: 10, attachments_bytes_max: 1000, depth_max: 127 };

fuzz_target!(|data: &[u8]| {
    let mut lines = data.split(|&byte| byte == b'\n');
    let Some(Ok(header)) = lines.next().map(str::from_utf8) else { return };

    let mended = without_lone_surrogates(header);
    assert_eq!(mended.len(), header.len());
    assert_eq!(without_lone_surrogates(&mended), mended);
    let header = &*mended;

    if let Ok(packet) = Packet::parse(header, LIMITS.attachments_max) {
        check(&packet);
    }

    let mut decoder = Decoder::new(LIMITS);
    match decoder.text(header) {
        // Without attachments the rest is out of turn.
        Ok(Some(packet)) => {
            assert_eq!(packet.body.attachments(), 0);
            assert!(decoder.binary(Bytes::new()).is_err());
        }
        Ok(None) => {
            assert!(decoder.text(header).is_err());
            for line in lines {
                match decoder.binary(Bytes::copy_from_slice(line)) {
                    Ok(None) => {}
                    Ok(Some(complete)) => {
                        let packet = complete.packet().expect("a header that was parsed parses");
                        let attachments = complete.attachments().len();
                        assert_eq!(packet.body.attachments(), attachments);
                        for arg in args(&packet.body) {
                            assert!(placeholder(arg).is_none_or(|number| number < attachments));
                        }
                        return;
                    }
                    Err(_) => return,
                }
            }
        }
        Err(_) => {}
    }
});

/// What was read is written to something that reads the same, and can be handed on.
fn check(packet: &Packet<'_>) {
    let mut text = Vec::new();
    packet.encode(&mut text);
    let text = String::from_utf8(text).expect("packets are UTF-8");
    let again = Packet::parse(&text, LIMITS.attachments_max).expect("a written packet parses");
    assert_eq!(format!("{packet:?}"), format!("{again:?}"));
    assert!(!text.contains('\u{1e}'), "would split a polling payload");

    if let Body::Event { name, .. } = &packet.body {
        assert!(!is_reserved(name));
    }
    for arg in args(&packet.body) {
        // A number out of range is for the handler to refuse; half a character and depth never are.
        if let Err(error) = serde_json::from_str::<serde_json::Value>(arg.get()) {
            let error = error.to_string();
            assert!(!error.contains("recursion") && !error.contains("hex escape"), "{error}");
        }
    }
}

fn args<'a, 'json>(body: &'a Body<'json>) -> &'a [&'json serde_json::value::RawValue] {
    match body {
        Body::Event { args, .. } | Body::Ack { args, .. } => args,
        Body::Connect { .. } | Body::Disconnect | Body::ConnectError { .. } => &[],
    }
}
