//! More processes of this program, for what one process has too few files for. They take orders and give answers,
//! each a line of JSON.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use clap::ValueEnum;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{bare, idle};

/// What a process is there for.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Role {
    BareLoop,
    BareReader,
    IdleClients,
}

impl Role {
    /// Ends when nobody is left to give orders.
    pub fn play(self) {
        match self {
            Self::BareLoop => bare::send_for_others(),
            Self::BareReader => bare::read_for_others(),
            Self::IdleClients => idle::connect_for_others(),
        }
    }
}

/// Killed in the end.
pub struct Helper {
    process: Child,
    orders: ChildStdin,
    answers: RefCell<BufReader<ChildStdout>>,
}

impl Helper {
    pub fn start(role: Role) -> Self {
        let itself = std::env::current_exe().expect("this program");
        let role = role.to_possible_value().expect("none is left out");
        let mut process = Command::new(itself)
            .args(["--bench", "--role", role.get_name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program once more");
        let orders = process.stdin.take().expect("its input");
        let answers = BufReader::new(process.stdout.take().expect("its output"));
        Self { process, orders, answers: RefCell::new(answers) }
    }

    pub fn tell(&self, order: &impl Serialize) {
        (&self.orders).write_all(&line(order)).expect("a helper that lives");
    }

    /// Waits for it.
    pub fn answer<Answer: DeserializeOwned>(&self) -> Answer {
        let mut line = String::new();
        self.answers.borrow_mut().read_line(&mut line).expect("a line");
        serde_json::from_str(&line).expect("an answer of a helper that lives")
    }

    pub fn ask<Answer: DeserializeOwned>(&self, order: &impl Serialize) -> Answer {
        self.tell(order);
        self.answer()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a helper is told.
pub fn orders<Order: DeserializeOwned>() -> impl Iterator<Item = Order> {
    std::io::stdin()
        .lines()
        .map(|line| serde_json::from_str(&line.expect("a line")).expect("an order"))
}

pub fn answer(answer: &impl Serialize) {
    std::io::stdout().write_all(&line(answer)).expect("somebody waits");
}

fn line(what: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(what).expect("JSON");
    line.push(b'\n');
    line
}
