//! Any stream of requests: read without a panic, the same in one piece and cut in two, and what was read
//! comes back when it is written.
#![no_main]

use leveret::wire::resp::{Decoder, Limits, ProtocolError, Request, Version, Writer};
use libfuzzer_sys::fuzz_target;

fn read(pieces: &[&[u8]]) -> (Vec<Request>, Option<ProtocolError>) {
    let mut decoder = Decoder::default();
    let mut requests = Vec::new();
    for piece in pieces {
        decoder.feed(piece);
        loop {
            match decoder.next(&Limits::DEFAULT) {
                Ok(Some(request)) => requests.push(request),
                Ok(None) => break,
                Err(error) => return (requests, Some(error)),
            }
        }
    }
    (requests, None)
}

fuzz_target!(|stream: &[u8]| {
    let whole = read(&[stream]);
    let (first, second) = stream.split_at(stream.len() / 2);
    assert_eq!(read(&[first, second]), whole);

    let mut written = Vec::new();
    let mut writer = Writer { out: &mut written, version: Version::Resp2 };
    for request in &whole.0 {
        writer.array(request.len());
        for arg in request {
            writer.bulk(arg);
        }
    }
    assert_eq!(read(&[&written]), (whole.0, None));
});
