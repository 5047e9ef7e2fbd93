//! The future of a commit.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::{JournalError, Position};

/// Resolves when what was appended is as durable as the journal promises, or failed.
/// Dropping it loses nothing.
pub struct Commit {
    position: Position,
}

impl Commit {
    pub(super) fn resolved(position: Position) -> Self {
        Self { position }
    }

    /// The highest position of the group that it stands for.
    pub fn position(&self) -> Position {
        self.position
    }
}

impl Future for Commit {
    type Output = Result<Position, JournalError>;

    fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(self.position))
    }
}
