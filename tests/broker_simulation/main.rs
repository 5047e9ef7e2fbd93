//! The whole broker against a naive oracle: random steps, power failures, restarts, and every answer
//! compared.
//!
//! `LEVERET_SEED` says from which seed on, `LEVERET_SEEDS` how many, `LEVERET_STEPS` how many steps each.
//! A seed gives the same steps each time; when a power failure hits the journal's thread depends on
//! that thread too, in all but the first of four lives.

#[path = "../journal_crash/disk.rs"]
mod disk;
mod durable;
mod engine;
mod faults;
mod headers;
mod letter;
mod names;
mod queue;
mod regressions;
mod shared;
mod step;
mod view;
mod world;

use leveret::journal::OpenError;
use leveret::model::clock::ManualClock;

use disk::{Disk, Random};
use durable::Durable;
use engine::{Engine, Settled};
use faults::Fault;
use shared::{Shared, distinct};
use step::{Seen, Sizes, Step, draw, prelude};
use world::{World, merged};

const START_MS: u64 = 1_000_000;
/// Worlds that are as good as each other; more of them and the oracle says nothing any more, and the seed
/// ends there.
const WORLDS_MAX: usize = 2_000;

#[derive(Debug, Default)]
struct Done {
    crashes: usize,
    restarts: usize,
    most_worlds: usize,
    /// Seeds that ended early for their worlds.
    undecided: usize,
    /// Messages of one queue on the disk alone that are in others too.
    most_fanned_out: usize,
    largest_body_bytes: u64,
}

struct Run {
    random: Random,
    seen: Seen,
    worlds: Vec<World>,
    /// The steps since the last start.
    trace: Vec<String>,
    fault: Fault,
    /// The backlog is on the disk alone.
    paged: bool,
    /// Every step is on disk before the next.
    lockstep: bool,
    done: Done,
}

fn play(seed: u64, steps: u64, fault: Fault) -> Result<Done, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut random = Random(seed);
    let disk = Disk::new(Random(random.next()));
    disk.state().lies = fault == Fault::LyingDisk;
    let clock = ManualClock::at(START_MS);
    let paged = seed % 2 == 1;
    let sizes = match seed % 8 {
        2 | 7 => Sizes::Large,
        _ => Sizes::Small,
    };
    let mut engine = Engine::open(disk, clock, fault, paged).map_err(|error| error.to_string())?;
    let mut run = Run {
        lockstep: random.one_in(4),
        random,
        seen: Seen { sizes, ..Seen::default() },
        worlds: vec![World::new(START_MS)],
        trace: Vec::new(),
        fault,
        paged,
        done: Done::default(),
    };
    let prelude = prelude(&mut run.random, sizes);
    for number in 0..steps {
        let first = usize::try_from(number).ok().and_then(|number| prelude.get(number)).cloned();
        let step = first.unwrap_or_else(|| draw(&mut run.random, &mut run.seen));
        let outcome = runtime.block_on(run.step(engine, &step));
        engine = outcome.map_err(|error| {
            let trace = run.trace.join("\n  ");
            format!("seed {seed}, step {number}: {error}\nsince the last start:\n  {trace}")
        })?;
        run.done.most_worlds = run.done.most_worlds.max(run.worlds.len());
        if run.worlds.len() > WORLDS_MAX {
            run.done.undecided = 1;
            break;
        }
    }
    engine.crash();
    Ok(run.done)
}

impl Run {
    async fn step(&mut self, mut engine: Engine, step: &Step) -> Result<Engine, String> {
        if engine.disk.state().crashed {
            return self.crash(engine).await;
        }
        match step {
            Step::Crash => return self.crash(engine).await,
            Step::Restart => return self.restart(engine).await,
            _ => {}
        }
        self.trace.push(format!("{step:?}"));
        let outcome = engine.step(step).await;
        let Some(answer) = outcome.answer else {
            // The power went. Some of the step may have happened, and none of it was confirmed.
            self.fork(step);
            return self.crash(engine).await;
        };
        self.advance(step, &answer, &engine)?;
        self.note(step);
        let wait = self.random.one_in(4);
        if wait && let Some(confirm) = outcome.commit {
            match confirm.await {
                true => self.worlds.iter_mut().for_each(World::confirmed),
                false => return self.crash(engine).await,
            }
        }
        match outcome.settled.filter(|_| wait) {
            Some(Settled::AtOnce) => self.worlds.iter_mut().for_each(World::settled),
            Some(Settled::With(commit)) => match commit.await {
                Ok(_) => self.worlds.iter_mut().for_each(World::confirmed),
                Err(_) => return self.crash(engine).await,
            },
            None => {}
        }
        if self.lockstep || matches!(step, Step::Flush) {
            match engine.journal.flush().await {
                Ok(_) => self.worlds.iter_mut().for_each(World::flushed),
                Err(_) => return self.crash(engine).await,
            }
            self.merge();
            self.done.most_fanned_out = self.done.most_fanned_out.max(engine.page_out());
        }
        Ok(engine)
    }

