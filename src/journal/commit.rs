//! The future of a commit, and the batch that it waits for.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::{JournalError, Position};

/// Resolves when what was appended is as durable as the journal promises, or failed: then it is
/// unknown whether it survives. Dropping it loses nothing.
#[must_use = "a commit that nobody awaits says nothing about durability"]
pub struct Commit {
    position: Position,
    state: State,
}

enum State {
    Settled(Result<(), JournalError>),
    Waiting { batch: Arc<Waiters>, group: u32 },
}

impl Commit {
    pub(super) fn settled(position: Position, outcome: Result<(), JournalError>) -> Self {
        Self { position, state: State::Settled(outcome) }
    }

    pub(super) fn waiting(position: Position, batch: Arc<Waiters>, group: u32) -> Self {
        Self { position, state: State::Waiting { batch, group } }
    }

    /// The highest position of the group that it stands for.
    pub fn position(&self) -> Position {
        self.position
    }
}

impl Future for Commit {
    type Output = Result<Position, JournalError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = match &self.state {
            State::Settled(outcome) => Poll::Ready(outcome.clone()),
            State::Waiting { batch, group } => batch.poll(*group, context),
        };
        outcome.map(|outcome| outcome.map(|()| self.position))
    }
}

/// The commits of facts that were appended together and are a group each, in their order, at the price
/// of one. Dropping it loses nothing.
#[must_use = "commits that nobody awaits say nothing about durability"]
pub struct Commits {
    first: Position,
    count: u32,
    state: State,
}

impl Commits {
    pub(super) fn settled(first: Position, count: u32, outcome: Result<(), JournalError>) -> Self {
        Self { first, count, state: State::Settled(outcome) }
    }

    /// Their groups follow each other from `group` on.
    pub(super) fn waiting(first: Position, count: u32, batch: Arc<Waiters>, group: u32) -> Self {
        Self { first, count, state: State::Waiting { batch, group } }
    }

    /// The position of each fact, in order.
    pub fn positions(&self) -> impl ExactSizeIterator<Item = Position> + use<> {
        let first = self.first.0;
        (0..self.count).map(move |at| Position(first + u64::from(at)))
    }

    /// The next one alone.
    pub fn into_next(self) -> Commit {
        Commit { position: self.first, state: self.state }
    }

    /// How many are left.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What the next commit came to; `None` after the last. What is pending wakes only for that one.
    pub fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Position, JournalError>>> {
        if self.is_empty() {
            return Poll::Ready(None);
        }
        let outcome = match &self.state {
            State::Settled(outcome) => Poll::Ready(outcome.clone()),
            State::Waiting { batch, group } => batch.poll(*group, context),
        };
        outcome.map(|outcome| self.skip().map(|position| outcome.map(|()| position)))
    }

    /// Leaves the next commit to itself: its position.
    pub fn skip(&mut self) -> Option<Position> {
        self.count = self.count.checked_sub(1)?;
        if let State::Waiting { group, .. } = &mut self.state {
            *group += 1;
        }
        let position = self.first;
        self.first.0 += 1;
        Some(position)
    }
}

/// Those who wait for one batch, by group.
#[derive(Default)]
pub(super) struct Waiters {
    state: Mutex<WaitersState>,
    /// All of it is on disk: what `state` says, for those who come when it is over.
    is_committed: AtomicBool,
}

#[derive(Default)]
struct WaitersState {
    outcome: Option<Result<(), JournalError>>,
    /// Grows only as far as somebody waits or was settled early.
    groups: Vec<Waiting>,
}

#[derive(Default)]
enum Waiting {
    #[default]
    Nobody,
    Polled(Waker),
    /// Nothing of the group is left to be written.
    Settled,
}

impl WaitersState {
    fn group(&mut self, group: u32) -> Option<&mut Waiting> {
        let index = group as usize;
        if self.groups.len() <= index {
            self.groups.resize_with(index + 1, Waiting::default);
        }
        self.groups.get_mut(index)
    }
}

impl Waiters {
    fn poll(&self, group: u32, context: &mut Context<'_>) -> Poll<Result<(), JournalError>> {
        if self.is_committed.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        let mut state = self.state.lock();
        if let Some(outcome) = &state.outcome {
            return Poll::Ready(outcome.clone());
        }
        match state.group(group) {
            Some(Waiting::Settled) => Poll::Ready(Ok(())),
            Some(Waiting::Polled(waker)) => {
                waker.clone_from(context.waker());
                Poll::Pending
            }
            Some(waiting) => {
                *waiting = Waiting::Polled(context.waker().clone());
                Poll::Pending
            }
            None => Poll::Pending,
        }
    }

    /// Settles one group before its batch. The waker is to be woken once no lock is held.
    pub(super) fn settle(&self, group: u32) -> Option<Waker> {
        let mut state = self.state.lock();
        match state.group(group).map(|waiting| std::mem::replace(waiting, Waiting::Settled)) {
            Some(Waiting::Polled(waker)) => Some(waker),
            _ => None,
        }
    }

    /// Settles all that is left, once, and wakes those who wait.
    pub(super) fn resolve(&self, outcome: Result<(), JournalError>) {
        let groups = {
            let mut state = self.state.lock();
            let outcome = state.outcome.get_or_insert(outcome);
            self.is_committed.store(outcome.is_ok(), Ordering::Release);
            std::mem::take(&mut state.groups)
        };
        for waiting in groups {
            if let Waiting::Polled(waker) = waiting {
                waker.wake();
            }
        }
    }
}
