//! A Socket.IO client over WebSocket that shows every packet.

use serde_json::{Value, json};

use crate::stand::{SILENCE, Stand, token};
use crate::websocket::{Got, QUERY, WebSocket};

pub struct Socket {
    pub websocket: WebSocket,
    pub id: String,
    next_ack: u64,
    /// Events that came while something else was waited for.
    passed: Vec<(String, Value)>,
    acks: Vec<(u64, Value)>,
}

impl Socket {
    /// A socket of a user who may join every room.
    pub async fn connect(stand: &Stand, user: &str) -> Self {
        Self::with_token(stand, &token(user)).await
    }

    pub async fn with_token(stand: &Stand, token: &str) -> Self {
        let mut websocket = WebSocket::open(stand.address, QUERY, &[]).await.unwrap();
        assert!(websocket.next_text().await.starts_with("0{"));
        websocket.text(&format!("40{}", json!({ "token": token }))).await;
        let connected = websocket.next_text().await;
        let connected: Value =
            serde_json::from_str(connected.strip_prefix("40").expect(&connected)).unwrap();
        let id = connected["sid"].as_str().unwrap().to_owned();
        Self { websocket, id, next_ack: 0, passed: Vec::new(), acks: Vec::new() }
    }

    /// Sends an event that waits for an acknowledgement, whose id it gives.
    pub async fn send(&mut self, event: &str, payload: &Value) -> u64 {
        let id = self.next_ack;
        self.next_ack += 1;
        self.websocket.text(&format!("42{id}{}", json!([event, payload]))).await;
        id
    }

    /// Sends an event and waits for its acknowledgement.
    pub async fn call(&mut self, event: &str, payload: Value) -> Value {
        let id = self.send(event, &payload).await;
        self.ack(id).await
    }

    pub async fn ack(&mut self, id: u64) -> Value {
        loop {
            if let Some(at) = self.acks.iter().position(|(got, _)| *got == id) {
                return self.acks.remove(at).1;
            }
            self.receive().await;
        }
    }

    /// The next event of this name.
    pub async fn event(&mut self, name: &str) -> Value {
        loop {
            if let Some(at) = self.passed.iter().position(|(got, _)| got == name) {
                return self.passed.remove(at).1;
            }
            self.receive().await;
        }
    }

    /// Joins a room; its history.
    pub async fn join(&mut self, room: &str) -> Value {
        let ack = self.call("join:room", json!(room)).await;
        assert_eq!(ack, json!({ "ok": true, "roomId": room }));
        self.event("room:history").await
    }

    /// The events of this name that came so far; waits a moment for more.
    pub async fn seen(&mut self, name: &str) -> Vec<Value> {
        while tokio::time::timeout(SILENCE, self.receive()).await.is_ok() {}
        self.passed.iter().filter(|(got, _)| got == name).map(|(_, value)| value.clone()).collect()
    }

    /// As [`Self::seen`], and takes them.
    #[cfg(feature = "redis")]
    pub async fn take(&mut self, name: &str) -> Vec<Value> {
        let seen = self.seen(name).await;
        self.passed.retain(|(got, _)| got != name);
        seen
    }

    async fn receive(&mut self) {
        let text = match self.websocket.next().await {
            Got::Text(text) => text,
            other => panic!("{other:?} instead of a packet"),
        };
        if text == "2" {
            return self.websocket.text("3").await;
        }
        if let Some(event) = text.strip_prefix("42") {
            // The offset behind them, where there is one, is not of interest here.
            let mut event: Vec<Value> = serde_json::from_str(event).unwrap();
            assert!((2..=3).contains(&event.len()), "{text}");
            return self
                .passed
                .push((event[0].as_str().unwrap().to_owned(), std::mem::take(&mut event[1])));
        }
        let ack = text.strip_prefix("43").expect(&text);
        let (id, payload) = ack.split_at(ack.find('[').unwrap());
        let (payload,): (Value,) = serde_json::from_str(payload).unwrap();
        self.acks.push((id.parse().unwrap(), payload));
    }
}
