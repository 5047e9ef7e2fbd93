//! The task that sends the events of a log, one after another, each when it is durable.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::entry::Entry;
use super::session::Ended;
use super::{DETACHED_MAX, Order, PENDING_BYTES_MAX, Pending, Recovery, Told};
use crate::gateway::io::outgoing::ROW_BYTES_MAX;
use crate::gateway::io::{Hub, Outgoing};
use crate::gateway::outbound::Flush;

/// How often sessions and the log are looked at when nothing else happens.
const LOOK_MAX: Duration = Duration::from_secs(60);

/// While events come without a pause, sessions are looked at after so many.
const LOOK_EVENTS: usize = 256;

/// Sessions that are let go of while nothing is delivered.
const ENDED_MAX: usize = 256;

/// Runs until the namespace is gone.
pub async fn run(hub: Weak<Hub>, wake: Arc<Notify>) {
    let mut trimmed = Instant::now();
    loop {
        let sleep = {
            let Some(hub) = hub.upgrade() else { return };
            let Some(recovery) = hub.recovery() else { return };
            let mut events = 0;
            loop {
                let delivered = recovery.deliver_first(&hub).await;
                if delivered == 0 {
                    break;
                }
                events += delivered;
                if events >= LOOK_EVENTS {
                    events = 0;
                    let _ = recovery.end_sessions();
                }
                // Commits may all be resolved already; the sockets' writers need the thread too.
                tokio::task::consume_budget().await;
            }
            if trimmed.elapsed() >= LOOK_MAX {
                recovery.trim();
                trimmed = Instant::now();
            }
            recovery.end_sessions()
        };
        let Some(sleep) = sleep else {
            tokio::task::yield_now().await;
            continue;
        };
        tokio::select! {
            () = wake.notified() => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }
}

impl Recovery {
    /// Waits for the first pending event's commit and sends it, with those right behind it that can go
    /// with it. How many there were.
    async fn deliver_first(&self, hub: &Arc<Hub>) -> usize {
        // It stays in front meanwhile, for who waits until the log has caught up.
        let sent = match self.order.lock().pending.front_mut() {
            Some(first) => first.sent.take(),
            None => return 0,
        };
        let outcome = match sent {
            Some(sent) => sent.durable().await,
            None => Ok(()),
        };
        if let Err(error) = &outcome {
            tracing::error!(%error, "an event was not logged, and not sent");
        }
        let events = self.deliver(hub, outcome.is_ok());
        let (row, has_room) = {
            let mut order = self.order.lock();
            let was_full = order.pending_bytes > PENDING_BYTES_MAX;
            let row: SmallVec<[Pending; 1]> =
                (0..events).map_while(|_| order.take_first()).collect();
            (row, was_full && order.pending_bytes <= PENDING_BYTES_MAX)
        };
        let mut error = outcome.err();
        for Pending { told, after, .. } in row {
            // Whoever asked may have gone. What failed is a row of its own.
            match told {
                Told::Nobody => {}
                // Without a count it was not sent.
                Told::Count(told, sockets) if error.is_none() => drop(told.send(sockets)),
                Told::Count(..) => {}
                Told::Outcome(told, sockets) => {
                    drop(told.send(error.take().map_or(Ok(sockets), Err)))
                }
            }
            after.into_iter().for_each(|act| act());
        }
        self.eased.notify_waiters();
        if has_room {
            self.has_room.notify_waiters();
        }
        events
    }

    /// Sends the first pending events, which stay in front, so that what is not pending has been sent.
    /// How many they are.
    fn deliver(&self, hub: &Arc<Hub>, is_durable: bool) -> usize {
        let mut delivery = self.delivery.lock();
        let mut order = self.order.lock();
        let events = if is_durable { order.row() } else { 1 };
        let pending = order.pending.iter().take(events);
        let row: SmallVec<[Arc<Entry>; 1]> = pending.map(|it| Arc::clone(&it.entry)).collect();
        let Some(last) = row.last().map(|entry| entry.offset) else { return 0 };
        let is_logged = order.pending.front().is_some_and(|first| first.is_logged);
        if !is_durable {
            order.is_broken = true;
            order.ring.forget_through(last.position);
        }
        let is_in_ring = order.ring.contains(last);
        // Who had nothing to wait for relied on a removal of the log that may have failed since.
        let is_sent = is_durable && (is_logged || !order.is_broken);
        drop(order);
        if is_sent && is_in_ring {
            delivery.offset = last;
        }
        let sockets = if is_sent { send(hub, &row) } else { 0 };
        delivery.position = last.position;
        self.delivered.store(last.position, Ordering::Release);
        let mut order = self.order.lock();
        order.pending.iter_mut().take(events).for_each(|pending| pending.told.count(sockets));
        // A burst was more than is kept.
        order.ring.trim(0, self.store.options.bytes_max, last.position);
        events
    }

    /// Lets entries go that no session can ask for any more, also while none follows.
    fn trim(&self) {
        let now_ms = self.store.clock.now_ms();
        let since_ms = now_ms.saturating_sub(self.window_ms());
        let delivered = self.delivered.load(Ordering::Acquire);
        let mut order = self.order.lock();
        let before = order.ring.len();
        order.ring.trim(since_ms, self.store.options.bytes_max, delivered);
        let kept = order.ring.len();
        if kept < before
            && let Some(cache) = &self.store.cache
            // What is kept too much goes with the next event.
            && let Err(error) = cache.send_trim(&self.log_key, kept)
        {
            tracing::debug!(%error, "the log was not trimmed");
        }
    }

    /// Forgets sessions whose time has passed; how long to wait until the next may end. `None`: there
    /// are more.
    fn end_sessions(&self) -> Option<Duration> {
        let now_ms = self.store.clock.now_ms();
        let mut delivery = self.delivery.lock();
        for _ in 0..ENDED_MAX {
            match delivery.sessions.pop_ended(now_ms, DETACHED_MAX) {
                Some(Ended::Session(pid, session)) => drop(self.forget(pid, &session)),
                Some(Ended::CameBack) => {}
                None => {
                    let left_ms =
                        delivery.sessions.next_end().map(|end| end.saturating_sub(now_ms));
                    let until = left_ms.map(|left_ms| Duration::from_millis(left_ms.max(1)));
                    return Some(until.unwrap_or(LOOK_MAX).min(LOOK_MAX));
                }
            }
        }
        None
    }
}

impl Order {
    /// How many of the first pending events go out as one, when the first is durable: those for the same
    /// sockets that are durable too, with nothing to be done between them.
    fn row(&mut self) -> usize {
        let mut pending = self.pending.iter_mut();
        let Some(mut before) = pending.next() else { return 0 };
        let (mut events, mut bytes) = (1, before.entry.packet.wire_bytes());
        for next in pending {
            let follows = bytes < ROW_BYTES_MAX
                && before.after.is_empty()
                && before.is_logged
                && next.is_logged
                && before.entry.audience == next.entry.audience
                && next.sent.as_mut().is_none_or(|sent| matches!(sent.outcome(), Some(Ok(()))));
            if !follows {
                break;
            }
            events += 1;
            bytes += next.entry.packet.wire_bytes();
            before = next;
        }
        events
    }
}

/// Sends entries for the same sockets; to how many.
fn send(hub: &Arc<Hub>, row: &[Arc<Entry>]) -> usize {
    let Some(last) = row.last() else { return 0 };
    // Clones share the bytes, but not the MessagePack form that is made for whom it concerns: entries
    // are not to grow by it once they are counted.
    let packet = match row {
        [entry] => entry.packet.clone(),
        row => Outgoing::joined(row.iter().map(|entry| entry.packet.clone()).collect()),
    };
    let (mut sockets, mut flush) = (0, Flush::default());
    hub.choose(&last.audience).each(|socket| {
        sockets += usize::from(socket.push_logged(&mut flush, &packet, last.offset.position));
    });
    sockets
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::{Context, Poll, Wake};

    use super::*;
    use crate::backend::{Cache, Embedded};
    use crate::gateway::close_reason::CloseReason;
    use crate::gateway::io::recovery::{Audience, Claim, Keeping, Store, Target};
    use crate::gateway::io::{DisconnectReason, Draft, Parser, Socket};
    use crate::gateway::metrics::Metrics;
    use crate::gateway::options;
    use crate::gateway::outbound::{Batch, Outbound, Transport};
    use crate::gateway::websocket::Frame;
    use crate::model::clock::{ManualClock, SharedClock, SystemClock};

    fn hub(options: options::Recovery, clock: SharedClock) -> Arc<Hub> {
        hub_on(None, options, clock)
    }

    fn hub_on(cache: Option<Cache>, options: options::Recovery, clock: SharedClock) -> Arc<Hub> {
        let hub = Arc::new(Hub::new("/", 10, Weak::new(), Arc::new(Metrics::new())).unwrap());
        let store = Store { options, cache, shared: None, clock, queue_bytes_max: 1 << 20 };
        hub.recover(&Keeping::On(store));
        hub
    }

    /// A client, and its queue without what it was sent at first.
    fn client(hub: &Arc<Hub>) -> (Socket, Arc<Outbound>) {
        let admitted = admit(hub, Parser::Text, None);
        frames(&admitted.1);
        admitted
    }

    fn admit(hub: &Arc<Hub>, parser: Parser, claim: Option<Claim>) -> (Socket, Arc<Outbound>) {
        let outbound = Arc::new(Outbound::new(Transport::WebSocket, 64 << 20));
        let socket = Socket::new(Arc::clone(hub), Arc::clone(&outbound), parser);
        let admitted =
            hub.recovery().unwrap().try_admit(hub, &socket, claim.as_ref(), None).unwrap();
        (admitted.socket, outbound)
    }

    fn frames(outbound: &Outbound) -> Vec<Frame> {
        let mut batch = Batch::new();
        outbound.take(&mut batch);
        batch.into_vec()
    }

    /// The packets of frames in a row, without their offsets.
    fn texts(frames: &[Frame]) -> Vec<String> {
        let mut texts = Vec::new();
        for frame in frames {
            let mut rest = Some(frame.clone());
            while let Some(frame) = rest {
                let (first, others) = frame.split_first();
                let text = String::from_utf8(first.payload().to_vec()).unwrap();
                texts.push(text.rsplit_once(',').unwrap().0.to_owned());
                rest = others;
            }
        }
        texts
    }

    fn append(hub: &Hub, audience: Audience, event: u32) {
        let draft = Draft::event(hub.name(), "news", &&event).unwrap();
        assert!(hub.recovery().unwrap().append(audience, &draft, None));
    }

    fn to(room: &str) -> Audience {
        Audience { to: vec![Target::of(room.to_owned())], ..Audience::default() }
    }

    #[tokio::test]
    async fn events_for_the_same_sockets_that_wait_together_are_one_frame() {
        let hub = hub(options::Recovery::default(), SystemClock::shared());
        let (socket, outbound) = client(&hub);
        socket.join("mine").unwrap();
        // Nothing is awaited, so that nothing is delivered meanwhile.
        (0..100).for_each(|n| append(&hub, Audience::default(), n));
        append(&hub, to("mine"), 100);
        (101..200).for_each(|n| append(&hub, Audience::default(), n));
        hub.recovery().unwrap().caught_up().await;
        let frames = frames(&outbound);
        assert_eq!(frames.len(), 3);
        let wanted: Vec<String> = (0..200).map(|n| format!("42[\"news\",{n}")).collect();
        assert_eq!(texts(&frames), wanted);
        let last = hub.recovery().unwrap().delivery().position;
        assert_eq!(socket.last_logged(), last);
    }

    #[tokio::test]
    async fn what_is_done_after_an_event_is_done_before_the_next() {
        let hub = hub(options::Recovery::default(), SystemClock::shared());
        let (_, outbound) = client(&hub);
        append(&hub, Audience::default(), 1);
        let between = Arc::clone(&outbound);
        let act = move || between.push(&Frame::text(b"42[\"act\","));
        hub.recovery().unwrap().after_pending(0, act);
        append(&hub, Audience::default(), 2);
        hub.recovery().unwrap().caught_up().await;
        let wanted = ["42[\"news\",1", "42[\"act\"", "42[\"news\",2"];
        assert_eq!(texts(&frames(&outbound)), wanted);
    }

    /// Counts how often its task is woken.
    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn who_waits_for_room_in_the_log_is_woken_once_there_is() {
        let hub = hub(options::Recovery::default(), SystemClock::shared());
        let recovery = hub.recovery().unwrap();
        let draft = Draft::event(hub.name(), "news", &"x".repeat(256 << 10)).unwrap();
        // Nothing is delivered but by hand, as the task gets no turn.
        (0..32).for_each(|_| assert!(recovery.append(Audience::default(), &draft, None)));
        let wakes = Arc::new(Wakes::default());
        let waker = Arc::clone(&wakes).into();
        let mut waiter = Box::pin(recovery.has_room());
        let mut looks = 0;
        let mut is_over = |looks: &mut usize| {
            *looks += 1;
            waiter.as_mut().poll(&mut Context::from_waker(&waker)) == Poll::Ready(())
        };
        assert!(!is_over(&mut looks));
        let mut delivered = 0;
        while wakes.0.load(Ordering::Relaxed) == 0 {
            assert_eq!(recovery.deliver_first(&hub).await, 1, "it is not woken at all");
            delivered += 1;
        }
        assert!(delivered > 10, "{delivered}");
        assert!(is_over(&mut looks) && looks == 2, "it is woken for nothing");
    }

    #[tokio::test]
    async fn entries_keep_no_form_that_is_not_counted() {
        let hub = hub(options::Recovery::default(), SystemClock::shared());
        let (socket, outbound) = admit(&hub, Parser::MessagePack, None);
        (0..10).for_each(|n| append(&hub, Audience::default(), n));
        hub.recovery().unwrap().caught_up().await;
        // The greeting, and ten events that waited together.
        assert_eq!(frames(&outbound).len(), 2);
        drop(socket.depart(DisconnectReason::Session(CloseReason::TransportClose)));
        append(&hub, Audience::default(), 10);
        hub.recovery().unwrap().caught_up().await;
        let auth = serde_json::json!({ "pid": socket.pid().unwrap().to_string() });
        let claim = Claim::of(Some(&serde_json::value::to_raw_value(&auth).unwrap()));
        let (resumed, outbound) = admit(&hub, Parser::MessagePack, claim);
        assert_eq!(resumed.id(), socket.id());
        assert_eq!(frames(&outbound).len(), 12, "the greeting, and all, as it says it has none");
        let order = hub.recovery().unwrap().order.lock();
        assert_eq!(order.ring.len(), 11);
        assert!(order.ring.entries().all(|entry| entry.packet.is_in_one_form()));
    }

    #[tokio::test(start_paused = true)]
    async fn old_entries_go_while_nothing_comes() {
        let clock = ManualClock::at(1_000);
        let engines = Embedded::in_memory(Arc::clone(&clock) as _);
        let kept = || engines.cache().load_list("leveret:recovery:/:log").unwrap().len();
        let window = options::Recovery::default().window;
        let hub = hub_on(Some(engines.cache()), Default::default(), Arc::clone(&clock) as _);
        (0..100).for_each(|n| append(&hub, Audience::default(), n));
        hub.recovery().unwrap().caught_up().await;
        clock.advance_ms(u64::try_from(window.as_millis()).unwrap() / 2);
        tokio::time::sleep(2 * LOOK_MAX).await;
        // The first entry of an empty log is one too.
        assert_eq!((hub.recovery().unwrap().order.lock().ring.len(), kept()), (101, 101));
        clock.advance_ms(u64::try_from(window.as_millis()).unwrap());
        tokio::time::sleep(2 * LOOK_MAX).await;
        assert_eq!((hub.recovery().unwrap().order.lock().ring.len(), kept()), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_when_no_server_ran_is_not_of_the_window() {
        let clock = ManualClock::at(1_000);
        let engines = Embedded::in_memory(Arc::clone(&clock) as _);
        let hub = hub_on(Some(engines.cache()), Default::default(), Arc::clone(&clock) as _);
        (0..100).for_each(|n| append(&hub, Audience::default(), n));
        hub.recovery().unwrap().caught_up().await;
        drop(hub);
        clock.advance_ms(24 * 60 * 60 * 1000);
        let hub = hub_on(Some(engines.cache()), Default::default(), Arc::clone(&clock) as _);
        append(&hub, Audience::default(), 100);
        tokio::time::sleep(2 * LOOK_MAX).await;
        assert_eq!(hub.recovery().unwrap().order.lock().ring.len(), 102);
    }

    #[tokio::test]
    async fn sessions_end_while_events_never_pause() {
        let clock = ManualClock::at(1_000);
        let hub = hub(options::Recovery::default(), Arc::clone(&clock) as _);
        let (gone, _outbound) = client(&hub);
        drop(gone.depart(DisconnectReason::Session(CloseReason::TransportClose)));
        assert!(hub.recovery().unwrap().awaits(&gone));
        clock.advance_ms(24 * 60 * 60 * 1000);
        let (told, is_gone) = tokio::sync::oneshot::channel();
        go_on(Arc::clone(&hub), gone, 16 * LOOK_EVENTS, told);
        assert_eq!(is_gone.await, Ok(true));
    }

    /// Each event has the next one wait before it is done with, until the session is gone.
    fn go_on(hub: Arc<Hub>, gone: Socket, left: usize, told: tokio::sync::oneshot::Sender<bool>) {
        append(&hub, Audience::default(), 1);
        let next = Arc::clone(&hub);
        hub.recovery().unwrap().after_pending(0, move || {
            let is_gone = !next.recovery().is_some_and(|recovery| recovery.awaits(&gone));
            if is_gone || left == 0 {
                let _ = told.send(is_gone);
            } else {
                go_on(next, gone, left - 1, told);
            }
        });
    }
}
