//! The messages of a room on their way to its list: named, appended, durable, told and acknowledged.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{Post, Room, count_deliveries};
use crate::backend::{BackendError, Push};
use crate::gateway::error::Refusal;
use crate::gateway::events;
use crate::gateway::history::{self, MESSAGES_KEPT};
use crate::gateway::io::{Ack, Draft, Outgoing, ROW_BYTES_MAX};
use crate::gateway::repeats::{Named, Receipt, Seen};

pub(super) struct Pending {
    pub(super) post: Post,
    offset: String,
    /// In the log of events; without one the last there is.
    pub(super) position: u64,
    durable: Durable,
}

/// Resolves when a message is durable, and with a log of events when it is told.
type Durable = Pin<Box<dyn Future<Output = Result<(), BackendError>> + Send>>;

#[derive(Serialize)]
struct Stored<'a> {
    ok: bool,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<&'a str>,
}

impl Room {
    /// Appends the message to the log, unless it is there. It is broadcast once it is durable.
    pub(super) async fn push(&mut self, mut post: Post) {
        if let Some(named) = post.named.take() {
            if let Err(error) = self.know_names(&named).await {
                return self.refuse(post, error);
            }
            match self.repeats.see(&named, post.ack, Instant::now()) {
                Seen::New(ack) => post.ack = ack,
                Seen::Again(ack, receipt) => return acknowledge(ack, &receipt),
                Seen::Waiting => return,
            }
            post.named = Some(named);
        }
        let json = Bytes::copy_from_slice(post.json.get().as_bytes());
        match self.append(&post, json).await {
            Ok((position, offset, durable)) => {
                self.pending_bytes += post.json.get().len();
                self.pending.push_back(Pending { post, position, offset, durable });
            }
            Err(error) => self.refuse(post, error),
        }
    }

    /// Appends a message to the room's list, and to the log of events in the same step if there is one.
    async fn append(
        &mut self,
        post: &Post,
        json: Bytes,
    ) -> Result<(u64, String, Durable), BackendError> {
        let hub = Arc::clone(&self.hub);
        let Some(recovery) = hub.recovery() else {
            let pushed = self.cache.push_capped(&self.key, json, MESSAGES_KEPT).await?;
            return Ok((u64::MAX, pushed.offset.clone(), Box::pin(pushed.durable())));
        };
        recovery.has_room().await;
        let draft = Draft::event(self.hub.name(), "message:new", &&post.json);
        // A JSON text always has a JSON form, and the name is not reserved.
        let Ok(draft) = draft else { unreachable!("a message can be encoded") };
        let list = Push { key: self.key.clone().into(), value: json, keep: MESSAGES_KEPT };
        let appended = recovery.append_told(self.members().audience(), &draft, Some(list))?;
        let (told, metrics) = (appended.told, Arc::clone(&self.metrics));
        let durable = async move {
            // The log only ends with its gateway.
            let Ok(told) = told.await else { return std::future::pending().await };
            told.map(|sockets| count_deliveries(&metrics, sockets))
        };
        Ok((appended.position, appended.offset, Box::pin(durable)))
    }

    /// The first pending messages' commits resolved: tells everybody, or a sender that its own failed.
    pub(super) fn settle(&mut self, outcomes: Vec<Result<(), BackendError>>) {
        let settled: Vec<Pending> = self.pending.drain(..outcomes.len()).collect();
        if self.hub.recovery().is_none() {
            let stored = settled.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok());
            self.tell_messages(stored.map(|(pending, _)| &*pending.post.json));
        }
        for (Pending { post, offset, .. }, outcome) in settled.into_iter().zip(outcomes) {
            self.pending_bytes -= post.json.get().len();
            match outcome {
                Ok(()) => self.acknowledge(post, offset),
                Err(error) => {
                    let json = post.json.clone();
                    self.refuse(post, error);
                    self.failed.push(json);
                }
            }
        }
        if self.pending.is_empty() {
            for done in self.flushes.drain(..) {
                let _ = done.send(());
            }
        }
    }

    fn tell_messages<'a>(&self, messages: impl Iterator<Item = &'a RawValue>) {
        let name = self.hub.name();
        // A JSON text always has a JSON form, and the name is not reserved.
        let packets =
            messages.filter_map(|json| Outgoing::event(name, "message:new", None, &json).ok());
        let row: Vec<Outgoing> = packets.collect();
        if !row.is_empty() {
            let packets = row.len();
            self.broadcast_row(&Outgoing::joined(row), packets, None);
        }
    }

    /// Tells the sender, everybody who sent it again meanwhile, and the channel, that the message is stored.
    fn acknowledge(&self, post: Post, offset: String) {
        self.metrics.messages.increment(1);
        post.sender.publish(&self.id, &post.json);
        let receipt = Receipt { id: post.id.into(), offset: Some(offset.into()) };
        acknowledge(post.ack, &receipt);
        if let Some(named) = post.named {
            for ack in self.repeats.stored(&named, receipt.clone()) {
                acknowledge(ack, &receipt);
            }
        }
    }

    /// Reads the names of the messages that an earlier run of the server stored, once, and only when a
    /// name is not known.
    async fn know_names(&mut self, named: &Named) -> Result<(), BackendError> {
        if self.knows_names || self.repeats.knows(named) {
            return Ok(());
        }
        let list = self.cache.list_range(&self.key, 0, -1).await?;
        let untold = self.untold(self.told_through());
        let now = Instant::now();
        let told = list.iter().filter(|message| !untold.contains(&message[..]));
        for message in told.filter_map(history::named) {
            let named = Named {
                user: message.user_id,
                room: self.id.clone(),
                client_id: message.client_id.into(),
            };
            self.repeats.restore(&named, &message.id, now);
        }
        self.knows_names = true;
        Ok(())
    }

    /// Tells the sender, and everybody who sent it again meanwhile.
    fn refuse(&self, post: Post, error: BackendError) {
        let repeats = post.named.map(|named| self.repeats.failed(&named)).unwrap_or_default();
        let refusal = Refusal::NotStored(error);
        for ack in std::iter::once(post.ack).chain(repeats) {
            events::refuse(&self.metrics, &post.sender.socket, &refusal, ack);
        }
    }
}

fn acknowledge(ack: Ack, receipt: &Receipt) {
    let stored = Stored { ok: true, id: &receipt.id, offset: receipt.offset.as_deref() };
    // A few fields of text always have a JSON form.
    let _ = ack.send_at_once(&stored);
}

/// Resolves when the first pending message's commit does, with the outcomes of those right behind it that
/// are known as well. Cancel safe.
pub(super) async fn first_durable(
    pending: &mut VecDeque<Pending>,
) -> Vec<Result<(), BackendError>> {
    poll_fn(|cx| {
        let (mut outcomes, mut bytes) = (Vec::new(), 0);
        for next in pending.iter_mut() {
            if bytes >= ROW_BYTES_MAX {
                break;
            }
            let Poll::Ready(outcome) = next.durable.as_mut().poll(cx) else { break };
            bytes += next.post.json.get().len();
            outcomes.push(outcome);
        }
        if outcomes.is_empty() { Poll::Pending } else { Poll::Ready(outcomes) }
    })
    .await
}
