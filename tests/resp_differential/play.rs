//! One sequence of requests, played on both servers and compared reply by reply.

use crate::forms::Same;
use crate::grammar;
use crate::rng::Rng;
use crate::wire::{Connection, Request, elements, shown, shown_request};

/// A request and how its replies are compared.
#[derive(Debug, Clone)]
pub struct Step {
    pub request: Request,
    pub same: Same,
}

impl Step {
    pub fn exact(line: &str) -> Self {
        let request = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        Self { request, same: Same::Exact }
    }
}

/// Changes what our side answered, to see whether that is found.
pub type Fault = fn(&Request, Vec<u8>) -> Vec<u8>;

/// Changes what our side is asked, as if it took the command for another one.
pub type Slip = fn(&Request) -> Option<Request>;

pub struct Pair {
    pub redis: Connection,
    pub leveret: Connection,
    pub fault: Option<Fault>,
    pub slip: Option<Slip>,
}

#[derive(Debug)]
pub struct Difference {
    pub step: usize,
    pub text: String,
}

pub fn sequence(rng: &mut Rng, forms: &[(&str, Same)], steps: usize) -> Vec<Step> {
    // A sequence that favours a few forms meets deeper states than one of all of them.
    let favoured: Vec<usize> = (0..12).map(|_| rng.below(forms.len())).collect();
    let mut sequence = Vec::with_capacity(steps);
    while sequence.len() < steps {
        let at = if rng.one_in(2) { *rng.pick(&favoured) } else { rng.below(forms.len()) };
        let (form, same) = forms[at];
        // Redis looks at its clock ten times a second, so one that waits holds a sequence up.
        if waits(form) && !rng.one_in(40) {
            continue;
        }
        sequence.push(Step { request: grammar::generate(form, rng), same });
    }
    sequence
}

fn waits(form: &str) -> bool {
    ["BL", "BR", "BZ"].iter().any(|begin| form.starts_with(begin))
}

/// What shows the state when all is done.
fn inspection() -> Vec<Step> {
    let mut steps = vec![Step::exact("DBSIZE")];
    for key in grammar::all_keys() {
        steps.push(Step::exact(&format!("TYPE {key}")));
        for (command, same) in [
            ("GET", Same::Exact),
            ("LRANGE - 0 -1", Same::Exact),
            ("HGETALL", Same::UnorderedPairs),
            ("SMEMBERS", Same::Unordered),
            ("ZRANGE - 0 -1 WITHSCORES", Same::Exact),
            ("PTTL", Same::Near(1_500)),
        ] {
            let line = match command.split_once(" - ") {
                Some((name, rest)) => format!("{name} {key} {rest}"),
                None => format!("{command} {key}"),
            };
            steps.push(Step { same, ..Step::exact(&line) });
        }
    }
    steps
}

impl Pair {
    /// The first difference, if there is one. Both begin without keys and transactions, and are asked
    /// all at once.
    pub fn play(&mut self, protocol: u8, steps: &[Step]) -> Option<Difference> {
        let plain = |line: &str| Step::exact(line).request;
        let before = [plain("RESET"), plain(&format!("HELLO {protocol}")), plain("FLUSHALL")];
        let between = [plain("DISCARD"), plain("SELECT 0")];
        let inspection = inspection();
        let requests: Vec<Request> = before
            .iter()
            .chain(steps.iter().map(|step| &step.request))
            .chain(&between)
            .chain(inspection.iter().map(|step| &step.request))
            .cloned()
            .collect();
        let slip = |request: &Request| self.slip.and_then(|slip| slip(request));
        let asked: Vec<Request> = requests
            .iter()
            .map(|request| slip(request).unwrap_or_else(|| request.clone()))
            .collect();
        let (redis, leveret) = (&mut self.redis, &mut self.leveret);
        redis.send_all(&requests);
        leveret.send_all(&asked);
        let redis: Vec<Vec<u8>> = requests.iter().map(|_| redis.read()).collect();
        let leveret: Vec<Vec<u8>> = requests.iter().map(|_| leveret.read()).collect();

        let played = before.len()..before.len() + steps.len();
        let inspected = played.end + between.len();
        let compared = played.zip(steps).chain((inspected..).zip(&inspection));
        compared.enumerate().find_map(|(at, (reply, step))| {
            let text = self.difference(step, &redis[reply], leveret[reply].clone())?;
            Some(Difference { step: at.min(steps.len()), text })
        })
    }

    fn difference(&self, step: &Step, redis: &[u8], mut leveret: Vec<u8>) -> Option<String> {
        if let Some(fault) = self.fault {
            leveret = fault(&step.request, leveret);
        }
        (!same(step.same, redis, &leveret)).then(|| {
            format!(
                "{}\n  redis:   {}\n  leveret: {}",
                shown_request(&step.request),
                shown(redis),
                shown(&leveret)
            )
        })
    }

    /// Leaves steps out for as long as a difference is left.
    pub fn shrink(
        &mut self,
        protocol: u8,
        mut steps: Vec<Step>,
        mut difference: Difference,
    ) -> (Vec<Step>, Difference) {
        let mut chunk = steps.len().div_ceil(2);
        loop {
            let mut at = 0;
            while at < steps.len() {
                let mut fewer = steps.clone();
                fewer.drain(at..(at + chunk).min(steps.len()));
                match self.play(protocol, &fewer) {
                    Some(still) => {
                        fewer.truncate(still.step + 1);
                        (steps, difference) = (fewer, still);
                    }
                    None => at += chunk,
                }
            }
            if chunk == 1 {
                return (steps, difference);
            }
            chunk = chunk.div_ceil(2);
        }
    }
}

fn same(how: Same, redis: &[u8], leveret: &[u8]) -> bool {
    if redis == leveret {
        return true;
    }
    match how {
        Same::Exact => false,
        Same::Unordered => sorted(redis, 1) == sorted(leveret, 1),
        Same::UnorderedPairs => sorted(redis, 2) == sorted(leveret, 2),
        Same::Transaction => match (elements(redis), elements(leveret)) {
            (Some((redis_head, redis)), Some((leveret_head, leveret))) => {
                redis_head == leveret_head
                    && redis.len() == leveret.len()
                    && redis.iter().zip(&leveret).all(|(redis, leveret)| {
                        redis == leveret
                            || sorted(redis, 1).is_some_and(|it| Some(it) == sorted(leveret, 1))
                            || both_run_with_the_clock(redis, leveret)
                    })
            }
            _ => false,
        },
        Same::Near(most) => match (integer(redis), integer(leveret)) {
            (Some(redis), Some(leveret)) => (redis - leveret).abs() <= most,
            _ => false,
        },
    }
}

/// A head, and groups of elements.
type Grouped = (Vec<u8>, Vec<Vec<Vec<u8>>>);

fn sorted(reply: &[u8], group: usize) -> Option<Grouped> {
    let (head, elements) = elements(reply)?;
    let mut groups: Vec<Vec<Vec<u8>>> = elements.chunks(group).map(<[_]>::to_vec).collect();
    groups.sort();
    Some((head, groups))
}

fn both_run_with_the_clock(redis: &[u8], leveret: &[u8]) -> bool {
    const LEAST: i64 = 90;
    const MOST: i64 = 1_500;
    matches!((integer(redis), integer(leveret)), (Some(redis), Some(leveret))
        if redis >= LEAST && (redis - leveret).abs() <= MOST)
}

fn integer(reply: &[u8]) -> Option<i64> {
    std::str::from_utf8(reply.strip_prefix(b":")?).ok()?.trim_end().parse().ok()
}
