//! The journal on a disk that loses power: what was confirmed is there, what was ended and confirmed
//! stays away, groups are whole. `LEVERET_SEEDS` sets how many seeds are played, `LEVERET_SEED` from
//! which on.

#![allow(clippy::type_complexity)]

mod broker;
mod disk;
mod effects;
mod faults;
mod full;
mod model;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use leveret::journal::{
    Commit, Commits, Durability, Entry, Group, Journal, JournalError, JournalOptions, OpenError,
    Payload, Stats, Urgency,
};

use disk::{Disk, Random};
use model::{KIND, Known, Model, id_of};

/// How a run looks.
#[derive(Clone, Copy)]
struct Plan {
    lives: u64,
    groups: u64,
    fault: Fault,
    /// The operation at which the first life ends; a random one if nothing is said.
    crash_at: Option<u64>,
    /// Many payloads are so large that the next commit is written while the disk is at one, which takes its time.
    large: bool,
}

impl Plan {
    const USUAL: Self =
        Self { lives: 4, groups: 40, fault: Fault::None, crash_at: None, large: false };
}

/// What the model must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// A confirm comes before the sync: a sync answers and does nothing.
    EarlyConfirm,
    /// Something that was ended comes back.
    Risen,
    /// Two facts have changed their places.
    Swapped,
    /// A group is there in part.
    Torn,
}

impl Fault {
    fn spoil(self, replayed: &mut Vec<(Entry, Vec<u8>)>, model: &Model) {
        match self {
            Self::None | Self::EarlyConfirm => {}
            Self::Risen => {
                let ended = |fact: &&Known| {
                    fact.gone || fact.ended_by.is_some_and(|group| model.confirmed[group])
                };
                let risen = model.facts.iter().find(ended);
                replayed.extend(risen.map(|fact| (fact.entry, fact.payload.clone())));
            }
            Self::Swapped => {
                if let [(first, _), (second, _), ..] = replayed.as_mut_slice() {
                    std::mem::swap(first, second);
                }
            }
            Self::Torn => {
                let group = |payload: &[u8]| {
                    let index = id_of(payload).and_then(|id| model.by_id.get(&id));
                    index.map(|&index| model.facts[index].group)
                };
                let torn = (1..replayed.len())
                    .rev()
                    .find(|&at| group(&replayed[at].1) == group(&replayed[at - 1].1));
                torn.map(|at| replayed.remove(at));
            }
        }
    }
}

fn options(plan: Plan) -> JournalOptions {
    JournalOptions {
        durability: Durability::Strict,
        segment_bytes_max: if plan.large { 4 * 1024 * 1024 } else { 64 * 1024 },
        reserve_bytes: 0,
        ..JournalOptions::default()
    }
}

fn reopen(disk: &Disk, plan: Plan) -> Result<(Journal, Vec<(Entry, Vec<u8>)>), OpenError> {
    let mut replayed = Vec::new();
    let journal = Journal::open(disk.store(), options(plan), &mut |entry, kind, payload| {
        assert_eq!(kind, KIND);
        replayed.push((entry, payload.to_vec()));
        Ok(())
    })?;
    Ok((journal, replayed))
}

/// What a run did: a test that never compacts shows nothing.
#[derive(Debug, Default)]
struct Done {
    bytes_appended: u64,
    bytes_rewritten: u64,
    /// The first life ended at the operation that was asked for, not before.
    reached: bool,
    confirmed: usize,
    failed_opens: u64,
    poisoned: u64,
    /// Writes that came while a sync went on.
    overtaken: u64,
}

impl Done {
    fn add(&mut self, other: &Self) {
        self.bytes_appended += other.bytes_appended;
        self.bytes_rewritten += other.bytes_rewritten;
        self.confirmed += other.confirmed;
        self.failed_opens += other.failed_opens;
        self.poisoned += other.poisoned;
        self.overtaken += other.overtaken;
    }
}