    /// Keeps the worlds that give the engine's answer, and look as it looks afterwards.
    fn advance(&mut self, step: &Step, answer: &str, engine: &Engine) -> Result<(), String> {
        let view = engine.view();
        let (mut fit, mut unfit, mut unfit_count) = (Vec::new(), None, 0);
        for (world, expected) in self.worlds.iter().flat_map(|world| world.step(step)) {
            if expected == answer && world.looks_like(&view) {
                fit.push(world);
            } else {
                unfit.get_or_insert((world, expected));
                unfit_count += 1;
            }
        }
        if let (true, Some((world, expected))) = (fit.is_empty(), unfit) {
            let expected_view = world.view();
            return Err(format!(
                "{step:?}\n  answered {answer:?}, expected {expected:?}\n  looks like {view:#?}\n  \
                 expected {expected_view:#?}\n  and {} more",
                unfit_count - 1
            ));
        }
        self.worlds = merged(fit);
        Ok(())
    }

    /// Adds the worlds in which a step happened.
    fn fork(&mut self, step: &Step) {
        let after: Vec<World> =
            self.worlds.iter().flat_map(|world| world.step(step)).map(|(world, _)| world).collect();
        self.worlds.extend(after);
        self.merge();
    }

    fn merge(&mut self) {
        self.worlds = merged(self.worlds.drain(..));
    }

    fn note(&mut self, step: &Step) {
        match step.inner() {
            Step::Publish(publish) => {
                let largest = &mut self.done.largest_body_bytes;
                *largest = publish.body_bytes.max(*largest);
            }
            Step::Consume { number, .. } if self.worlds[0].consumers.contains_key(number) => {
                self.seen.consumers.push(*number);
            }
            Step::Cancel(number) => self.seen.consumers.retain(|other| other != number),
            Step::Get(_, hand) | Step::Take(_, hand) if self.worlds[0].hands.contains_key(hand) => {
                self.seen.hands.push(*hand);
            }
            Step::Ack(hand) | Step::Requeue(hand) | Step::Fail(hand) => {
                self.seen.hands.retain(|other| other != hand);
            }
            Step::AckWith(hand, _) if !self.worlds[0].hands.contains_key(hand) => {
                self.seen.hands.retain(|other| other != hand);
            }
            _ => {}
        }
    }

    async fn crash(&mut self, engine: Engine) -> Result<Engine, String> {
        self.done.crashes += 1;
        let clock = engine.clock.clone();
        let disk = engine.crash();
        self.start(disk, clock)
    }

    /// A stop in order: what is in hands goes back first.
    async fn restart(&mut self, mut engine: Engine) -> Result<Engine, String> {
        self.done.restarts += 1;
        let hands = self.seen.hands.clone().into_iter().map(Step::Requeue);
        let cancels = self.seen.consumers.clone().into_iter().map(Step::Cancel);
        for step in hands.chain(cancels).chain([Step::HangUp]) {
            self.trace.push(format!("{step:?}"));
            let outcome = engine.step(&step).await;
            self.advance(&step, &outcome.answer.unwrap_or_default(), &engine)?;
        }
        let clock = engine.clock.clone();
        for world in &mut self.worlds {
            let (closed, _) = world.step(&Step::Restart).remove(0);
            *world = closed;
        }
        let (disk, written) = engine.stop().await;
        if written {
            self.worlds.iter_mut().for_each(World::flushed);
        } else {
            disk.reboot();
        }
        self.start(disk, clock)
    }

