//! Sessions begin as the stock server's do, and what is no beginning is refused in its words.

use serde_json::Value;

use crate::http::{Polling, request};
use crate::stand::Stand;
use crate::websocket::{QUERY, WebSocket};

#[tokio::test]
async fn a_polling_session_is_told_what_it_needs_to_know() {
    let stand = Stand::start().await;
    let answer = request(stand.address, "GET", "EIO=4&transport=polling&t=x1", &[], "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=UTF-8"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let open: Value = serde_json::from_str(answer.body.strip_prefix('0').unwrap()).unwrap();
    let mut keys: Vec<&String> = open.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["maxPayload", "pingInterval", "pingTimeout", "sid", "upgrades"]);
    assert_eq!(open["upgrades"], serde_json::json!(["websocket"]));
    assert_eq!(open["pingInterval"], 25_000);
    assert_eq!(open["pingTimeout"], 20_000);
    assert_eq!(open["maxPayload"], 1_000_000);
    assert_ne!(Polling::open(stand.address).await.sid, open["sid"].as_str().unwrap());
}

#[tokio::test]
async fn a_websocket_session_has_no_upgrades() {
    let stand = Stand::start().await;
    let mut websocket = WebSocket::open(stand.address, QUERY, &[]).await.unwrap();
    let open: Value = serde_json::from_str(&websocket.next_text().await[1..]).unwrap();
    assert_eq!(open["upgrades"], serde_json::json!([]));
}

#[tokio::test]
async fn what_is_no_session_is_refused_in_the_stock_servers_words() {
    let stand = Stand::start().await;
    let session = Polling::open(stand.address).await;
    let unknown = r#"{"code":1,"message":"Session ID unknown"}"#;
    let bad = r#"{"code":3,"message":"Bad request"}"#;
    let transport = r#"{"code":0,"message":"Transport unknown"}"#;
    let of_session = format!("EIO=4&transport=websocket&sid={}", session.sid);
    let refused = [
        ("GET", "EIO=4", transport),
        ("GET", "EIO=4&transport=carrier-pigeon", transport),
        ("GET", "EIO=4&transport=polling&sid=nobody", unknown),
        ("GET", "EIO=4&transport=polling&sid=00000000-0000-4000-8000-000000000000", unknown),
        ("POST", "EIO=4&transport=polling&sid=nobody", unknown),
        ("POST", "EIO=4&transport=polling", r#"{"code":2,"message":"Bad handshake method"}"#),
        ("DELETE", "EIO=4&transport=polling", r#"{"code":2,"message":"Bad handshake method"}"#),
        ("GET", "EIO=4&transport=websocket", bad),
        ("GET", &of_session, bad),
        (
            "GET",
            "EIO=3&transport=polling",
            r#"{"code":5,"message":"Unsupported protocol version"}"#,
        ),
        ("PUT", &session.query(), bad),
    ];
    for (method, query, body) in refused {
        let answer = request(stand.address, method, query, &[], "").await;
        assert_eq!((answer.status, answer.body.as_str()), (400, body), "{method} {query}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    assert!(session.is_known().await, "a request that was refused ends no session");
}

#[tokio::test]
async fn there_are_only_so_many_sessions() {
    let stand = Stand::with(|options| options.limits.sessions_max = 2).await;
    let first = Polling::open(stand.address).await;
    Polling::open(stand.address).await;
    let answer = request(stand.address, "GET", "EIO=4&transport=polling", &[], "").await;
    assert_eq!(answer.status, 503);
    assert_eq!(WebSocket::open(stand.address, QUERY, &[]).await.err(), Some(503));
    first.post("1").await;
    crate::stand::in_time(async { while first.is_known().await {} }).await;
    Polling::open(stand.address).await;
}

#[tokio::test]
async fn pages_of_listed_origins_may_connect_with_credentials() {
    let stand = Stand::start().await;
    let (query, own) = ("EIO=4&transport=polling", format!("http://{}", stand.address));
    let listed = "http://localhost:3000";
    let headers = [
        ("Origin", listed),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "content-type,x-mine"),
    ];
    let preflight = request(stand.address, "OPTIONS", query, &headers, "").await;
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-origin"), Some(listed));
    assert_eq!(preflight.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(preflight.header("access-control-allow-headers"), Some("content-type,x-mine"));
    assert!(preflight.header("access-control-allow-methods").unwrap().contains("POST"));

    for (origin, allowed) in [(listed, true), ("http://evil.example", false), (&own, false)] {
        let answer = request(stand.address, "GET", query, &[("Origin", origin)], "").await;
        assert_eq!(answer.header("access-control-allow-origin"), allowed.then_some(origin));
        let credentials = answer.header("access-control-allow-credentials");
        assert_eq!(credentials, allowed.then_some("true"));
        assert_eq!(answer.header("vary"), Some("Origin"));
    }
    // Refusals too, or the page could not tell why.
    let answer = request(stand.address, "GET", "EIO=4", &[("Origin", listed)], "").await;
    assert_eq!(answer.header("access-control-allow-origin"), Some(listed));
}

#[tokio::test]
async fn pages_may_be_let_in_without_credentials() {
    let stand = Stand::with(|options| options.cors_credentials = false).await;
    let (query, listed) = ("EIO=4&transport=polling", "http://localhost:3000");
    let headers = [("Origin", listed), ("Access-Control-Request-Method", "POST")];
    for method in ["OPTIONS", "GET"] {
        let answer = request(stand.address, method, query, &headers, "").await;
        assert_eq!(answer.header("access-control-allow-origin"), Some(listed), "{method}");
        assert_eq!(answer.header("access-control-allow-credentials"), None, "{method}");
    }
}

#[tokio::test]
async fn a_websocket_of_a_foreign_page_is_forbidden() {
    let stand = Stand::start().await;
    let own = format!("http://{}", stand.address);
    for origin in ["http://localhost:3000", &own] {
        assert!(WebSocket::open(stand.address, QUERY, &[("Origin", origin)]).await.is_ok());
    }
    let session = Polling::open(stand.address).await;
    let upgrade = format!("{QUERY}&sid={}", session.sid);
    for origin in ["http://evil.example", "null", "http://localhost:3001"] {
        for query in [QUERY, &upgrade] {
            let refused = WebSocket::open(stand.address, query, &[("Origin", origin)]).await;
            assert_eq!(refused.err(), Some(403), "{origin} {query}");
        }
    }
}

#[tokio::test]
async fn another_version_of_websocket_is_told_the_one_that_is_spoken() {
    let stand = Stand::start().await;
    let headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "8"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let query = "EIO=4&transport=websocket";
    let refused = request(stand.address, "GET", query, &headers, "").await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.body, r#"{"code":3,"message":"Bad request"}"#);
    assert_eq!(refused.header("Sec-WebSocket-Version"), Some("13"));
}
