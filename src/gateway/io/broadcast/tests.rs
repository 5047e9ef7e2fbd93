use std::sync::Weak;

use super::*;
use crate::gateway::close_reason::CloseReason;
use crate::gateway::io::handlers::{Handlers, OnDisconnect};
use crate::gateway::io::{DisconnectReason, Parser};
use crate::gateway::metrics::Metrics;
use crate::gateway::outbound::{Batch, Outbound, Transport};
use crate::gateway::websocket::Frame;

const HOUR: Duration = Duration::from_secs(60 * 60);

fn hub() -> Arc<Hub> {
    Arc::new(Hub::new("/", 10, Weak::new(), Arc::new(Metrics::new())).unwrap())
}

/// A socket in the room `r`, and its queue, which is empty.
fn member(hub: &Arc<Hub>) -> (Socket, Arc<Outbound>) {
    let outbound = Arc::new(Outbound::new(Transport::WebSocket, 1 << 20));
    let socket = Socket::new(Arc::clone(hub), Arc::clone(&outbound), Parser::Text);
    socket.admit(&Outgoing::packet(|out| out.extend_from_slice(b"40")));
    socket.join("r").unwrap();
    let mut greeting = Batch::new();
    outbound.take(&mut greeting);
    outbound.written(&mut greeting);
    (socket, outbound)
}

/// Who is missing, at once: time stands still but for who waits.
async fn missing(asked: Broadcast<'_>, timeout: Duration) -> Vec<SocketId> {
    let start = Instant::now();
    let told = asked.emit_with_ack("ask", (), timeout).await.unwrap();
    assert!(told.replies.is_empty());
    assert_eq!(start.elapsed(), Duration::ZERO);
    told.missing.iter().map(Socket::id).collect()
}

#[tokio::test(start_paused = true)]
async fn who_cannot_be_sent_the_question_is_not_waited_for() {
    let hub = hub();
    let (socket, outbound) = member(&hub);
    // Its session is over, and it is not taken off its rooms yet.
    outbound.close(CloseReason::TransportClose);
    let room = || Broadcast::new(Arc::clone(&hub)).to("r");
    for timeout in [HOUR, Duration::MAX] {
        assert_eq!(missing(room(), timeout).await, [socket.id()]);
        let all = room().emit_with_all_acks("ask", (), timeout).await.unwrap();
        assert_eq!(all.value.missing, [socket.id()]);
        assert!(socket.emit_with_ack("ask", (), timeout).await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_volatile_question_is_only_for_those_who_have_nothing_to_read() {
    let hub = hub();
    let (busy, outbound) = member(&hub);
    outbound.push(&Frame::text(b"4before"));
    let room = || Broadcast::new(Arc::clone(&hub)).to("r");
    assert_eq!(missing(room().volatile(), HOUR).await, [busy.id()]);
    let mut batch = Batch::new();
    outbound.take(&mut batch);
    assert_eq!(batch.len(), 1, "it was sent the question all the same");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_waited_for_longer_than_a_day() {
    let hub = hub();
    let (socket, _outbound) = member(&hub);
    let start = Instant::now();
    let everybody = Broadcast::new(Arc::clone(&hub));
    let told = everybody.emit_with_ack("ask", (), Duration::MAX).await.unwrap();
    assert_eq!(told.missing, [socket]);
    assert_eq!(start.elapsed().as_secs(), PATIENCE_MAX.as_secs());
}

#[tokio::test]
async fn a_thread_of_no_runtime_may_disconnect_them() {
    let handlers = Arc::new(Handlers::default());
    let metrics = Arc::new(Metrics::new());
    let hub = Arc::new(Hub::new("/", 10, Arc::downgrade(&handlers), metrics).unwrap());
    let (tell, mut told) = tokio::sync::mpsc::channel(1);
    let on_disconnect: Arc<OnDisconnect> = Arc::new(move |socket: Socket, reason| {
        let tell = tell.clone();
        Box::pin(async move { tell.send((socket.id(), reason)).await.unwrap() })
    });
    handlers.on_disconnect.write().push(on_disconnect);
    let (socket, _outbound) = member(&hub);
    std::thread::spawn(move || Broadcast::new(hub).to("r").disconnect()).join().unwrap();
    assert!(!socket.is_connected());
    assert_eq!(told.recv().await, Some((socket.id(), DisconnectReason::ServerNamespace)));
}