    fn start(&mut self, disk: Disk, clock: std::sync::Arc<ManualClock>) -> Result<Engine, String> {
        let mut kept: Vec<Shared<Durable>> =
            distinct(self.worlds.iter().flat_map(World::survivors).cloned(), |_, _| {});
        let engine = loop {
            disk.state().until_crash = (!self.random.one_in(3))
                .then(|| 1 + self.random.below(if self.lockstep { 2_000 } else { 600 }));
            match Engine::open(disk.clone(), clock.clone(), self.fault, self.paged) {
                Ok(engine) => break engine,
                Err(OpenError::Io { .. }) if disk.state().crashed => {
                    // It may have come as far as a life of its own.
                    let opened: Vec<Shared<Durable>> = kept
                        .iter()
                        .filter(|durable| durable.closed)
                        .map(|durable| {
                            Shared::new(Durable { closed: false, ..(**durable).clone() })
                        })
                        .collect();
                    kept.extend(opened);
                    disk.reboot();
                }
                Err(error) => return Err(format!("it does not open: {error}")),
            }
        };
        let now_ms = self.worlds[0].now_ms;
        let numbers = self.worlds.iter().map(World::numbers).max().unwrap();
        let view = engine.view();
        let started = |durable: &Shared<Durable>| World::recovered(durable, now_ms, numbers);
        let fit = kept.iter().flat_map(started).filter(|world| world.looks_like(&view));
        self.worlds = merged(fit);
        if self.worlds.is_empty() {
            let shown = |durable: &Shared<Durable>| started(durable).first().map(World::view);
            let (oldest, newest) = (kept.first().and_then(shown), kept.last().and_then(shown));
            return Err(format!(
                "after a start it looks like {view:#?}\n  and none of {} states is so; the oldest \
                 {oldest:#?}\n the newest {newest:#?}",
                kept.len()
            ));
        }
        self.seen.consumers.clear();
        self.seen.hands.clear();
        self.trace.clear();
        self.trace.push(format!("{view:?}"));
        Ok(engine)
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn the_broker_answers_as_the_oracle_does_through_every_crash() {
    let first = number("LEVERET_SEED").unwrap_or(0);
    let by_hand = number("LEVERET_SEED").map(|_| 1);
    let seeds = number("LEVERET_SEEDS").or(by_hand).unwrap_or(24);
    let steps = number("LEVERET_STEPS").unwrap_or(500);
    let mut done = Done::default();
    for seed in first..first + seeds {
        match play(seed, steps, Fault::None) {
            Ok(one) => {
                done.crashes += one.crashes;
                done.restarts += one.restarts;
                done.most_worlds = done.most_worlds.max(one.most_worlds);
                done.undecided += one.undecided;
                done.most_fanned_out = done.most_fanned_out.max(one.most_fanned_out);
                done.largest_body_bytes = done.largest_body_bytes.max(one.largest_body_bytes);
                if (seed - first) % 100 == 99 {
                    println!("seeds up to {seed}: {done:?}");
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
    println!("{seeds} seeds of {steps} steps: {done:?}");
    assert!(done.undecided as u64 * 20 <= seeds, "hardly anything was compared: {done:?}");
    assert!(seeds < 10 || done.most_fanned_out > 2, "fan-out hardly left memory: {done:?}");
    // More than a row of the log has.
    assert!(seeds < 10 || done.largest_body_bytes > 256 * 1024, "no large body: {done:?}");
}

/// The first two of a few seeds that notice a fault; with `paged`, of those that have the backlog on the
/// disk.
fn caught(fault: Fault, paged: bool) -> Vec<u64> {
    let seeds = (0..10).filter(|seed| !paged || seed % 2 == 1);
    seeds.filter(|&seed| play(seed, 300, fault).is_err()).take(2).collect()
}

#[test]
fn the_oracle_notices_what_breaks_a_promise() {
    let faults = [
        Fault::Reordered,
        Fault::LostSettlement,
        Fault::LostMessage,
        Fault::SwappedPositions,
        Fault::LyingDisk,
        Fault::TwoCommits,
        Fault::OutlivesItsOwner,
        Fault::NotExclusive,
        Fault::NoQuorum,
        Fault::ComparesAll,
        Fault::ShowsBcc,
    ];
    // One of them with the backlog on the disk too.
    let runs =
        faults.map(|fault| (fault, false)).into_iter().chain([(Fault::LostSettlement, true)]);
    for (fault, paged) in runs {
        let caught = caught(fault, paged);
        assert_eq!(caught.len(), 2, "of 10 seeds only {caught:?} noticed {fault:?}");
    }
}
