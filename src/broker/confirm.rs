//! What tells a publisher that its messages are safe.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use super::error::BrokerError;
use crate::journal::{Commit, Commits};

/// Resolves when every queue that the message reached holds it as durably as it promised: a
/// persistent message in a durable queue once it is committed, any other at once. It fails with
/// [`BrokerError::Nacked`] when one of the queues refused the message for its length.
pub struct Confirm(State);

enum State {
    Done,
    Committing(Commit),
    Refused(String),
}

impl Confirm {
    /// `refused_by`: the queue that did not take it.
    pub(super) fn new(refused_by: Option<String>, commit: Option<Commit>) -> Self {
        Self(match (refused_by, commit) {
            (Some(name), _) => State::Refused(name),
            (None, Some(commit)) => State::Committing(commit),
            (None, None) => State::Done,
        })
    }
}

impl Future for Confirm {
    type Output = Result<(), BrokerError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Done => Poll::Ready(Ok(())),
            State::Committing(commit) => Pin::new(commit)
                .poll(context)
                .map(|outcome| outcome.map(|_| ()).map_err(BrokerError::from)),
            State::Refused(name) => {
                Poll::Ready(Err(BrokerError::Nacked { name: std::mem::take(name) }))
            }
        }
    }
}

/// The confirms of messages that were published together, in their order: each is what [`Confirm`] is
/// to a single message, and all of them cost little more than one.
#[derive(Default)]
#[must_use = "a message is only safe once it is confirmed"]
pub struct Confirms {
    parts: VecDeque<Part>,
    /// Messages that a queue refused for its length, by their place in the batch, rising.
    refused: VecDeque<(usize, String)>,
    /// The place of the next confirm in the batch.
    next: usize,
    count: usize,
}

enum Part {
    Done(usize),
    Committing(Commits),
}

impl Part {
    fn is_empty(&self) -> bool {
        match self {
            Self::Done(count) => *count == 0,
            Self::Committing(commits) => commits.is_empty(),
        }
    }

    /// Passes over the next one: the answer is known already.
    fn skip(&mut self) {
        match self {
            Self::Done(count) => *count = count.saturating_sub(1),
            Self::Committing(commits) => {
                commits.skip();
            }
        }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<(), BrokerError>>> {
        match self {
            Self::Done(_) => {
                self.skip();
                Poll::Ready(Some(Ok(())))
            }
            Self::Committing(commits) => commits.poll_next(context).map(|outcome| {
                outcome.map(|outcome| outcome.map(|_| ()).map_err(BrokerError::from))
            }),
        }
    }
}

impl Confirms {
    /// The next `count` messages need no commit.
    pub(super) fn add_done(&mut self, count: usize) {
        self.count += count;
        match self.parts.back_mut() {
            Some(Part::Done(more)) => *more += count,
            _ => self.parts.push_back(Part::Done(count)),
        }
    }

    pub(super) fn add_committing(&mut self, commits: Commits) {
        self.count += commits.len();
        self.parts.push_back(Part::Committing(commits));
    }

    /// A queue did not take the message at this place of the batch. Several may refuse one message.
    pub(super) fn refuse(&mut self, place: usize, name: String) {
        match self.refused.binary_search_by_key(&place, |(place, _)| *place) {
            // One name is enough.
            Ok(_) => {}
            Err(at) => self.refused.insert(at, (place, name)),
        }
    }

    /// How many messages there are, answered for or not.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// How many messages are not answered for yet.
    pub fn len(&self) -> usize {
        self.count - self.next
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The places in the batch of the messages that a queue refused, as far as their confirms are still
    /// to come: that is known at once.
    pub fn refused(&self) -> impl Iterator<Item = usize> {
        self.refused.iter().map(|(place, _)| *place)
    }

    /// The next message's confirm; `None` after the last. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<(), BrokerError>> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// As [`Confirms::next`].
    pub fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<(), BrokerError>>> {
        while self.parts.pop_front_if(|part| part.is_empty()).is_some() {}
        let Some(part) = self.parts.front_mut() else { return Poll::Ready(None) };
        let outcome = match self.refused.pop_front_if(|(place, _)| *place == self.next) {
            Some((_, name)) => {
                part.skip();
                Poll::Ready(Some(Err(BrokerError::Nacked { name })))
            }
            None => part.poll_next(context),
        };
        if outcome.is_ready() {
            self.next += 1;
        }
        outcome
    }

    /// Resolves when each of the messages is answered for. What failed, by its place in the batch, rising:
    /// if that is nothing, all are safe.
    pub async fn all(mut self) -> Vec<(usize, BrokerError)> {
        let mut failed = Vec::new();
        while let Some(outcome) = self.next().await {
            if let Err(error) = outcome {
                failed.push((self.next - 1, error));
            }
        }
        failed
    }
}
