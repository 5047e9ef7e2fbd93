//! A user's client that comes back: with which token, what it is given, and what it is told that is lost.

use leveret::backend::Embedded;
use leveret::gateway::{GatewayOptions, Recovery};
use leveret::journal::{Durability, JournalOptions};
use leveret::model::clock::SystemClock;
use serde_json::{Value, json};

use crate::disk::{Disk, Random};
use crate::recovery::{Connected, connected};
use crate::socket::Socket;
use crate::stand::{SILENCE, Stand, in_time, now_s, token, token_until};
use crate::websocket::{Got, QUERY, WebSocket};

fn recovers(options: &mut GatewayOptions) {
    options.recovery = Some(Recovery::default());
}

fn message(content: &str) -> Value {
    json!({ "roomId": "general", "content": content })
}

/// A client of the room `general`, which is told of nothing yet.
async fn member(stand: &Stand, user: &str) -> Connected {
    let mut client = connected(stand.address, &json!({ "token": token(user) })).await;
    client.websocket.text(r#"421["join:room","general"]"#).await;
    while !client.websocket.next_text().await.starts_with("431") {}
    client
}

/// What it is given up to the message of this content: the names of the events, the contents of the
/// messages, and the last offset.
async fn given(client: &mut Connected, last: &str) -> (Vec<String>, Vec<String>, String) {
    let (mut names, mut contents) = (Vec::new(), Vec::new());
    loop {
        let (event, offset) = client.event().await;
        names.push(event[0].as_str().unwrap().to_owned());
        if event[0] == "message:new" {
            contents.push(event[1]["content"].as_str().unwrap().to_owned());
        }
        if contents.last().is_some_and(|content| content == last) {
            return (names, contents, offset.expect("a message has an offset"));
        }
    }
}

/// Its network is gone.
async fn cut(client: Connected, stand: &Stand) -> String {
    let connections = stand.gateway.connections();
    drop(client.websocket);
    stand.connections(connections - 1).await;
    client.pid
}

#[tokio::test]
async fn who_comes_back_is_given_the_messages_and_nothing_that_only_was_so_for_a_moment() {
    let stand = Stand::with(recovers).await;
    let mut ada = member(&stand, "ada").await;
    let mut bob = Socket::connect(&stand, "bob").await;
    bob.join("general").await;
    bob.call("message:send", message("seen")).await;
    let (_, _, offset) = given(&mut ada, "seen").await;
    let pid = cut(ada, &stand).await;

    let mut eve = Socket::connect(&stand, "eve").await;
    eve.join("general").await;
    for (event, payload) in [
        ("message:send", message("one")),
        ("presence:update", json!("away")),
        ("typing:start", json!("general")),
        ("message:send", message("two")),
        ("typing:stop", json!("general")),
        ("presence:update", json!("back")),
        ("message:send", message("three")),
    ] {
        assert_eq!(bob.call(event, payload).await["ok"], true, "{event}");
    }
    // All of that was told to who was there.
    for event in ["typing:user", "typing:stop"] {
        assert_eq!(eve.event(event).await["userId"], "bob");
    }
    for status in ["away", "back"] {
        while eve.event("presence:changed").await != json!({ "userId": "bob", "status": status }) {}
    }

    let claim = json!({ "token": token("ada"), "pid": pid, "offset": offset });
    let mut ada = connected(stand.address, &claim).await;
    assert_eq!(ada.pid, pid);
    let (names, contents, _) = given(&mut ada, "three").await;
    assert_eq!(contents, ["one", "two", "three"]);
    let others: Vec<_> = names.iter().filter(|name| *name != "message:new").collect();
    let momentary = |name: &&&String| {
        ["typing:", "presence:", "room:history"].iter().any(|what| name.starts_with(what))
    };
    assert_eq!(others.iter().find(momentary), None, "{others:?}");
    // Nor behind the messages.
    bob.call("message:send", message("four")).await;
    let (names, _, _) = given(&mut ada, "four").await;
    assert_eq!(names, ["message:new"]);
}

fn opened(disk: &Disk) -> Embedded {
    let options = JournalOptions { durability: Durability::Relaxed, ..JournalOptions::default() };
    Embedded::open_on(disk.store(), options, SystemClock::shared()).unwrap()
}

/// Under relaxed durability a client may have seen what a crash takes back. By its position alone it would be
/// taken for one who saw what was sent since in that place.
#[tokio::test]
async fn who_saw_what_a_crash_took_back_is_a_new_client_and_finds_the_history() {
    let disk = Disk::new(Random(1));
    let engines = opened(&disk);
    let stand = Stand::on_cache(engines.cache(), recovers).await;
    let mut bob = member(&stand, "bob").await;
    let mut eve = member(&stand, "eve").await;
    let mut ada = Socket::connect(&stand, "ada").await;
    ada.join("general").await;
    ada.call("message:send", message("kept")).await;
    given(&mut bob, "kept").await;
    let (_, _, kept) = given(&mut eve, "kept").await;
    let eve = cut(eve, &stand).await;
    engines.journal().flush().await.unwrap();

    disk.pull_the_plug();
    assert_eq!(ada.call("message:send", message("lost")).await["ok"], true);
    let (_, _, lost) = given(&mut bob, "lost").await;
    assert!(engines.close().await.is_err(), "its commit was lost");
    disk.reboot();

    let engines = opened(&disk);
    let stand = Stand::on_cache(engines.cache(), recovers).await;
    let mut ada = Socket::connect(&stand, "ada").await;
    let history = ada.join("general").await;
    let contents = |history: &Value| -> Vec<String> {
        let messages = history["messages"].as_array().unwrap().iter();
        messages.map(|message| message["content"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(contents(&history), ["kept"]);
    for content in ["one", "two", "three", "four", "five", "six"] {
        ada.call("message:send", message(content)).await;
    }

    // One who saw what lasted is resumed.
    let claim = json!({ "token": token("eve"), "pid": eve, "offset": kept });
    let mut back = connected(stand.address, &claim).await;
    assert_eq!(back.pid, eve);
    let (_, missed, last) = given(&mut back, "six").await;
    assert_eq!(missed, ["one", "two", "three", "four", "five", "six"]);
    let position = |offset: &str| offset.split_once('-').unwrap().1.parse::<u64>().unwrap();
    assert!(position(&lost) < position(&last), "its place was given again: {lost} {last}");

    let claim = json!({ "token": token("bob"), "pid": bob.pid, "offset": lost });
    let mut again = connected(stand.address, &claim).await;
    assert_ne!(again.pid, bob.pid);
    again.websocket.text(r#"421["join:room","general"]"#).await;
    let history = loop {
        let text = again.websocket.next_text().await;
        if let Some(event) = text.strip_prefix("42") {
            let event: Value = serde_json::from_str(event).unwrap();
            if event[0] == "room:history" {
                break contents(&event[1]);
            }
        }
    };
    assert_eq!(history, ["six", "five", "four", "three", "two", "one", "kept"]);
    engines.close().await.unwrap();
}

#[tokio::test]
async fn who_comes_back_shows_a_valid_token_again() {
    let stand = Stand::with(recovers).await;
    let client = member(&stand, "ada").await;
    let pid = cut(client, &stand).await;
    let valid = token("ada");
    let forged = format!("{}x", &valid[..valid.len() - 1]);
    let other_claims = {
        // The payload of one token under the signature of another.
        let of_eve = token("eve");
        let (mut parts, of_eve) =
            (valid.split('.').collect::<Vec<_>>(), of_eve.split('.').collect::<Vec<_>>());
        parts[1] = of_eve[1];
        parts.join(".")
    };
    let expired = token_until("ada", &["*"], now_s() - 1);
    for refused in [&expired, &forged, &other_claims, &String::new()] {
        let mut websocket = WebSocket::open(stand.address, QUERY, &[]).await.unwrap();
        assert!(websocket.next_text().await.starts_with('0'));
        let claim = json!({ "token": refused, "pid": pid });
        websocket.text(&format!("40{claim}")).await;
        assert_eq!(websocket.next_text().await, r#"44{"message":"Authentication failed"}"#);
    }
    // None of them took the session away.
    let back = connected(stand.address, &json!({ "token": valid, "pid": pid })).await;
    assert_eq!(back.pid, pid);
}

#[tokio::test]
async fn who_comes_back_is_there_until_its_new_token_ends() {
    let stand = Stand::with(recovers).await;
    let (short, long) = (now_s() + 3, now_s() + 3600);
    let claim = |expires_at_s, pid: &str| json!({ "token": token_until("ada", &["*"], expires_at_s), "pid": pid });
    let first = connected(stand.address, &claim(long, "")).await;
    let longer = connected(stand.address, &claim(short, "")).await;
    let (first, longer) = (cut(first, &stand).await, cut(longer, &stand).await);
    let mut shorter = connected(stand.address, &claim(short, &first)).await;
    let mut longer_again = connected(stand.address, &claim(long, &longer)).await;
    assert_eq!((&shorter.pid, &longer_again.pid), (&first, &longer));
    let told = in_time(shorter.websocket.next_text()).await;
    assert!(told.starts_with(r#"42["error",{"message":"Token expired"}"#), "{told}");
    assert_eq!(shorter.websocket.closed().await, Got::Close(1008, "token expired".to_owned()));
    // That of the other would have ended by now, if its first token counted.
    tokio::time::sleep(SILENCE).await;
    longer_again.websocket.text(r#"421["presence:update","here"]"#).await;
    while !longer_again.websocket.next_text().await.starts_with(r#"431[{"ok":true"#) {}
}
