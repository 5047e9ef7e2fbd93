//! What must be, can be and can't be on the disk.

use std::collections::{BTreeMap, HashMap};

use leveret::journal::{Entry, Kind};

/// A fact as the model knows it. `id` is part of the payload: positions of what a crash took back may
/// be given again.
#[derive(Debug, Clone)]
pub struct Known {
    pub entry: Entry,
    pub payload: Vec<u8>,
    pub group: usize,
    /// The group that ended it.
    pub ended_by: Option<usize>,
    /// It was not there after a restart, and must stay away.
    pub gone: bool,
}

#[derive(Default)]
pub struct Model {
    pub facts: Vec<Known>,
    pub by_id: HashMap<u64, usize>,
    /// Whether the commit of each group resolved well.
    pub confirmed: Vec<bool>,
    pub next_id: u64,
}

pub const KIND: Kind = Kind(9);

pub fn id_of(payload: &[u8]) -> Option<u64> {
    payload.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes))
}

impl Model {
    /// Compares what was replayed with what must be, can be and can't be there; then takes it as
    /// the truth.
    pub fn check(&mut self, replayed: &[(Entry, Vec<u8>)]) -> Result<(), String> {
        let mut present = vec![false; self.facts.len()];
        let mut positions = BTreeMap::new();
        for (entry, payload) in replayed {
            let index = id_of(payload).and_then(|id| self.by_id.get(&id)).copied();
            let index = index.ok_or_else(|| format!("{entry:?} was never appended"))?;
            let fact = &self.facts[index];
            if fact.entry != *entry || fact.payload != *payload {
                return Err(format!("{fact:?} came back as {entry:?}"));
            }
            if fact.gone {
                return Err(format!("{fact:?} rose from the dead"));
            }
            if positions.insert(entry.position, ()).is_some() {
                return Err(format!("{entry:?} came twice"));
            }
            present[index] = true;
        }
        let mut whole = vec![None::<bool>; self.confirmed.len()];
        let mut evidence = |group: usize, there: bool, fact: &Known| {
            if self.confirmed[group] && !there {
                return Err(format!("group {group} was confirmed and is lost: {fact:?}"));
            }
            match whole[group].replace(there) {
                Some(before) if before != there => {
                    Err(format!("group {group} is there in part: {fact:?}"))
                }
                _ => Ok(()),
            }
        };
        for (fact, &present) in self.facts.iter().zip(&present).filter(|(fact, _)| !fact.gone) {
            match (present, fact.ended_by) {
                (true, None) => evidence(fact.group, true, fact)?,
                (false, None) => evidence(fact.group, false, fact)?,
                (true, Some(ender)) => {
                    evidence(fact.group, true, fact)?;
                    evidence(ender, false, fact)?;
                }
                // Ended, or never there. If it was confirmed, its end must have happened; and
                // if its end was confirmed, so must what added it.
                (false, Some(ender)) => {
                    if self.confirmed[fact.group] {
                        evidence(ender, true, fact)?;
                    }
                    if self.confirmed[ender] {
                        evidence(fact.group, true, fact)?;
                    }
                }
            }
        }
        for (fact, present) in self.facts.iter_mut().zip(present) {
            fact.gone |= !present;
            fact.ended_by = None;
        }
        // The groups of the past are settled: what is there is durable.
        for fact in self.facts.iter().filter(|fact| !fact.gone) {
            self.confirmed[fact.group] = true;
        }
        Ok(())
    }
}
