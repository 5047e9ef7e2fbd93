//! An event that a back end sends over HTTP reaches its sockets, or the back end is told that it does not.

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use leveret::backend::Embedded;
use leveret::gateway::Recovery;
use leveret::http::{Access, Api};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::socket::Socket;
use crate::stand::Stand;
use crate::stores::engines;

async fn emit(api: &Api, audience: Value, payload: Value) -> (u16, Value) {
    let body = json!({ "audience": audience, "event": "news", "payload": payload }).to_string();
    let request = Request::post("/api/v1/emit").header("content-type", "application/json");
    let answer = api.router().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap())
}

fn audiences() -> [Value; 3] {
    [json!("all"), json!({ "user": "ada" }), json!({ "room": "general" })]
}

async fn stand(engines: &Embedded, recovery: Option<Recovery>) -> (Stand, Api, Socket) {
    let stand = Stand::on_cache(engines.cache(), |options| options.recovery = recovery).await;
    let api = Api::new(engines.broker(), stand.gateway.clone(), Access::Loopback);
    let mut ada = Socket::connect(&stand, "ada").await;
    ada.join("general").await;
    (stand, api, ada)
}

#[tokio::test]
async fn whoever_emits_is_told_to_how_many() {
    for recovery in [None, Some(Recovery::default())] {
        let folder = tempfile::tempdir().unwrap();
        let (engines, _disk) = engines(folder.path());
        let (_stand, api, mut ada) = stand(&engines, recovery).await;
        for (n, audience) in audiences().into_iter().enumerate() {
            let answer = emit(&api, audience, json!({ "n": n })).await;
            assert_eq!(answer, (200, json!({ "sockets": 1 })));
            assert_eq!(ada.event("news").await["n"], n);
        }
        for nobody in [json!({ "user": "bob" }), json!({ "room": "empty" })] {
            assert_eq!(emit(&api, nobody, json!(1)).await, (200, json!({ "sockets": 0 })));
        }
    }
}

#[tokio::test]
async fn when_the_journal_has_failed_whoever_emits_is_told_so() {
    // The first one's commit fails; later ones are not even begun.
    for first in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        let (engines, disk) = engines(folder.path());
        let (_stand, api, mut ada) = stand(&engines, Some(Recovery::default())).await;
        disk.fail();
        let mut audiences = audiences();
        audiences.rotate_left(first);
        for audience in audiences {
            let (status, problem) = emit(&api, audience.clone(), json!(1)).await;
            let error = "The event was not sent: it could not be made durable";
            assert_eq!((status, &problem["error"]), (503, &json!(error)), "{audience}");
        }
        assert!(ada.seen("news").await.is_empty());
    }
}