/// Plays one seed: several lives of one journal, each ended by a power failure, a kill or a clean stop.
fn play(seed: u64, plan: Plan) -> Result<Done, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut random = Random(seed);
    let disk = Disk::new(Random(random.next()));
    disk.state().lies = plan.fault == Fault::EarlyConfirm;
    disk.state().lingers = plan.large;
    let mut model = Model::default();
    let mut done = Done::default();
    for life in 0..plan.lives {
        // The power may also go while the journal opens.
        let typical = plan.groups * 3;
        let until_crash = (!random.one_in(4)).then(|| 1 + random.below(typical));
        disk.state().until_crash = plan.crash_at.filter(|_| life == 0).or(until_crash);
        let (journal, mut replayed) = match reopen(&disk, plan) {
            Ok(opened) => opened,
            Err(OpenError::Io { .. }) if disk.state().crashed => {
                done.failed_opens += 1;
                done.reached |= life == 0;
                disk.reboot();
                continue;
            }
            Err(error) => return Err(format!("life {life}: {error}")),
        };
        plan.fault.spoil(&mut replayed, &model);
        model.check(&replayed).map_err(|error| format!("life {life}: {error}"))?;
        let stats = runtime.block_on(live(&journal, &disk, &mut model, &mut random, plan));
        done.bytes_appended += stats.bytes_appended;
        done.bytes_rewritten += stats.bytes_rewritten;
        done.reached |= life == 0 && disk.state().until_crash == Some(0);
        done.poisoned += u64::from(journal.writable() != Err(JournalError::Closed));
        drop(journal);
        match random.one_in(3) {
            true => disk.restart(),
            false => disk.reboot(),
        }
    }
    let (_, replayed) = reopen(&disk, plan).map_err(|error| format!("at the end: {error}"))?;
    model.check(&replayed).map_err(|error| format!("at the end: {error}"))?;
    done.overtaken = disk.state().overtaken;
    let Done { bytes_appended, bytes_rewritten, .. } = done;
    if bytes_rewritten > 0 && bytes_rewritten >= bytes_appended {
        return Err(format!("compaction wrote {bytes_rewritten} bytes beside {bytes_appended}"));
    }
    done.confirmed = model.confirmed.iter().filter(|&&confirmed| confirmed).count();
    Ok(done)
}

async fn live(
    journal: &Journal,
    disk: &Disk,
    model: &mut Model,
    random: &mut Random,
    plan: Plan,
) -> Stats {
    let mut commits: Vec<(usize, Awaited)> = Vec::new();
    let mut alive: Vec<usize> = model
        .facts
        .iter()
        .enumerate()
        .filter(|(_, fact)| !fact.gone)
        .map(|(index, _)| index)
        .collect();
    let patient = random.one_in(2);
    for _ in 0..plan.groups {
        let group_index = model.confirmed.len();
        model.confirmed.push(false);
        let mut group = Group::new();
        for _ in 0..random.below(4) {
            if !alive.is_empty() && (alive.len() > 60 || random.one_in(2)) {
                // Mostly the oldest, as a queue; sometimes any.
                let at = match random.below(3) {
                    0 => random.below(alive.len() as u64),
                    _ => 0,
                };
                let index = alive.remove(usize::try_from(at).unwrap());
                model.facts[index].ended_by = Some(group_index);
                group.end(model.facts[index].entry);
            }
        }
        let mut payloads = Vec::new();
        for _ in 0..random.below(4) {
            let payload = draw_payload(model, random, plan);
            group.fact(KIND, Arc::new(payload.clone()));
            payloads.push(payload);
        }
        let urgency = match patient {
            true => Urgency::Within(Duration::from_secs(3_600)),
            false => Urgency::Now,
        };
        let appended = journal.append(group, urgency);
        for (entry, payload) in appended.entries.iter().zip(payloads) {
            alive.push(model.facts.len());
            model.by_id.insert(id_of(&payload).unwrap(), model.facts.len());
            model.facts.push(Known {
                entry: *entry,
                payload,
                group: group_index,
                ended_by: None,
                gone: false,
            });
        }
        commits.push((group_index, Awaited::One(appended.commit)));
        if random.one_in(6) {
            commits.push(append_facts(journal, model, random, &mut alive, urgency, plan));
        }
        if random.one_in(5) {
            let flushed = journal.flush().await;
            settle(&mut commits, model).await;
            if flushed.is_err() {
                break;
            }
        } else if !patient && random.one_in(4) {
            settle(&mut commits, model).await;
        }
        journal.next_position();
    }
    match random.below(3) {
        0 => journal.close(),
        1 => {
            let _ = journal.flush().await;
        }
        _ => {}
    }
    for (group, commit) in &mut commits {
        // What is settled at this moment, before the batch that it was in is.
        poll_fn(|context| {
            while let Poll::Ready(Some(outcome)) = commit.poll_next(context) {
                model.confirmed[*group] |= outcome.is_ok();
                *group += 1;
            }
            Poll::Ready(())
        })
        .await;
    }
    disk.pull_the_plug();
    journal.close();
    settle(&mut commits, model).await;
    journal.stats()
}

fn draw_payload(model: &mut Model, random: &mut Random, plan: Plan) -> Vec<u8> {
    let bytes = match random.below(if plan.large { 4 } else { 40 }) {
        0 => 300_000,
        1..4 => random.below(60_000),
        _ => random.below(3_000),
    };
    let mut payload = model.next_id.to_le_bytes().to_vec();
    payload.resize(8 + usize::try_from(bytes).unwrap(), random.next() as u8);
    model.next_id += 1;
    payload
}

