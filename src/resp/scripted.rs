//! Scripts, and transactions with scripts in them: they leave the visit and have a turn of their own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::{Client, Outcome, Target};
use super::command::transaction::Transaction;
use super::reply;
use super::script_host::ScriptHost;
use crate::cache::script::{Exclusive, Host, ScriptCommand, Step};
use crate::cache::{Command, Executed, Reply, Visit};
use crate::journal::Commit;
use crate::model::text::Text;
use crate::wire::resp::{Version, Writer};

/// What runs in a turn of its own.
pub(super) enum Scripted {
    /// A command on scripts.
    Alone(ScriptCommand),
    /// EXEC of what was queued.
    Transaction(Transaction),
}

/// What it leaves to be done.
pub(super) struct Ran {
    /// What has to be on disk before the answer goes.
    pub commit: Option<Commit>,
    /// Close when the answer is written.
    pub closes: bool,
}

/// The answer to one request of a transaction.
enum Part {
    /// It is there already, as bytes.
    Written(Vec<u8>),
    /// The next step's, for a client of this version.
    Step(Version),
}

/// A transaction in the making.
#[derive(Default)]
struct Plan {
    parts: Vec<Part>,
    steps: Vec<(u8, Step)>,
    /// What the steps were asked as.
    requests: Vec<Vec<Text>>,
    closes: bool,
}

impl Client {
    /// Waits for a turn and answers.
    pub(super) async fn run_scripted(&mut self, scripted: Scripted, request: Vec<Text>) -> Ran {
        let cache = self.shared.cache.clone();
        let mut ran = Ran { commit: None, closes: false };
        if matches!(scripted, Scripted::Alone(ScriptCommand::Kill)) {
            let answer = self.begin_answer();
            self.reply(&cache.kill_script());
            self.log_slow(&request, Duration::ZERO);
            self.end_answer(answer);
            return ran;
        }
        let exclusive = cache.exclusive().await;
        let answer = self.begin_answer();
        match (scripted, exclusive) {
            (Scripted::Alone(command), Ok(exclusive)) => {
                let steps = vec![(self.info.db, Step::Script(command))];
                let host = self.script_host(vec![request]);
                let executed = exclusive.run_in(steps, Some(host)).await;
                // Its own message comes before the answer to its PUBLISH.
                self.take_messages();
                match executed {
                    Ok(Executed { replies, commit }) => {
                        replies.iter().for_each(|answer| self.reply(answer));
                        ran.commit = commit;
                    }
                    Err(error) => self.error(error.to_string()),
                }
            }
            (Scripted::Alone(_), Err(error)) => self.error(error.to_string()),
            (Scripted::Transaction(transaction), Ok(exclusive)) => {
                self.run_transaction(transaction, exclusive, &mut ran).await;
            }
            (Scripted::Transaction(_), Err(error)) => {
                cache.visit_with(None, |visit| self.abort(visit, error));
            }
        }
        self.end_answer(answer);
        ran
    }

    async fn run_transaction(
        &mut self,
        transaction: Transaction,
        exclusive: Exclusive,
        ran: &mut Ran,
    ) {
        let cache = self.shared.cache.clone();
        let plan = |visit: &mut Visit<'_>| {
            if visit.was_changed(&mut self.watch) {
                self.writer().nil_array();
                return None;
            }
            if let Err(error) = visit.may_run_as_one(transaction.flags) {
                self.abort(visit, error);
                return None;
            }
            Some(self.plan(transaction.into_requests(), visit))
        };
        // What has expired or was evicted meanwhile is all that it may have recorded.
        let (plan, _) = cache.visit_with(None, plan);
        let Some(Plan { parts, steps, requests, closes }) = plan else { return };
        let host = self.script_host(requests);
        let executed = exclusive.run_in(steps, Some(host)).await;
        self.take_messages();
        match executed {
            Ok(Executed { replies, commit }) => {
                self.write_parts(parts, replies);
                ran.commit = commit;
                ran.closes = closes;
            }
            Err(error) => self.error(error.to_string()),
        }
    }

    fn script_host(&self, requests: Vec<Vec<Text>>) -> Arc<dyn Host> {
        Arc::new(ScriptHost {
            shared: Arc::clone(&self.shared),
            client_address: self.handle.peer.address.clone(),
            client_name: self.info.name.clone(),
            requests,
            slow_us: self.slow_us,
        })
    }

    /// Sorts out what was queued. What is about the connection or the server, not about keys, is
    /// done now.
    fn plan(&mut self, requests: Vec<Vec<Text>>, visit: &mut Visit<'_>) -> Plan {
        let mut plan = Plan::default();
        for request in requests {
            let Some((name, rest)) = request.split_first() else { continue };
            let (begin, begun) = (self.out.len(), Instant::now());
            let step = match Target::find(name, rest) {
                Ok(Target::Cache(spec, rest)) => {
                    match Command::parse_resolved(spec, &request, rest) {
                        Ok(command) => Some(Step::Command(command)),
                        Err(error) => {
                            self.error(error.to_string());
                            None
                        }
                    }
                }
                Ok(Target::Own(row)) => match (row.run)(self, visit, &request) {
                    Outcome::Scripted(scripted) => match *scripted {
                        Scripted::Alone(command) => Some(Step::Script(command)),
                        // EXEC is not queued.
                        Scripted::Transaction(_) => None,
                    },
                    outcome => {
                        self.log_slow(&request, begun.elapsed());
                        plan.closes |= matches!(outcome, Outcome::Close);
                        None
                    }
                },
                // What could be queued has a target.
                Err(_) => continue,
            };
            plan.parts.push(match step {
                Some(step) => {
                    plan.steps.push((self.info.db, step));
                    plan.requests.push(request);
                    Part::Step(self.info.version)
                }
                None => Part::Written(self.out.split_off(begin)),
            });
        }
        self.pushed_bytes = self.pushed_bytes.min(self.out.len());
        plan
    }

    fn write_parts(&mut self, parts: Vec<Part>, replies: Vec<Reply>) {
        self.writer().array(parts.len());
        let mut replies = replies.into_iter();
        for part in parts {
            match part {
                Part::Written(bytes) => self.out.extend(bytes),
                Part::Step(version) => {
                    let answer = replies.next().unwrap_or(Reply::Nil);
                    self.count_error(&answer);
                    reply::write(&mut Writer { out: &mut self.out, version }, &answer);
                }
            }
        }
    }
}
