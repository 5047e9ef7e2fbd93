//! A headers exchange compares a binding's arguments to a message's headers.

use leveret::model::message::{Headers, Value};
use leveret::model::topology::{Binding, ExchangeKind};

use super::fixture::{Fixture, key, name, queue_name, refusal, with_headers};

fn binding(exchange: &str, queue: &str, arguments: &[(&str, Value)]) -> Binding {
    let arguments: Headers =
        arguments.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Binding::queue(name(exchange), queue_name(queue), key("")).with_arguments(arguments)
}

#[tokio::test]
async fn all_wants_every_argument_any_wants_one_and_void_wants_presence() {
    let f = Fixture::new();
    f.exchange("h", ExchangeKind::Headers).await;
    let (a, b) = (("a", Value::Int(1)), ("b", Value::from("x")));
    let bound: [(&str, Vec<(&str, Value)>); 4] = [
        ("all", vec![("x-match", "all".into()), a.clone(), b.clone()]),
        ("default", vec![a.clone(), b.clone()]),
        ("any", vec![("x-match", "any".into()), a.clone(), b.clone()]),
        ("void", vec![("a", Value::Void)]),
    ];
    for (queue, arguments) in &bound {
        f.queue(queue).await;
        f.broker.add_binding(binding("h", queue, arguments)).await.unwrap();
    }
    let reached = async |headers: Vec<(&'static str, Value)>| {
        let message = with_headers("h", "", "1", headers);
        f.broker.publish(message).await.unwrap().confirmed().await.unwrap();
        let mut reached = Vec::new();
        for (queue, _) in &bound {
            if f.broker.purge(&queue_name(queue)).await.unwrap() == 1 {
                reached.push(*queue);
            }
        }
        reached
    };
    assert_eq!(reached(vec![a.clone(), b.clone()]).await, ["all", "default", "any", "void"]);
    assert_eq!(reached(vec![a.clone()]).await, ["any", "void"]);
    assert_eq!(reached(vec![b]).await, ["any"]);
    assert_eq!(reached(vec![("a", Value::from("1"))]).await, ["void"]);
    assert!(reached(vec![]).await.is_empty());
}

#[tokio::test]
async fn bindings_that_differ_in_their_arguments_are_two() {
    let f = Fixture::new();
    f.queue("q").await;
    let one = binding("amq.headers", "q", &[("a", Value::Int(1))]);
    let two = binding("amq.headers", "q", &[("a", Value::Int(2))]);
    for binding in [&one, &one, &two] {
        f.broker.add_binding(binding.clone()).await.unwrap();
    }
    f.broker.unbind(one).await.unwrap();
    for number in [1, 2] {
        let message = with_headers("amq.headers", "", "m", [("a", Value::Int(number))]);
        f.broker.publish(message).await.unwrap().confirmed().await.unwrap();
    }
    assert_eq!(f.depth("q").await.0, 1);
}

#[tokio::test]
async fn an_x_match_that_is_none_is_refused() {
    let f = Fixture::new();
    f.queue("q").await;
    let strange = binding("amq.match", "q", &[("x-match", "foo".into())]);
    assert_eq!(
        refusal(f.broker.add_binding(strange).await),
        "PRECONDITION_FAILED - Invalid x-match field value <<\"foo\">>; expected all, any, \
         all-with-x, or any-with-x"
    );
}
