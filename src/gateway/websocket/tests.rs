use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::coop::unconstrained;

use super::*;

const LIMITS: Limits = Limits { message_bytes_max: 100_000 };
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// A client's frame: the first byte as given, a mask, the length as short as it goes.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..=125 => bytes.push(MASKED | short as u8),
        medium @ 126..=0xFFFF => {
            bytes.push(MASKED | 126);
            bytes.extend((medium as u16).to_be_bytes());
        }
        long => {
            bytes.push(MASKED | 127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// Everything that a reader gives for these bytes, up to its error.
async fn read(bytes: &[u8]) -> (Vec<Incoming>, WebSocketError) {
    let (client, server) = duplex(64 * 1024);
    let (_client_read, mut client) = tokio::io::split(client);
    let (mut reader, writer) = split(server, LIMITS);
    let bytes = bytes.to_vec();
    let sender = tokio::spawn(async move {
        // The reader may refuse, and go away, before all is written.
        let _ = client.write_all(&bytes).await;
        let _ = client.shutdown().await;
    });
    let mut incoming = Vec::new();
    let error = loop {
        match reader.next().await {
            Ok(message) => incoming.push(message),
            Err(error) => break error,
        }
    };
    drop(reader);
    drop(writer);
    sender.await.unwrap();
    (incoming, error)
}

async fn refused(bytes: &[u8]) -> WebSocketError {
    let (incoming, error) = read(bytes).await;
    assert_eq!(incoming, [], "refused with {error}");
    error
}

fn text(text: &str) -> Incoming {
    Incoming::Text(text.to_owned())
}

#[tokio::test]
async fn messages_of_every_length_form_are_read_whole() {
    let long = "x".repeat(70_000);
    let bytes = [
        frame(FIN | TEXT, "häß€".as_bytes()),
        frame(FIN | TEXT, &[b'm'; 300]),
        frame(FIN | BINARY, &[0, 255]),
        frame(FIN | TEXT, long.as_bytes()),
        frame(FIN | TEXT, b""),
        frame(FIN | PING, b"p"),
        frame(FIN | PONG, b""),
    ]
    .concat();
    let (incoming, end) = read(&bytes).await;
    let expected = [
        text("häß€"),
        text(&"m".repeat(300)),
        Incoming::Binary(Bytes::from_static(&[0, 255])),
        text(&long),
        text(""),
        Incoming::Ping(Bytes::from_static(b"p")),
        Incoming::Pong(Bytes::new()),
    ];
    assert_eq!(incoming, expected);
    assert!(matches!(end, WebSocketError::Eof));
    assert_eq!(end.close_code(), None);
}

#[tokio::test]
async fn a_frame_that_comes_byte_by_byte_is_read() {
    let (mut client, server) = duplex(1);
    let (mut reader, _writer) = split(server, LIMITS);
    let bytes = [frame(FIN | TEXT, b"slow"), frame(FIN | TEXT, &[b's'; 500])].concat();
    let sender = tokio::spawn(async move { client.write_all(&bytes).await });
    assert_eq!(reader.next().await.unwrap(), text("slow"));
    assert_eq!(reader.next().await.unwrap(), text(&"s".repeat(500)));
    sender.await.unwrap().unwrap();
}

#[tokio::test]
async fn fragments_are_collected_around_control_frames() {
    let euro = "€".as_bytes();
    let bytes = [
        frame(TEXT, &euro[..1]),
        frame(FIN | PING, b"between"),
        frame(CONTINUATION, &euro[1..2]),
        frame(CONTINUATION, b""),
        frame(FIN | CONTINUATION, &euro[2..]),
        frame(BINARY, &[0xff]),
        frame(FIN | CONTINUATION, &[0xfe]),
    ]
    .concat();
    let (incoming, _) = read(&bytes).await;
    let between = Incoming::Ping(Bytes::from_static(b"between"));
    let binary = Incoming::Binary(Bytes::from_static(&[0xff, 0xfe]));
    assert_eq!(incoming, [between, text("€"), binary]);
}

#[tokio::test]
async fn close_frames_give_code_and_reason() {
    let (incoming, _) = read(&frame(FIN | CLOSE, b"")).await;
    assert_eq!(incoming, [Incoming::Close { code: None, reason: String::new() }]);
    for code in [1000_u16, 1001, 1003, 1007, 1014, 3000, 4999] {
        let payload = [&code.to_be_bytes()[..], "grün".as_bytes()].concat();
        let (incoming, _) = read(&frame(FIN | CLOSE, &payload)).await;
        assert_eq!(incoming, [Incoming::Close { code: Some(code), reason: "grün".to_owned() }]);
    }
}

#[tokio::test]
async fn bad_close_frames_are_refused() {
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2999, 5000, 65535] {
        let error = refused(&frame(FIN | CLOSE, &code.to_be_bytes())).await;
        assert!(matches!(error, WebSocketError::CloseCode), "{code}: {error}");
    }
    assert_eq!(refused(&frame(FIN | CLOSE, &[3])).await.close_code(), Some(1002));
    assert_eq!(refused(&frame(FIN | CLOSE, b"\x03\xe8\xff")).await.close_code(), Some(1007));
    let long = [&1000_u16.to_be_bytes()[..], &[b'r'; 124]].concat();
    let error = refused(&frame(FIN | CLOSE, &long)).await;
    assert!(matches!(error, WebSocketError::ControlTooLarge));
}

#[tokio::test]
async fn unmasked_frames_are_refused() {
    let error = refused(b"\x81\x02hi").await;
    assert!(matches!(error, WebSocketError::Unmasked));
    assert_eq!(error.close_code(), Some(1002));
    assert!(matches!(refused(b"\x89\x00").await, WebSocketError::Unmasked));
}

#[tokio::test]
async fn reserved_bits_and_opcodes_are_refused() {
    for bit in [0x40, 0x20, 0x10] {
        let error = refused(&frame(FIN | bit | TEXT, b"x")).await;
        assert!(matches!(error, WebSocketError::ReservedBits), "{error}");
    }
    for opcode in [0x3, 0x7, 0xB, 0xF] {
        let error = refused(&frame(FIN | opcode, b"x")).await;
        assert!(matches!(error, WebSocketError::Opcode), "{error}");
    }
}

#[tokio::test]
async fn control_frames_are_short_and_whole() {
    for opcode in [CLOSE, PING, PONG] {
        let error = refused(&frame(opcode, b"")).await;
        assert!(matches!(error, WebSocketError::ControlFragmented), "{error}");
        let error = refused(&frame(FIN | opcode, &[b'x'; 126])).await;
        assert!(matches!(error, WebSocketError::ControlTooLarge), "{error}");
    }
}

#[tokio::test]
async fn messages_are_not_interleaved() {
    let bytes = [frame(TEXT, b"a"), frame(FIN | TEXT, b"b")].concat();
    assert!(matches!(refused(&bytes).await, WebSocketError::Interleaved));
    let error = refused(&frame(FIN | CONTINUATION, b"a")).await;
    assert!(matches!(error, WebSocketError::Continuation));
}

#[tokio::test]
async fn text_that_is_not_utf8_is_refused_at_once() {
    let error = refused(&frame(FIN | TEXT, b"a\xffb")).await;
    assert!(matches!(error, WebSocketError::Utf8));
    assert_eq!(error.close_code(), Some(1007));
    // The message does not end, so only the fragment itself can have been refused.
    assert!(matches!(refused(&frame(TEXT, b"a\xffb")).await, WebSocketError::Utf8));
    let cut = [frame(TEXT, b"\xe2\x82"), frame(FIN | CONTINUATION, b"")].concat();
    assert!(matches!(refused(&cut).await, WebSocketError::Utf8));
}

#[tokio::test]
async fn a_message_is_bounded_in_all_its_fragments_together() {
    let bytes_max = LIMITS.message_bytes_max;
    let (incoming, _) = read(&frame(FIN | BINARY, &vec![0; bytes_max])).await;
    assert_eq!(incoming, [Incoming::Binary(vec![0; bytes_max].into())]);
    let fits = [frame(BINARY, &vec![0; bytes_max - 50]), frame(FIN | CONTINUATION, &[0; 50])];
    assert_eq!(read(&fits.concat()).await.0, incoming);

    let error = refused(&frame(FIN | BINARY, &vec![0; bytes_max + 1])).await;
    assert_eq!(error.close_code(), Some(1009));
    let beyond = [frame(BINARY, &vec![0; bytes_max - 50]), frame(FIN | CONTINUATION, &[0; 51])];
    assert_eq!(refused(&beyond.concat()).await.close_code(), Some(1009));
    // Refused by the length that it declares, before it comes.
    let declared = [&[FIN | BINARY, MASKED | 127][..], &u64::MAX.to_be_bytes(), &MASK].concat();
    assert_eq!(refused(&declared).await.close_code(), Some(1009));
}

#[tokio::test]
async fn an_idle_reader_keeps_no_buffer() {
    let (mut client, server) = duplex(256 * 1024);
    let (mut reader, _writer) = split(server, LIMITS);
    client.write_all(&frame(FIN | BINARY, &[0; 90_000])).await.unwrap();
    reader.next().await.unwrap();
    assert!(reader.parser.is_none());

    let two = [frame(FIN | TEXT, b"1"), frame(FIN | TEXT, b"2")].concat();
    client.write_all(&two).await.unwrap();
    assert_eq!(reader.next().await.unwrap(), text("1"));
    assert!(reader.parser.is_some(), "the second message is in its buffer");
    assert_eq!(reader.next().await.unwrap(), text("2"));
    assert!(reader.parser.is_none());
}

#[tokio::test]
async fn a_length_longer_than_needed_loses_nothing() {
    let mut padded = vec![FIN | TEXT, MASKED | 126, 0, 2];
    padded.extend(MASK);
    padded.extend([b'h' ^ MASK[0], b'i' ^ MASK[1]]);
    let (incoming, _) = read(&[padded.clone(), frame(FIN | TEXT, b"x"), padded].concat()).await;
    assert_eq!(incoming, [text("hi"), text("x"), text("hi")]);
}

#[tokio::test]
async fn a_connection_that_ends_inside_a_frame_ends_reading() {
    let whole = frame(FIN | TEXT, b"whole");
    for end in 1..whole.len() {
        assert!(matches!(refused(&whole[..end]).await, WebSocketError::Eof));
    }
}

/// Some bytes at a time, with or without vectored writes.
struct Narrow {
    io: DuplexStream,
    bytes_max: usize,
    vectored: bool,
}

impl AsyncWrite for Narrow {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let bytes = &bytes[..bytes.len().min(self.bytes_max)];
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = slices.iter().flat_map(|slice| slice.iter().copied());
        let bytes: Vec<u8> = all.take(self.bytes_max).collect();
        self.poll_write(cx, &bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.vectored
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn frames_are_written_in_order_whatever_the_stream_takes_at_once() {
    let mut frames: Vec<_> = (0..200).map(|n| Frame::text(format!("{n}").as_bytes())).collect();
    frames.push(Frame::binary(&[7; 70_000]));
    frames.push(Frame::text(b""));
    frames.push(Frame::pong(b"p"));
    let expected: Vec<u8> = frames.iter().flat_map(wire).collect();
    for (bytes_max, vectored) in [(1, true), (3, true), (1000, true), (7, false), (1 << 20, false)]
    {
        let (io, mut client) = duplex(1 << 20);
        let mut writer = Writer::new(Narrow { io, bytes_max, vectored });
        writer.write(&frames).await.unwrap();
        writer.write(&[]).await.unwrap();
        writer.shutdown().await.unwrap();
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        assert!(received == expected, "{bytes_max} bytes at once, vectored: {vectored}");
    }
}

#[tokio::test]
async fn what_a_stream_does_not_take_at_once_is_given_back() {
    let mut frames: Vec<_> = (0..200).map(|n| Frame::text(format!("{n}").as_bytes())).collect();
    frames.push(Frame::text(b""));
    frames.push(Frame::binary(&[7; 7_000]));
    let expected: Vec<u8> = frames.iter().flat_map(wire).collect();
    for bytes_max in [1, 3, 100, 1 << 20] {
        let (io, mut client) = duplex(100);
        let mut writer = Writer::new(Narrow { io, bytes_max, vectored: true });
        let (mut left, mut taken, mut received) = (frames.clone(), 0, Vec::new());
        // Or a task that has done much may find a stream full that is not.
        let mut try_write =
            async |left: &[Frame]| unconstrained(async { writer.try_write(left).unwrap() }).await;
        while let AtOnce::Part { bytes, rest } = try_write(&left).await {
            taken += bytes;
            left = rest.into_vec();
            assert_eq!(taken + left.iter().map(Frame::wire_bytes).sum::<usize>(), expected.len());
            client.read_buf(&mut received).await.unwrap();
        }
        writer.shutdown().await.unwrap();
        client.read_to_end(&mut received).await.unwrap();
        assert!(received == expected, "{bytes_max} bytes at once");
    }
}

#[tokio::test]
async fn several_frames_are_not_tried_one_by_one() {
    let (io, _client) = duplex(100);
    let mut writer = Writer::new(Narrow { io, bytes_max: 100, vectored: false });
    let frames = [Frame::text(b"a"), Frame::text(b"b")];
    let rest = frames.clone().into_iter().collect();
    assert_eq!(writer.try_write(&frames).unwrap(), AtOnce::Part { bytes: 0, rest });
    assert_eq!(writer.try_write(&frames[..1]).unwrap(), AtOnce::All);
}

/// Takes everything, and has it written when it is flushed, as TLS may.
struct Holding {
    io: DuplexStream,
    held: Vec<u8>,
}

impl AsyncWrite for Holding {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.held.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { io, held } = &mut *self;
        while !held.is_empty() {
            let bytes = ready_or_return!(Pin::new(&mut *io).poll_write(cx, held))?;
            held.drain(..bytes);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

#[tokio::test]
async fn a_flush_that_has_to_wait_is_left_to_do() {
    let (io, mut client) = duplex(20);
    let mut writer = Writer::new(Holding { io, held: Vec::new() });
    let frame = Frame::text(&[b'x'; 50]);
    let AtOnce::Part { bytes, rest } = writer.try_write(std::slice::from_ref(&frame)).unwrap()
    else {
        panic!("the stream can't have flushed")
    };
    assert_eq!((bytes, rest.iter().map(Frame::wire_bytes).sum()), (52, 0));
    assert!(!rest.is_empty());
    let mut received = vec![0; 52];
    let (written, read) = tokio::join!(writer.write(&rest), client.read_exact(&mut received));
    written.unwrap();
    read.unwrap();
    assert_eq!(received, wire(&frame));
    // Tried again, what is left is the flush alone.
    assert_eq!(writer.try_write(&rest).unwrap(), AtOnce::All);
}

/// What a server's frame must look like, by the RFC's words.
fn wire(sent: &Frame) -> Vec<u8> {
    let payload = sent.payload();
    let first = match (sent.is_binary(), payload.as_ref()) {
        (true, _) => FIN | BINARY,
        (false, b"p") => FIN | PONG,
        (false, _) => FIN | TEXT,
    };
    let mut bytes = frame(first, &payload);
    bytes[1] &= !MASKED;
    let mask_at = bytes.len() - payload.len() - MASK.len();
    bytes.truncate(mask_at);
    bytes.extend_from_slice(&payload);
    assert_eq!(sent.wire_bytes(), bytes.len());
    bytes
}

#[test]
fn control_frames_are_cut_to_what_the_protocol_allows() {
    let close = Frame::close(Some(1001), &"ü".repeat(100));
    let payload = close.payload();
    assert_eq!(&payload[..2], 1001_u16.to_be_bytes());
    assert_eq!(std::str::from_utf8(&payload[2..]).unwrap(), "ü".repeat(61));
    assert_eq!(Frame::ping(&[0; 200]).payload().len(), 125);
}

#[test]
fn control_frames_have_their_answers() {
    let close = |code| Incoming::Close { code, reason: "why".to_owned() }.answer().unwrap();
    assert_eq!(close(Some(3001)).payload(), 3001_u16.to_be_bytes().as_slice());
    assert_eq!(close(None).payload(), b"".as_slice());
    assert_eq!(close(None).wire_bytes(), 2);
    let ping = Incoming::Ping(Bytes::from_static(b"p"));
    assert_eq!(ping.answer(), Some(Frame::pong(b"p")));
    assert_eq!(Incoming::Pong(Bytes::new()).answer(), None);
    assert_eq!(text("x").answer(), None);
}
