//! What clients acknowledged, as their node tells of it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::asking::Items;
use crate::gateway::io::acks::{AllReplies, Replies, Reply};
use crate::gateway::io::socket_id::SocketId;

/// As it is written.
#[derive(Serialize, Deserialize)]
struct Told {
    id: String,
    /// Absent: it did not acknowledge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    args: Option<Vec<Box<RawValue>>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<String>,
}

pub(super) fn items(Replies { replies, missing }: Replies) -> Items {
    let told = replies.into_iter().map(|(socket, reply)| {
        let (args, attachments) = reply.into_parts();
        let attachments = attachments.iter().map(|bytes| BASE64_STANDARD.encode(bytes)).collect();
        Told { id: socket.id().to_string(), args: Some(args), attachments }
    });
    let missing = missing.into_iter().map(|socket| Told {
        id: socket.id().to_string(),
        args: None,
        attachments: Vec::new(),
    });
    told.chain(missing).filter_map(|told| serde_json::value::to_raw_value(&told).ok()).collect()
}

/// Adds what another node told.
pub fn add(all: &mut AllReplies, items: &Items) {
    for item in items {
        let read = serde_json::from_str(item.get()).ok().and_then(Told::read);
        match read {
            Some((id, Some(reply))) => all.replies.push((id, reply)),
            Some((id, None)) => all.missing.push(id),
            None => tracing::warn!("another node told what this version does not read"),
        }
    }
}

impl Told {
    fn read(self) -> Option<(SocketId, Option<Reply>)> {
        let attachments: Result<Vec<Bytes>, _> = self
            .attachments
            .iter()
            .map(|text| BASE64_STANDARD.decode(text).map(Bytes::from))
            .collect();
        let attachments = attachments.ok()?;
        let reply = self.args.map(|args| Reply::of_parts(args, attachments));
        Some((SocketId::parse(&self.id)?, reply))
    }
}
