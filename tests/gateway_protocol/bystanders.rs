//! Two who talk while somebody else takes too much.

use serde_json::json;

use crate::socket::Socket;
use crate::stand::Stand;

const ROOM: &str = "bystanders";

pub struct Bystanders {
    speaker: Socket,
    listener: Socket,
    said: usize,
}

impl Bystanders {
    pub async fn of(stand: &Stand) -> Self {
        let mut speaker = Socket::connect(stand, "speaker").await;
        let mut listener = Socket::connect(stand, "listener").await;
        speaker.join(ROOM).await;
        listener.join(ROOM).await;
        Self { speaker, listener, said: 0 }
    }

    /// One says something, which is stored.
    pub async fn talk(&mut self) {
        let message = json!({ "roomId": ROOM, "content": self.said.to_string() });
        let ack = self.speaker.call("message:send", message).await;
        assert_eq!(ack["ok"], true, "{ack}");
        self.said += 1;
    }

    /// The other heard all of it, once and in order, and both are there still.
    pub async fn missed_nothing(mut self) {
        self.talk().await;
        for n in 0..self.said {
            assert_eq!(self.listener.event("message:new").await["content"], n.to_string());
        }
        let ack = self.listener.call("presence:update", json!("here")).await;
        assert_eq!(ack["ok"], true, "{ack}");
        assert_eq!(self.listener.seen("message:new").await.len(), 0);
        assert!(self.said > 1, "nobody said anything meanwhile");
    }
}
