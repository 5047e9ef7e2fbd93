use std::convert::Infallible;
use std::pin::pin;
use std::slice::from_ref;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::yield_now;

use super::*;
use crate::gateway::outbound::Transport;
use crate::gateway::websocket::{self, Frame, Limits};

const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// The writer of a WebSocket whose stream takes so many bytes before its client reads, and the client.
async fn websocket(stream_bytes: usize) -> (SessionWriter, DuplexStream) {
    let (mut client, server) = duplex(stream_bytes);
    let (upgraded, mut upgrades) = mpsc::channel(1);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let upgraded = upgraded.clone();
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move { upgraded.send(upgrade.await.unwrap()).await.unwrap() });
        let response = websocket::accept(&request).unwrap().map(|()| Body::empty());
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(server), service);
    tokio::spawn(async move { connection.with_upgrades().await.unwrap() });
    client.write_all(UPGRADE).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    let io = TokioIo::new(upgrades.recv().await.unwrap());
    let (_, writer) = websocket::split(io, Limits { message_bytes_max: 1 << 20 });
    (writer, client)
}

/// A session that has nothing to write.
async fn idle(queue_bytes_max: usize, stream_bytes: usize) -> (Arc<Outbound>, DuplexStream) {
    let outbound = Arc::new(Outbound::new(Transport::WebSocket, queue_bytes_max));
    let (writer, client) = websocket(stream_bytes).await;
    outbound.lay_down(writer);
    (outbound, client)
}

fn text(letter: &str, bytes: usize) -> Frame {
    Frame::text(letter.repeat(bytes).as_bytes())
}

fn push(outbounds: &[&Arc<Outbound>], frame: &Frame) -> Flush {
    let mut flush = Flush::default();
    for outbound in outbounds {
        outbound.push_with(&mut flush, from_ref(frame), false);
    }
    flush
}

/// What the client reads next is exactly this.
async fn assert_read(client: &mut DuplexStream, frames: &[&Frame]) {
    for frame in frames {
        let mut got = vec![0; frame.wire_bytes()];
        client.read_exact(&mut got).await.unwrap();
        assert_eq!(got, frame.wire());
    }
}

fn is_asleep(outbound: &Outbound) -> bool {
    pin!(outbound.pick_up()).poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

/// The writer, and what is left to write.
async fn picked_up(outbound: &Outbound) -> (SessionWriter, Batch) {
    let writer = outbound.pick_up().await.expect("a writer");
    let mut batch = Batch::new();
    outbound.take(&mut batch);
    (writer, batch)
}

#[tokio::test]
async fn many_are_written_to_without_waking_their_tasks() {
    let (ada, mut ada_reads) = idle(1_000, 1_000).await;
    let (bob, mut bob_reads) = idle(1_000, 1_000).await;
    let (first, second) = (text("a", 50), text("b", 50));
    let flush = push(&[&ada, &bob], &first);
    drop(push(&[&ada, &bob], &second));
    assert_eq!(ada.state.lock().frames.len(), 2, "nothing is written where it is sent");
    drop(flush);
    for reads in [&mut ada_reads, &mut bob_reads] {
        assert_read(reads, &[&first, &second]).await;
    }
    for outbound in [&ada, &bob] {
        assert!(is_asleep(outbound));
        assert_eq!(outbound.state.lock().bytes, 0);
    }
}

/// One task would be at it for long, and other threads have nothing to do.
#[tokio::test]
async fn of_much_a_part_is_left_to_other_tasks() {
    let bytes = TOGETHER_BYTES_MAX / 2;
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(idle(1 << 20, 1 << 20).await);
    }
    let frame = text("a", bytes - 100);
    let outbounds: Vec<_> = sessions.iter().map(|(outbound, _)| outbound).collect();
    let flush = push(&outbounds, &frame);
    let sizes: Vec<usize> = flush.turns.iter().map(|turn| turn.idle.0.len()).collect();
    assert_eq!(sizes, [2, 2]);
    drop(flush);
    for (_, reads) in &mut sessions {
        assert_read(reads, &[&frame]).await;
    }
}

#[tokio::test]
async fn few_are_written_to_in_place() {
    let mut sessions = Vec::new();
    for _ in 0..TOGETHER_MAX + 2 {
        sessions.push(idle(1_000, 1_000).await);
    }
    let (first, second) = (text("a", 10), text("b", 10));
    let outbounds: Vec<&Arc<Outbound>> = sessions.iter().map(|(outbound, _)| outbound).collect();
    push(&outbounds, &first).write();
    let waits = |outbound: &&Arc<Outbound>| !outbound.state.lock().frames.is_empty();
    assert_eq!(outbounds.iter().filter(|outbound| waits(outbound)).count(), 2);
    push(&outbounds[..1], &second).write();
    assert!(!waits(&outbounds[0]), "also to one alone");
    assert_read(&mut sessions[0].1, &[&first, &second]).await;
    for (outbound, reads) in &mut sessions[1..] {
        assert_read(reads, &[&first]).await;
        assert!(is_asleep(outbound));
    }
}

