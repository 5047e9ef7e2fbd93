//! A headers exchange compares a binding's arguments to a message's headers.

use leveret::model::message::{Headers, Value};
use leveret::model::topology::{Binding, ExchangeKind};

use super::fixture::{key, name, queue_name, with_headers};
use super::peer::on_both;

fn binding(exchange: &str, queue: &str, arguments: &[(&str, Value)]) -> Binding {
    let arguments: Headers =
        arguments.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Binding::queue(name(exchange), queue_name(queue), key("")).with_arguments(arguments)
}

#[tokio::test]
async fn all_wants_every_argument_any_wants_one_and_void_wants_presence() {
    on_both(async |f| {
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
            f.add_binding(binding("h", queue, arguments)).await.unwrap();
        }
        let reached = async |headers: Vec<(&'static str, Value)>| {
            let message = with_headers("h", "", "1", headers);
            assert_eq!(f.send(message).await, Ok(true));
            let mut reached = Vec::new();
            for (queue, _) in &bound {
                if f.purge(queue).await.unwrap() == 1 {
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
    })
    .await;
}

#[tokio::test]
async fn headers_with_an_x_count_only_where_a_binding_says_so() {
    on_both(async |f| {
        f.exchange("h", ExchangeKind::Headers).await;
        let (own, plain) = (("x-a", Value::Int(1)), ("b", Value::from("x")));
        let bound = ["all", "any", "all-with-x", "any-with-x"];
        for queue in bound {
            f.queue(queue).await;
            let arguments = [("x-match", queue.into()), own.clone(), plain.clone()];
            f.add_binding(binding("h", queue, &arguments)).await.unwrap();
        }
        let reached = async |headers: Vec<(&'static str, Value)>| {
            let message = with_headers("h", "", "1", headers);
            assert_eq!(f.send(message).await, Ok(true));
            let mut reached = Vec::new();
            for queue in bound {
                if f.purge(queue).await.unwrap() == 1 {
                    reached.push(queue);
                }
            }
            reached
        };
        assert_eq!(reached(vec![own.clone(), plain.clone()]).await, bound);
        assert_eq!(reached(vec![plain]).await, ["all", "any", "any-with-x"]);
        assert_eq!(reached(vec![own]).await, ["any-with-x"]);
        assert!(reached(vec![("x-a", Value::Int(2))]).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn bindings_that_differ_in_their_arguments_are_two() {
    on_both(async |f| {
        f.queue("q").await;
        let one = binding("amq.headers", "q", &[("a", Value::Int(1))]);
        let two = binding("amq.headers", "q", &[("a", Value::Int(2))]);
        for binding in [&one, &one, &two] {
            f.add_binding(binding.clone()).await.unwrap();
        }
        f.unbind(one).await.unwrap();
        for number in [1, 2] {
            let message = with_headers("amq.headers", "", "m", [("a", Value::Int(number))]);
            assert_eq!(f.send(message).await, Ok(true));
        }
        f.holds("q", (1, 0, 0)).await;
    })
    .await;
}

#[tokio::test]
async fn an_x_match_that_is_none_is_refused() {
    on_both(async |f| {
        f.queue("q").await;
        let strange = binding("amq.match", "q", &[("x-match", "foo".into())]);
        assert_eq!(
            f.add_binding(strange).await.unwrap_err(),
            "PRECONDITION_FAILED - Invalid x-match field value <<\"foo\">>; expected all, any, \
         all-with-x, or any-with-x"
        );
    })
    .await;
}
