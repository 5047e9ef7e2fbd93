//! What a message says about itself comes as it was sent.

use leveret::model::message::{Headers, Message, Value};

use super::fixture::{key, name, text};
use super::peer::on_both;

#[tokio::test]
async fn every_property_and_field_type_comes_as_it_was_sent() {
    let table: Headers =
        [("deep".to_owned(), Value::List(vec![Value::Int(-1), Value::Void]))].into_iter().collect();
    let headers: [(&str, Value); 11] = [
        ("void", Value::Void),
        ("bool", Value::Bool(true)),
        ("int", Value::Int(-5)),
        ("long", Value::Int(i64::MAX)),
        ("double", Value::Double(0.1)),
        ("text", Value::from("text, ünï")),
        ("empty", Value::from("")),
        ("binary", Value::Binary(vec![0, 255, b'x'].into())),
        ("time", Value::Timestamp(1_700_000_000)),
        ("list", Value::List(vec![Value::from("a"), Value::List(Vec::new())])),
        ("table", Value::Table(table)),
    ];
    on_both(async |f| {
        f.queue("q").await;
        let mut message = Message::new(name(""), key("q"), "1").persistent();
        let properties = &mut message.properties;
        properties.headers =
            headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        properties.priority = Some(7);
        properties.expiration_ms = Some(3_600_000);
        properties.content_type = Some("application/json".to_owned());
        properties.content_encoding = Some("gzip".to_owned());
        properties.correlation_id = Some("c-1".to_owned());
        properties.reply_to = Some("somewhere".to_owned());
        properties.message_id = Some("m-1".to_owned());
        properties.timestamp_s = Some(1_700_000_001);
        properties.kind = Some("order.created".to_owned());
        properties.app_id = Some("shop".to_owned());
        let sent = message.clone();
        assert_eq!(f.send(message).await, Ok(true));
        let taken = f.get("q").await;
        let got = taken.message();
        assert_eq!(text(got), "1");
        assert_eq!((&got.exchange, &got.routing_key), (&sent.exchange, &sent.routing_key));
        for (name, value) in &headers {
            assert_eq!(got.properties.headers.get(name), Some(value), "{name}");
        }
        assert_eq!(got.properties.headers.iter().count(), headers.len());
        let bare = |message: &Message| {
            let mut properties = message.properties.clone();
            properties.headers = Headers::default();
            properties
        };
        assert_eq!(bare(got), bare(&sent));
        taken.ack().await;
    })
    .await;
}