/// Appends some facts in one visit, a group each: the first of these, and their commits.
fn append_facts(
    journal: &Journal,
    model: &mut Model,
    random: &mut Random,
    alive: &mut Vec<usize>,
    urgency: Urgency,
    plan: Plan,
) -> (usize, Awaited) {
    let count = 1 + random.below(5);
    let payloads: Vec<Arc<Vec<u8>>> =
        (0..count).map(|_| Arc::new(draw_payload(model, random, plan))).collect();
    let commits = journal.append_facts(KIND, &payloads, urgency);
    let first = model.confirmed.len();
    for (position, payload) in commits.positions().zip(payloads) {
        let entry = Entry { position, weight: payload.weight() };
        alive.push(model.facts.len());
        model.by_id.insert(id_of(&payload).unwrap(), model.facts.len());
        let (payload, group) = (payload.to_vec(), model.confirmed.len());
        model.facts.push(Known { entry, payload, group, ended_by: None, gone: false });
        model.confirmed.push(false);
    }
    (first, Awaited::Many(commits))
}

/// The commits of groups that follow each other.
enum Awaited {
    One(Commit),
    None,
    Many(Commits),
}

impl Awaited {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<(), JournalError>>> {
        let outcome = match self {
            Self::One(commit) => Pin::new(commit).poll(context).map(Some),
            Self::None => Poll::Ready(None),
            Self::Many(commits) => commits.poll_next(context),
        };
        if outcome.is_ready() && matches!(self, Self::One(_)) {
            *self = Self::None;
        }
        outcome.map(|outcome| outcome.map(|outcome| outcome.map(|_| ())))
    }
}

/// Notes which groups were confirmed.
async fn settle(commits: &mut Vec<(usize, Awaited)>, model: &mut Model) {
    for (mut group, mut commit) in commits.drain(..) {
        while let Some(outcome) = poll_fn(|context| commit.poll_next(context)).await {
            match outcome {
                Ok(()) => model.confirmed[group] = true,
                Err(JournalError::Poisoned { .. } | JournalError::Closed) => {}
                Err(error) => panic!("{error}"),
            }
            group += 1;
        }
    }
}

fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("LEVERET_SEED").unwrap_or(0);
    first..first + number("LEVERET_SEEDS").unwrap_or(default)
}

#[test]
fn what_was_confirmed_survives_every_power_failure() {
    let mut done = Done::default();
    for seed in seeds(400) {
        match play(seed, Plan::USUAL) {
            Ok(one) => done.add(&one),
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    if std::env::var_os("LEVERET_SEEDS").is_some() {
        return;
    }
    assert!(done.bytes_rewritten > 1_000_000, "compaction was hardly tried: {done:?}");
    assert!(done.confirmed > 1_000 && done.failed_opens > 0 && done.poisoned > 0, "{done:?}");
}

/// A life that did not come to one operation may come to the next, but not to none of so many.
const BEYOND_THE_END: u64 = 20;

#[test]
fn what_was_confirmed_survives_a_power_failure_at_every_operation() {
    let plan = Plan { lives: 2, groups: 12, ..Plan::USUAL };
    for seed in 0..4 {
        let (mut operation, mut last) = (1, 0);
        // How many operations a life takes depends on the journal's thread, too.
        while operation <= last + BEYOND_THE_END {
            let plan = Plan { crash_at: Some(operation), ..plan };
            match play(seed, plan) {
                Ok(done) if done.reached => last = operation,
                Ok(_) => {}
                Err(error) => panic!("seed {seed}, operation {operation}: {error}"),
            }
            operation += 1;
        }
        assert!(last > 20, "seed {seed}: the power went at {last} operations only");
    }
}

#[test]
fn what_was_confirmed_survives_a_power_failure_during_a_long_sync() {
    let mut done = Done::default();
    for seed in seeds(100) {
        match play(seed, Plan { large: true, ..Plan::USUAL }) {
            Ok(one) => done.add(&one),
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    if std::env::var_os("LEVERET_SEEDS").is_none() {
        assert!(done.overtaken > 100 && done.confirmed > 1_000 && done.poisoned > 0, "{done:?}");
    }
}

#[test]
fn the_model_catches_what_breaks_a_promise() {
    for fault in [Fault::EarlyConfirm, Fault::Risen, Fault::Swapped, Fault::Torn] {
        let plan = Plan { fault, ..Plan::USUAL };
        let caught = (0..40).filter(|&seed| play(seed, plan).is_err()).count();
        assert!(caught >= 10, "only {caught} of 40 seeds noticed {fault:?}");
    }
}
