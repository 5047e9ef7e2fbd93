//! What a channel is given, how much of it at once, and what it is refused.

use leveret::backend::{ConsumeOptions, DeleteIf};
use leveret::broker::REPLY_TO;
use leveret::model::message::Message;
use leveret::model::topology::{QueueKind, QueueSpec};

use super::channel_peer::{ACKED, Event, NO_ACK, Refused};
use super::fixture::{key, name, queue_name};
use super::peer::on_both;

fn closed<T>(code: u16, text: &str) -> Result<T, Refused> {
    Err(Refused { code, text: text.to_owned(), closes_connection: code >= 500 })
}

#[tokio::test]
async fn consumer_tags_are_unique_in_a_channel_and_made_when_empty() {
    on_both(async |f| {
        f.queue("q").await;
        let mut channel = f.channel().await;
        channel.consume("q", "t").await;
        let made = channel.try_consume("q", "", ACKED).await.unwrap();
        assert!(made.starts_with("amq.ctag-"), "{made}");
        channel.cancel("t").await;
        channel.consume("q", "t").await;
        let mut other = f.channel().await;
        other.consume("q", "t").await;
        assert_eq!(
            channel.try_consume("q", "t", ACKED).await,
            closed(530, "NOT_ALLOWED - attempt to reuse consumer tag 't'")
        );
        channel.close().await;
        other.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_prefetch_holds_for_each_consumer_that_starts_after_it() {
    on_both(async |f| {
        f.queue("q").await;
        f.queue("r").await;
        let mut channel = f.channel().await;
        channel.publish("q", &["1", "2", "3", "4"]).await;
        channel.publish("r", &["5", "6", "7"]).await;
        channel.qos(2, false).await;
        channel.consume("q", "a").await;
        channel.brings(&["1", "2"]).await;
        channel.qos(1, false).await;
        channel.consume("r", "b").await;
        channel.brings(&["5"]).await;
        // Each ack makes room for one more, in its own queue.
        channel.ack(3, false).await.unwrap();
        channel.brings(&["6"]).await;
        channel.ack(2, false).await.unwrap();
        channel.brings(&["3"]).await;
        channel.ack(0, true).await.unwrap();
        assert_eq!(channel.deliveries(2).await.len(), 2);
        channel.ack(0, true).await.unwrap();
        channel.nothing().await;
        // 0 is no limit, and without acknowledgements there is none.
        channel.cancel("a").await;
        channel.cancel("b").await;
        channel.qos(0, false).await;
        channel.consume("q", "a").await;
        channel.publish("q", &["8", "9", "10"]).await;
        channel.brings(&["8", "9", "10"]).await;
        channel.qos(1, false).await;
        channel.try_consume("r", "b", NO_ACK).await.unwrap();
        channel.publish("r", &["11", "12"]).await;
        channel.brings(&["11", "12"]).await;
        channel.close().await;
    })
    .await;
}

#[tokio::test]
async fn prefetch_is_each_consumers_or_the_whole_channels() {
    on_both(async |f| {
        f.queue("q").await;
        f.queue("r").await;
        let mut channel = f.channel().await;
        channel.publish("q", &["1", "2", "3", "4"]).await;
        channel.publish("r", &["5", "6", "7", "8"]).await;
        channel.qos(2, false).await;
        channel.qos(3, true).await;
        channel.consume("q", "a").await;
        channel.brings(&["1", "2"]).await;
        channel.consume("r", "b").await;
        channel.brings(&["5"]).await;
        // A get counts for neither.
        let (got, left) = channel.get("r", false).await.unwrap().unwrap();
        assert_eq!((&*got.body, got.delivery_tag, left), ("6", 4, 2));
        channel.nothing().await;
        channel.ack(4, false).await.unwrap();
        channel.nothing().await;
        channel.ack(1, false).await.unwrap();
        assert_eq!(channel.deliveries(1).await.len(), 1);
        // More credit for the channel; the consumers' own prefetch still holds.
        channel.qos(10, true).await;
        assert_eq!(channel.deliveries(1).await.len(), 1);
        channel.ack(0, true).await.unwrap();
        assert_eq!(channel.deliveries(2).await.len(), 2);
        channel.qos(1, true).await;
        channel.publish("q", &["9", "10"]).await;
        channel.nothing().await;
        channel.ack(0, true).await.unwrap();
        channel.brings(&["9"]).await;
        // A prefetch for consumers to come ends the channel's.
        channel.qos(1, false).await;
        channel.brings(&["10"]).await;
        channel.ack(0, true).await.unwrap();
        channel.qos(1, true).await;
        channel.publish("q", &["11", "12"]).await;
        channel.brings(&["11"]).await;
        channel.qos(0, true).await;
        channel.brings(&["12"]).await;
        channel.close().await;
    })
    .await;
}

#[tokio::test]
async fn getting_asks_no_prefetch() {
    on_both(async |f| {
        f.queue("q").await;
        for global in [true, false] {
            let mut channel = f.channel().await;
            channel.publish("q", &["1", "2"]).await;
            channel.qos(1, global).await;
            channel.consume("q", "c").await;
            channel.brings(&["1"]).await;
            let (got, left) = channel.get("q", false).await.unwrap().unwrap();
            assert_eq!((&*got.body, left), ("2", 0));
            channel.ack(0, true).await.unwrap();
            channel.close().await;
            f.holds("q", (0, 0, 0)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_quorum_queue_takes_no_prefetch_of_a_whole_channel() {
    on_both(async |f| {
        let spec = QueueSpec { kind: QueueKind::Quorum, ..QueueSpec::durable(queue_name("q")) };
        f.declare(spec).await;
        let mut channel = f.channel().await;
        channel.qos(1, true).await;
        assert_eq!(
            channel.try_consume("q", "c", ACKED).await,
            closed(540, "NOT_IMPLEMENTED - queue 'q' in vhost '/' does not support global qos")
        );
        channel.close().await;
    })
    .await;
}

#[tokio::test]
async fn cancelling_leaves_what_was_delivered_to_be_settled() {
    on_both(async |f| {
        f.queue("q").await;
        f.queue("r").await;
        let mut channel = f.channel().await;
        channel.publish("q", &["1", "2"]).await;
        channel.consume("q", "a").await;
        channel.brings(&["1", "2"]).await;
        channel.publish("r", &["3", "4"]).await;
        channel.consume("r", "b").await;
        channel.brings(&["3", "4"]).await;
        channel.cancel("a").await;
        channel.cancel("never there").await;
        channel.ack(1, false).await.unwrap();
        channel.nack(2, false, true).await.unwrap();
        channel.publish("q", &["5"]).await;
        channel.nothing().await;
        f.shows("q", &["2", "5"]).await;
        channel.nack(4, true, true).await.unwrap();
        channel.brings(&["3", "4"]).await;
        channel.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_consumer_whose_queue_goes_is_told_so() {
    on_both(async |f| {
        f.queue("q").await;
        let mut channel = f.channel().await;
        channel.consume("q", "c").await;
        f.delete_queue("q", DeleteIf::default()).await.unwrap();
        assert_eq!(channel.next().await, Event::Cancelled("c".to_owned()));
        f.queue("q").await;
        channel.consume("q", "c").await;
        channel.publish("q", &["1"]).await;
        channel.brings(&["1"]).await;
        channel.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_mandatory_message_without_a_queue_returns_and_is_confirmed() {
    on_both(async |f| {
        f.queue("q").await;
        let mut channel = f.channel().await;
        channel.confirm_select().await;
        let message = |queue: &str| Message::new(name(""), key(queue), "1").persistent();
        channel.try_publish(message("q"), true).await.unwrap();
        assert_eq!(channel.next().await, Event::Confirm { tag: 1, multiple: false });
        channel.try_publish(message("nowhere"), true).await.unwrap();
        let (text, body) = ("NO_ROUTE".to_owned(), "1".to_owned());
        assert_eq!(channel.next().await, Event::Return { code: 312, text, body });
        assert_eq!(channel.next().await, Event::Confirm { tag: 2, multiple: false });
        channel.try_publish(message("nowhere"), false).await.unwrap();
        assert_eq!(channel.next().await, Event::Confirm { tag: 3, multiple: false });
        channel.close().await;
        let mut other = f.channel().await;
        other.try_publish(message("q"), true).await.unwrap();
        other.nothing().await;
        other.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_message_says_who_sent_it_or_nothing() {
    on_both(async |f| {
        f.queue("q").await;
        let mut channel = f.channel().await;
        let mut message = Message::new(name(""), key("q"), "1");
        message.properties.user_id = Some("guest".to_owned());
        channel.try_publish(message.clone(), false).await.unwrap();
        message.properties.user_id = Some("bob".to_owned());
        assert_eq!(
            channel.try_publish(message, false).await,
            closed(
                406,
                "PRECONDITION_FAILED - user_id property set to 'bob' but authenticated user was \
                 'guest'"
            )
        );
        channel.close().await;
        f.shows("q", &["1"]).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_not_there_closes_the_channel_that_asks_for_it() {
    on_both(async |f| {
        let no_queue = "NOT_FOUND - no queue 'nowhere' in vhost '/'";
        let mut channel = f.channel().await;
        assert_eq!(channel.look_at("nowhere").await, closed(404, no_queue));
        channel.close().await;
        let mut channel = f.channel().await;
        assert_eq!(channel.try_consume("nowhere", "c", ACKED).await, closed(404, no_queue));
        channel.close().await;
        let mut channel = f.channel().await;
        assert_eq!(channel.get("nowhere", false).await, closed(404, no_queue));
        channel.close().await;
        let mut channel = f.channel().await;
        let message = Message::new(name("nowhere"), key("q"), "1");
        assert_eq!(
            channel.try_publish(message, false).await,
            closed(404, "NOT_FOUND - no exchange 'nowhere' in vhost '/'")
        );
        channel.close().await;
    })
    .await;
}

#[tokio::test]
async fn an_exclusive_queue_is_locked_to_every_other_connection() {
    on_both(async |f| {
        let mut owner = f.channel().await;
        let spec = QueueSpec::transient(queue_name("q")).exclusive();
        owner.declare(spec.clone()).await.unwrap();
        let locked = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in \
                      vhost '/'. It could be originally declared on another connection or the \
                      exclusive property value does not match that of the original declaration.";
        let mut channel = f.channel().await;
        assert_eq!(channel.declare(spec).await, closed(405, locked));
        channel.close().await;
        let mut channel = f.channel().await;
        assert_eq!(channel.look_at("q").await, closed(405, locked));
        channel.close().await;
        let mut channel = f.channel().await;
        assert_eq!(channel.get("q", true).await, closed(405, locked));
        channel.close().await;
        let mut channel = f.channel().await;
        assert_eq!(channel.try_consume("q", "c", ACKED).await, closed(405, locked));
        channel.close().await;
        // Publishing to it is open to all.
        let mut channel = f.channel().await;
        channel.publish("q", &["1"]).await;
        channel.close().await;
        owner.consume("q", "c").await;
        owner.brings(&["1"]).await;
        owner.close().await;
        f.is_there("q", false).await;
    })
    .await;
}

#[tokio::test]
async fn an_exclusive_consumer_keeps_other_channels_out() {
    on_both(async |f| {
        f.queue("q").await;
        let exclusive = ConsumeOptions { exclusive: true, ..ACKED };
        let mut alone = f.channel().await;
        alone.try_consume("q", "c", exclusive).await.unwrap();
        let mut other = f.channel().await;
        assert_eq!(
            other.try_consume("q", "c", ACKED).await,
            closed(403, "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use")
        );
        other.close().await;
        alone.close().await;
    })
    .await;
}

#[tokio::test]
async fn replies_come_directly_without_a_queue_of_ones_own() {
    on_both(async |f| {
        f.queue("requests").await;
        let mut request = Message::new(name(""), key("requests"), "question");
        request.properties.reply_to = Some(REPLY_TO.to_owned());
        let mut client = f.channel().await;
        assert_eq!(
            client.try_publish(request.clone(), false).await,
            closed(406, "PRECONDITION_FAILED - fast reply consumer does not exist")
        );
        client.close().await;
        let mut client = f.channel().await;
        assert_eq!(
            client.try_consume(REPLY_TO, "", ACKED).await,
            closed(406, "PRECONDITION_FAILED - reply consumer cannot acknowledge")
        );
        client.close().await;
        let mut client = f.channel().await;
        client.try_consume(REPLY_TO, "replies", NO_ACK).await.unwrap();
        client.try_publish(request.clone(), false).await.unwrap();
        let asked = f.get("requests").await;
        let to = asked.message().properties.reply_to.clone().unwrap();
        asked.ack().await;
        assert!(to.starts_with("amq.rabbitmq.reply-to.") && to.len() < 255, "{to}");
        let mut server = f.channel().await;
        let answer = |body: &'static str| Message::new(name(""), key(&to), body);
        server.try_publish(answer("answer"), false).await.unwrap();
        let answers = client.deliveries(1).await;
        assert_eq!((&*answers[0].consumer_tag, &*answers[0].body), ("replies", "answer"));
        // It is no queue, so a mandatory answer arrives, and comes back all the same.
        server.try_publish(answer("mandatory"), true).await.unwrap();
        client.brings(&["mandatory"]).await;
        let back = |body: &str| Event::Return {
            code: 312,
            text: "NO_ROUTE".to_owned(),
            body: body.to_owned(),
        };
        assert_eq!(server.next().await, back("mandatory"));
        assert_eq!(
            client.try_consume(REPLY_TO, "more", NO_ACK).await,
            closed(406, "PRECONDITION_FAILED - reply consumer already set")
        );
        client.close().await;
        // Nobody waits any more.
        server.try_publish(answer("late"), true).await.unwrap();
        assert_eq!(server.next().await, back("late"));
        server.close().await;
    })
    .await;
}
