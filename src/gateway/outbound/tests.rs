use super::*;

fn text(text: &str) -> Frame {
    Frame::text(text.as_bytes())
}

fn polled(outbound: &Outbound, payload_bytes_max: usize) -> Option<String> {
    match outbound.poll(payload_bytes_max) {
        Polled::Payload(bytes) | Polled::Last(bytes) => {
            Some(String::from_utf8(bytes.to_vec()).unwrap())
        }
        Polled::Nothing => None,
    }
}

#[test]
fn a_poll_takes_what_fits_and_leaves_the_rest_in_order() {
    let outbound = Outbound::new(Transport::Polling, 1_000);
    for packet in ["4aa", "4bb", "4cc"] {
        outbound.push(&text(packet));
    }
    assert_eq!(polled(&outbound, 7).as_deref(), Some("4aa\u{1e}4bb"));
    assert_eq!(polled(&outbound, 1).as_deref(), Some("4cc"));
    assert_eq!(polled(&outbound, 7), None);
}

#[test]
fn frames_in_a_row_are_polled_one_by_one() {
    let outbound = Outbound::new(Transport::Polling, 1_000);
    let frames = [text("4aa"), text(&format!("4{}", "b".repeat(200))), text("4cc")];
    outbound.push(&Frame::joined(&frames));
    outbound.push(&text("4dd"));
    assert_eq!(polled(&outbound, 7).as_deref(), Some("4aa"));
    assert_eq!(polled(&outbound, 203).unwrap().len(), 201);
    assert_eq!(polled(&outbound, 7).as_deref(), Some("4cc\u{1e}4dd"));
    assert_eq!(polled(&outbound, 7), None);
    assert_eq!(outbound.state.lock().bytes, 0);
}

#[test]
fn a_consumer_past_its_bound_is_cut_and_its_queue_freed() {
    let outbound = Outbound::new(Transport::Polling, 1_000);
    let frame = text(&"x".repeat(400));
    outbound.push(&frame);
    outbound.push(&frame);
    assert_eq!(outbound.close_reason(), None);
    outbound.push(&frame);
    assert_eq!(outbound.close_reason(), Some(CloseReason::SlowConsumer));
    assert_eq!(polled(&outbound, 10_000).as_deref(), Some("1"));
}

#[test]
fn nothing_is_taken_between_the_cut_and_the_close() {
    for _ in 0..500 {
        let outbound = Outbound::new(Transport::Polling, 1 << 20);
        let (large, small) = (text(&"x".repeat(600 << 10)), text("4late"));
        outbound.push(&large);
        let start = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                // Each of them fits, though the large one does not.
                while outbound.push_all(std::slice::from_ref(&small), false) {}
            });
            start.wait();
            outbound.push(&large);
        });
        assert_eq!(polled(&outbound, 10_000).as_deref(), Some("1"));
    }
}

#[test]
fn what_is_being_written_counts_against_the_bound() {
    let outbound = Outbound::new(Transport::WebSocket, 1_000);
    let frame = text(&"x".repeat(800));
    outbound.push(&frame);
    let mut batch = Batch::new();
    outbound.take(&mut batch);
    assert_eq!(batch.len(), 1);
    outbound.push(&frame);
    assert_eq!(outbound.close_reason(), Some(CloseReason::SlowConsumer));

    let outbound = Outbound::new(Transport::WebSocket, 1_000);
    outbound.push(&frame);
    let mut batch = Batch::new();
    outbound.take(&mut batch);
    outbound.written(&mut batch);
    outbound.push(&frame);
    assert_eq!(outbound.close_reason(), None);
}

#[test]
fn a_frame_above_the_bound_passes_alone() {
    let outbound = Outbound::new(Transport::Polling, 100);
    outbound.push(&text(&"x".repeat(500)));
    assert_eq!(outbound.close_reason(), None);
}

#[test]
fn what_was_queued_before_the_close_still_goes_out() {
    let outbound = Outbound::new(Transport::Polling, 1_000);
    outbound.push(&text("4last"));
    outbound.close(CloseReason::ShuttingDown);
    outbound.close(CloseReason::PingTimeout);
    assert_eq!(polled(&outbound, 100).as_deref(), Some("4last"));
    assert_eq!(outbound.close_reason(), Some(CloseReason::ShuttingDown));
    outbound.push(&text("4late"));
    assert_eq!(polled(&outbound, 100).as_deref(), Some("1"));
}

#[tokio::test]
async fn the_reader_waits_for_room_and_for_nothing_else() {
    let outbound = Outbound::new(Transport::Polling, 1_000);
    outbound.has_room().await;
    outbound.reply(text(&"x".repeat(600)));
    let waiting = outbound.has_room();
    tokio::pin!(waiting);
    assert!(futures_poll(waiting.as_mut()).await.is_pending());
    assert!(polled(&outbound, 10_000).is_some());
    waiting.await;
}

#[tokio::test]
async fn after_the_switch_a_poll_gets_only_a_noop() {
    let outbound = Outbound::new(Transport::Polling, 1_000);
    outbound.push(&text("4mine"));
    outbound.switch_to_websocket();
    assert_eq!(polled(&outbound, 100).as_deref(), Some("6"));
    let mut batch = Batch::new();
    outbound.take(&mut batch);
    assert_eq!(batch[0].payload(), "4mine");
}

async fn futures_poll<F: Future>(mut future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
    std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context))).await
}
