use bytes::{Buf, BufMut, Bytes};
use proptest::prelude::*;

use super::*;

fn read_all(pieces: &[&[u8]], limits: &Limits) -> (Vec<Request>, Option<ProtocolError>) {
    let mut decoder = Decoder::default();
    let mut requests = Vec::new();
    for piece in pieces {
        let mut piece = *piece;
        // As a socket would: no more than there is room for.
        while !piece.is_empty() {
            let mut room = decoder.room();
            let now = piece.len().min(room.remaining_mut());
            assert!(now > 0);
            room.put_slice(&piece[..now]);
            drop(room);
            piece.advance(now);
            loop {
                match decoder.next(limits) {
                    Ok(Some(request)) => requests.push(request),
                    Ok(None) => break,
                    Err(error) => return (requests, Some(error)),
                }
            }
        }
    }
    (requests, None)
}

fn refusal(stream: &[u8], limits: &Limits) -> String {
    read_all(&[stream], limits).1.map(|error| error.to_string()).unwrap_or_default()
}

fn multibulk(args: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer { out: &mut out, version: Version::Resp2 };
    writer.array(args.len());
    for arg in args {
        writer.bulk(arg.as_ref());
    }
    out
}

#[test]
fn both_forms_are_read_and_empty_ones_are_nothing() {
    let stream = b"*0\r\n*-1\r\n\r\n  \r\n*1\r\n$4\r\nPING\r\nget  'a b'\nPING\r\n*1\r\n$0\r\n\r\n";
    let (requests, error) = read_all(&[stream], &Limits::DEFAULT);
    let expected: [&[&[u8]]; 4] = [&[b"PING"], &[b"get", b"a b"], &[b"PING"], &[b""]];
    assert_eq!(requests, expected);
    assert_eq!(error, None);
}

#[test]
fn what_is_malformed_is_refused_in_the_words_of_redis() {
    let long = b"x".repeat(70_000);
    let count = [&b"*"[..], &b"1".repeat(70_000)].concat();
    let length = [&b"*1\r\n$"[..], &b"1".repeat(70_000)].concat();
    let cases: [(&[u8], &str); 13] = [
        (&long, "too big inline request"),
        (&count, "too big mbulk count string"),
        (&length, "too big bulk count string"),
        (b"*x\r\n", "invalid multibulk length"),
        (b"*01\r\n", "invalid multibulk length"),
        (b"*1048577\r\n", "invalid multibulk length"),
        (b"*99999999999999999999\r\n", "invalid multibulk length"),
        (b"*1\r\nxyz\r\n", "expected '$', got 'x'"),
        (b"*1\r\n\r\n", "expected '$', got '\r'"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$536870913\r\n", "invalid bulk length"),
        (b"set \"a\r\n", "unbalanced quotes in request"),
        (b"*1\r\n$4\r\nPINGPING\r\n", "expected a line break after a bulk"),
    ];
    for (stream, expected) in cases {
        assert_eq!(refusal(stream, &Limits::DEFAULT), format!("Protocol error: {expected}"));
    }
}

#[test]
fn a_stranger_may_send_little() {
    let limits = Limits::UNAUTHENTICATED;
    let count = "Protocol error: unauthenticated multibulk length";
    let length = "Protocol error: unauthenticated bulk length";
    assert_eq!(refusal(b"*10\r\n", &limits), "");
    assert_eq!(refusal(b"*11\r\n", &limits), count);
    assert_eq!(refusal(b"*1\r\n$16384\r\n", &limits), "");
    assert_eq!(refusal(b"*1\r\n$16385\r\n", &limits), length);
    assert_eq!(refusal(b"*1\r\n$536870913\r\n", &limits), "Protocol error: invalid bulk length");
}

#[test]
fn a_request_is_bounded_as_a_whole() {
    let limits = Limits { request_bytes_max: 100_000, ..Limits::DEFAULT };
    let args = [b"x".repeat(40_000), b"x".repeat(40_000), b"x".repeat(40_000)];
    assert_eq!(refusal(&multibulk(&args), &limits), "Protocol error: too big request");
    assert_eq!(refusal(&multibulk(&args[..2]), &limits), "");
}

#[test]
fn a_large_argument_has_its_own_buffer_and_its_length_alone_takes_no_memory() {
    let mut decoder = Decoder::default();
    decoder.feed(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000000\r\n");
    assert_eq!(decoder.next(&Limits::DEFAULT), Ok(None));
    assert!(decoder.room().remaining_mut() <= 1024 * 1024);
    assert!(decoder.held_bytes() < 100);

    let args = [b"SET".to_vec(), b"k".to_vec(), vec![7; 100_000]];
    let (requests, _) = read_all(&[&multibulk(&args)], &Limits::DEFAULT);
    let value = requests.into_iter().next().unwrap().pop().unwrap().to_bytes();
    assert_eq!(value, args[2]);
    assert!(value.is_unique(), "it can be kept as it came");
}

fn request() -> impl Strategy<Value = (Vec<u8>, Vec<Bytes>)> {
    let sizes = prop_oneof![4 => 0..20_usize, 1 => 32_000..34_000_usize];
    let arg = (any::<u8>(), sizes).prop_map(|(byte, size)| vec![byte; size]);
    let multibulk = prop::collection::vec(arg, 1..5)
        .prop_map(|args| (multibulk(&args), args.into_iter().map(Bytes::from).collect()));
    let inline = prop::collection::vec("[a-z]{1,8}", 1..4).prop_map(|words| {
        (
            format!("{}\r\n", words.join(" ")).into_bytes(),
            words.into_iter().map(Bytes::from).collect(),
        )
    });
    prop_oneof![3 => multibulk, 1 => inline]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn requests_are_the_same_however_they_are_split(
        requests in prop::collection::vec(request(), 1..5),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let stream: Vec<u8> = requests.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
        let (read, error) = read_all(&pieces, &Limits::DEFAULT);
        prop_assert_eq!(error, None);
        let expected: Vec<Request> = requests
            .into_iter()
            .map(|(_, args)| args.into_iter().map(Into::into).collect())
            .collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn any_bytes_give_the_same_in_one_piece_and_byte_by_byte(
        stream in prop::collection::vec(prop_oneof![
            any::<u8>(), Just(b'\r'), Just(b'\n'), Just(b'*'), Just(b'$'), Just(b'1'), Just(b'"'),
        ], 0..200),
    ) {
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        prop_assert_eq!(read_all(&[&stream], &Limits::DEFAULT), read_all(&bytes, &Limits::DEFAULT));
    }
}