#[tokio::test]
async fn who_is_writing_already_is_left_to_write_the_rest() {
    let (ada, mut ada_reads) = idle(1_000, 1_000).await;
    let (bob, _bob_reads) = idle(1_000, 1_000).await;
    ada.push(&text("a", 10));
    let (mut writer, mut batch) = picked_up(&ada).await;
    drop(push(&[&ada, &bob], &text("b", 10)));
    yield_now().await;
    writer.write(&batch).await.unwrap();
    ada.written(&mut batch);
    ada.lay_down(writer);
    let (mut writer, batch) = picked_up(&ada).await;
    writer.write(&batch).await.unwrap();
    assert_read(&mut ada_reads, &[&text("a", 10), &text("b", 10)]).await;
}

#[tokio::test]
async fn what_a_stream_does_not_take_at_once_is_left_to_the_session_in_its_order() {
    let (slow, mut slow_reads) = idle(1_000, 64).await;
    let (quick, mut quick_reads) = idle(1_000, 1_000).await;
    let (long, short) = (text("a", 200), text("b", 10));
    drop(push(&[&slow, &quick], &long));
    assert_read(&mut quick_reads, &[&long]).await;
    drop(push(&[&slow], &short));
    let (mut writer, mut batch) = picked_up(&slow).await;
    assert_eq!(batch[0].wire_bytes(), long.wire_bytes() - 64);
    let frames = [&long, &short];
    let (written, ()) = tokio::join!(writer.write(&batch), assert_read(&mut slow_reads, &frames));
    written.unwrap();
    slow.written(&mut batch);
    assert_eq!(slow.state.lock().bytes, 0);
}

#[tokio::test]
async fn a_slow_consumer_is_cut_behind_a_whole_frame() {
    let (slow, mut slow_reads) = idle(400, 64).await;
    let (quick, mut quick_reads) = idle(400, 1_000).await;
    let long = text("a", 200);
    drop(push(&[&slow, &quick], &long));
    assert_read(&mut quick_reads, &[&long]).await;
    // Of the first frame only what is not written counts.
    assert_eq!(slow.state.lock().bytes, weight(&long) - 64);
    drop(push(&[&slow, &quick], &text("b", 20)));
    assert_eq!(slow.close_reason(), None);
    drop(push(&[&slow, &quick], &long));
    assert_eq!(slow.close_reason(), Some(CloseReason::SlowConsumer));
    assert_eq!(quick.close_reason(), None);
    let (mut writer, mut batch) = picked_up(&slow).await;
    let close = Frame::close(Some(1008), "slow consumer");
    batch.push(close.clone());
    let frames = [&long, &close];
    let (written, ()) = tokio::join!(writer.write(&batch), assert_read(&mut slow_reads, &frames));
    written.unwrap();
}

#[tokio::test]
async fn what_was_sent_before_a_close_is_left_to_the_session() {
    let (ada, mut ada_reads) = idle(1_000, 1_000).await;
    let (bob, mut bob_reads) = idle(1_000, 1_000).await;
    let frame = text("a", 10);
    let flush = push(&[&ada, &bob], &frame);
    ada.close(CloseReason::ShuttingDown);
    drop(flush);
    assert_read(&mut bob_reads, &[&frame]).await;
    let mut nothing = [0];
    let read = pin!(ada_reads.read(&mut nothing));
    assert!(matches!(read.poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
    let (_, batch) = picked_up(&ada).await;
    assert_eq!(batch[..], [frame]);
}

#[tokio::test]
async fn a_stream_that_fails_ends_its_session() {
    let (ada, ada_reads) = idle(1_000, 1_000).await;
    let (bob, mut bob_reads) = idle(1_000, 1_000).await;
    drop(ada_reads);
    let frame = text("a", 10);
    drop(push(&[&ada, &bob], &frame));
    assert_read(&mut bob_reads, &[&frame]).await;
    assert!(ada.pick_up().await.is_none());
    assert_eq!(ada.close_reason(), Some(CloseReason::TransportError));
}

#[tokio::test]
async fn outside_of_a_runtime_the_sessions_are_woken() {
    let (ada, _ada_reads) = idle(1_000, 1_000).await;
    let (bob, _bob_reads) = idle(1_000, 1_000).await;
    let flush = push(&[&ada, &bob], &text("a", 10));
    std::thread::spawn(move || drop(flush)).join().unwrap();
    for outbound in [&ada, &bob] {
        assert_eq!(picked_up(outbound).await.1.len(), 1);
    }
}

#[tokio::test]
async fn more_than_one_task_writes_to_are_written_to_by_others() {
    let mut sessions = Vec::new();
    for _ in 0..TOGETHER_MAX + 2 {
        sessions.push(idle(1_000, 1_000).await);
    }
    let frame = text("a", 10);
    let outbounds: Vec<&Arc<Outbound>> = sessions.iter().map(|(outbound, _)| outbound).collect();
    let flush = push(&outbounds, &frame);
    let sizes: Vec<usize> = flush.turns.iter().map(|turn| turn.idle.0.len()).collect();
    assert_eq!(sizes, [TOGETHER_MAX, 2]);
    drop(flush);
    for (outbound, reads) in &mut sessions {
        assert_read(reads, &[&frame]).await;
        assert!(is_asleep(outbound));
    }
}
