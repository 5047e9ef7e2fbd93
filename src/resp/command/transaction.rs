//! MULTI and WATCH: requests that run as one.

use super::{ANY, Row};
use crate::cache::{Flags, Keys, Visit};
use crate::model::text::Text;
use crate::resp::client::{Client, Outcome};
use crate::resp::scripted::Scripted;

pub(super) const ROWS: &[Row] = &[
    Row::new("multi", 0, 0, multi).flags(AT_ONCE),
    Row::new("exec", 0, 0, exec).flags(Flags::SKIP_SLOWLOG),
    Row::new("discard", 0, 0, discard).flags(AT_ONCE),
    Row::new("watch", 1, ANY, watch).flags(AT_ONCE).keys(Keys::Range {
        first: 1,
        last: -1,
        step: 1,
    }),
    Row::new("unwatch", 0, 0, |client, visit, _| {
        visit.unwatch(&mut client.watch);
        client.ok();
        Outcome::Answered
    })
    .flags(AT_ONCE),
];

const AT_ONCE: Flags = Flags::FAST.and(Flags::ALLOW_BUSY);

/// What is not queued between MULTI and EXEC.
const RUN_AT_ONCE: &[&str] = &["exec", "discard", "multi", "watch", "quit", "reset"];

/// What a client may queue; past it, it is cut off.
const QUEUED_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// What is between MULTI and EXEC.
#[derive(Default)]
pub(in crate::resp) struct Transaction {
    queue: Vec<Vec<Text>>,
    bytes: usize,
    /// One of the requests could not even be queued.
    pub refused: bool,
    /// One of the requests is a script's.
    pub has_scripts: bool,
    /// One of the requests may change something.
    pub writes: bool,
    /// What at least one of the requests is.
    pub flags: Flags,
}

impl Transaction {
    pub(in crate::resp) fn takes(&self, command: &str) -> bool {
        !RUN_AT_ONCE.contains(&command)
    }

    /// Whether there is room for it.
    pub(in crate::resp) fn queue(&mut self, request: &[Text]) -> bool {
        self.bytes += request.iter().map(|arg| size_of::<Text>() + arg.len()).sum::<usize>();
        // Slices would keep a reader's whole buffer alive.
        self.queue.push(request.iter().map(|arg| Text::copy_from_slice(arg)).collect());
        self.bytes <= QUEUED_BYTES_MAX
    }

    pub(in crate::resp) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(in crate::resp) fn into_requests(self) -> Vec<Vec<Text>> {
        self.queue
    }

    pub(in crate::resp) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn multi(client: &mut Client, _: &mut Visit<'_>, _: &[Text]) -> Outcome {
    match &client.transaction {
        Some(_) => client.error("ERR MULTI calls can not be nested"),
        None => {
            client.transaction = Some(Transaction::default());
            client.ok();
        }
    }
    Outcome::Answered
}

fn discard(client: &mut Client, visit: &mut Visit<'_>, _: &[Text]) -> Outcome {
    match client.transaction.take() {
        None => client.error("ERR DISCARD without MULTI"),
        Some(_) => {
            visit.unwatch(&mut client.watch);
            client.ok();
        }
    }
    Outcome::Answered
}

fn watch(client: &mut Client, visit: &mut Visit<'_>, args: &[Text]) -> Outcome {
    if client.transaction.is_some() {
        client.error("ERR WATCH inside MULTI is not allowed");
        return Outcome::Answered;
    }
    let db = client.info.db;
    let watched = args.iter().skip(1).try_for_each(|key| visit.watch(&mut client.watch, db, key));
    match watched {
        Ok(()) => client.ok(),
        Err(error) => client.error(error.to_string()),
    }
    Outcome::Answered
}

fn exec(client: &mut Client, visit: &mut Visit<'_>, _: &[Text]) -> Outcome {
    let Some(transaction) = client.transaction.take() else {
        client.error("ERR EXEC without MULTI");
        return Outcome::Answered;
    };
    if transaction.has_scripts && !transaction.refused {
        return Outcome::Scripted(Box::new(Scripted::Transaction(transaction)));
    }
    let was_changed = visit.was_changed(&mut client.watch);
    if transaction.refused {
        client.error("EXECABORT Transaction discarded because of previous errors.");
        return Outcome::Answered;
    }
    if was_changed {
        client.writer().nil_array();
        return Outcome::Answered;
    }
    if let Err(error) = visit.may_run_as_one(transaction.flags) {
        return client.abort(visit, error);
    }
    client.writer().array(transaction.queue.len());
    visit.as_one(|visit| {
        let mut outcome = Outcome::Answered;
        for request in &transaction.queue {
            if matches!(client.run_queued(request, visit), Outcome::Close) {
                outcome = Outcome::Close;
            }
        }
        outcome
    })
}
