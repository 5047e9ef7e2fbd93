//! What a case is, and how a line becomes arguments.

/// Commands one after the other on an empty keyspace, each with the answer that Redis 7.0 gives.
pub struct Case {
    pub name: &'static str,
    pub steps: &'static [Step],
}

/// A command line and its answer. `WAIT ms` lets time pass.
pub type Step = (&'static str, Is);

/// An answer.
#[derive(Debug, Clone, Copy)]
pub enum Is {
    Ok,
    Status(&'static str),
    Error(&'static str),
    Int(i64),
    /// An integer from the first to the second: a time that passes while a server is asked.
    IntIn(i64, i64),
    Bulk(&'static str),
    /// A bulk string of so many bytes `x`.
    Xs(usize),
    Nil,
    NilArray,
    Array(&'static [&'static str]),
    /// The same bulk strings in any order.
    Set(&'static [&'static str]),
    /// An array of anything, as [`Answer::shown`] shows it.
    Shown(&'static str),
}

/// An answer as it was got, whoever gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Status(String),
    Error(String),
    Int(i64),
    Bulk(Vec<u8>),
    Nil,
    NilArray,
    Array(Vec<Answer>),
}

impl Is {
    pub fn admits(self, answer: &Answer) -> bool {
        let texts = |answers: &[Answer]| -> Option<Vec<Vec<u8>>> {
            answers
                .iter()
                .map(|answer| match answer {
                    Answer::Bulk(text) => Some(text.clone()),
                    _ => None,
                })
                .collect()
        };
        match (self, answer) {
            (Self::Ok, Answer::Status(status)) => status == "OK",
            (Self::Status(expected), Answer::Status(status)) => status == expected,
            (Self::Error(expected), Answer::Error(error)) => error == expected,
            (Self::Int(expected), Answer::Int(int)) => *int == expected,
            (Self::IntIn(low, high), Answer::Int(int)) => (low..=high).contains(int),
            (Self::Bulk(expected), Answer::Bulk(text)) => text == expected.as_bytes(),
            (Self::Xs(count), Answer::Bulk(text)) => *text == vec![b'x'; count],
            (Self::Nil, Answer::Nil) | (Self::NilArray, Answer::NilArray) => true,
            (Self::Array(expected), Answer::Array(answers)) => {
                let expected: Vec<Vec<u8>> =
                    expected.iter().map(|text| text.as_bytes().to_vec()).collect();
                texts(answers).is_some_and(|texts| texts == expected)
            }
            (Self::Set(expected), Answer::Array(answers)) => {
                let mut expected: Vec<Vec<u8>> =
                    expected.iter().map(|text| text.as_bytes().to_vec()).collect();
                expected.sort();
                texts(answers).is_some_and(|mut texts| {
                    texts.sort();
                    texts == expected
                })
            }
            (Self::Shown(expected), answer) => answer.shown() == expected,
            _ => false,
        }
    }
}

impl Answer {
    /// On one line: arrays in brackets, no value as `nil`.
    pub fn shown(&self) -> String {
        match self {
            Self::Status(text) | Self::Error(text) => text.clone(),
            Self::Int(int) => int.to_string(),
            Self::Bulk(text) => String::from_utf8_lossy(text).into_owned(),
            Self::Nil => "nil".to_owned(),
            Self::NilArray => "nil array".to_owned(),
            Self::Array(answers) => {
                let shown: Vec<String> = answers.iter().map(Self::shown).collect();
                format!("[{}]", shown.join(" "))
            }
        }
    }
}

/// The arguments of a line: separated by single blanks; one in single quotes may be empty or hold
/// blanks; `x*9` stands for nine times `x`.
pub fn args(line: &str) -> Vec<Vec<u8>> {
    let mut args = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let (arg, after) = match rest.strip_prefix('\'') {
            Some(quoted) => {
                let (arg, after) = quoted.split_once('\'').expect("a closing quote");
                (arg.as_bytes().to_vec(), after.strip_prefix(' ').unwrap_or(after))
            }
            None => {
                let (arg, after) = rest.split_once(' ').unwrap_or((rest, ""));
                let repeated = arg.strip_prefix("x*").map(|count| count.parse().expect("a count"));
                (repeated.map_or_else(|| arg.as_bytes().to_vec(), |count| vec![b'x'; count]), after)
            }
        };
        args.push(arg);
        rest = after;
    }
    args
}

/// The milliseconds of a `WAIT` line.
pub fn wait_ms(line: &str) -> Option<u64> {
    line.strip_prefix("WAIT ").map(|ms| ms.parse().expect("milliseconds"))
}
