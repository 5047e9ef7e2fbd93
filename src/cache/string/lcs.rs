//! LCS: the longest common subsequence of two strings.

use bytes::Bytes;

use crate::cache::error::CacheError;
use crate::cache::keyspace::Keyspace;
use crate::cache::reply::Reply;
use crate::model::text::Text;

/// What LCS answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LcsForm {
    Text,
    Len,
    Matches(LcsMatches),
}

/// IDX and its options.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LcsMatches {
    pub len_min: usize,
    pub with_len: bool,
}

/// The table has a cell of four bytes for each pair of bytes; it has Redis's bound, which is that of a value.
const CELLS_MAX: usize = 512 * 1024 * 1024 / 4;

pub(super) fn reply(
    keyspace: &Keyspace,
    keys: &[Text; 2],
    form: Result<LcsForm, CacheError>,
) -> Result<Reply, CacheError> {
    let [a, b] = keys.each_ref().map(|key| match keyspace.read(key) {
        None => Ok(Bytes::new()),
        Some(value) => value.text().cloned().ok_or(CacheError::LcsOfOthers),
    });
    let (a, b, form) = (a?, b?, form?);
    let table = Table::of(&a, &b)?;
    Ok(match form {
        LcsForm::Len => Reply::count(table.len()),
        LcsForm::Text => {
            let mut text = Vec::with_capacity(table.len());
            for run in table.runs() {
                text.extend(a.get(run.in_a..run.in_a + run.len).into_iter().flatten().rev());
            }
            text.reverse();
            Reply::Bulk(Bytes::from(text))
        }
        LcsForm::Matches(LcsMatches { len_min, with_len }) => {
            let span = |start: usize, len: usize| {
                Reply::Array(vec![Reply::count(start), Reply::count(start + len - 1)])
            };
            let matches = table.runs().into_iter().filter(|run| run.len >= len_min).map(|run| {
                let mut row = vec![span(run.in_a, run.len), span(run.in_b, run.len)];
                if with_len {
                    row.push(Reply::count(run.len));
                }
                Reply::Array(row)
            });
            let name = |name: &'static str| Reply::Bulk(Bytes::from_static(name.as_bytes()));
            Reply::Map(vec![
                (name("matches"), Reply::Array(matches.collect())),
                (name("len"), Reply::count(table.len())),
            ])
        }
    })
}

/// The lengths of the longest common subsequences of all beginnings of both.
struct Table<'a> {
    a: &'a [u8],
    b: &'a [u8],
    /// A row for each beginning of `a`.
    lens: Vec<u32>,
}

/// Bytes that both have in a row.
struct Run {
    in_a: usize,
    in_b: usize,
    len: usize,
}

impl<'a> Table<'a> {
    fn of(a: &'a [u8], b: &'a [u8]) -> Result<Self, CacheError> {
        let width = b.len() + 1;
        let cells = (a.len() + 1).checked_mul(width).filter(|cells| *cells <= CELLS_MAX);
        let mut lens: Vec<u32> = Vec::with_capacity(cells.ok_or(CacheError::LcsTooLong)?);
        lens.resize(width, 0);
        for &x in a {
            let above = lens.len() - width;
            lens.push(0);
            for (column, &y) in b.iter().enumerate() {
                let at = |offset: usize| lens.get(above + offset).copied().unwrap_or(0);
                let left = lens.last().copied().unwrap_or(0);
                lens.push(if x == y { at(column) + 1 } else { at(column + 1).max(left) });
            }
        }
        Ok(Self { a, b, lens })
    }

    fn at(&self, i: usize, j: usize) -> u32 {
        self.lens.get(i * (self.b.len() + 1) + j).copied().unwrap_or(0)
    }

    fn len(&self) -> usize {
        self.lens.last().map_or(0, |len| *len as usize)
    }

    /// The runs of the subsequence that Redis finds, the last one first.
    fn runs(&self) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let (mut i, mut j) = (self.a.len(), self.b.len());
        while i > 0 && j > 0 {
            if self.a.get(i - 1) == self.b.get(j - 1) {
                (i, j) = (i - 1, j - 1);
                match runs.last_mut() {
                    Some(run) if run.in_a == i + 1 && run.in_b == j + 1 => {
                        *run = Run { in_a: i, in_b: j, len: run.len + 1 };
                    }
                    _ => runs.push(Run { in_a: i, in_b: j, len: 1 }),
                }
            } else if self.at(i - 1, j) > self.at(i, j - 1) {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        runs
    }
}
