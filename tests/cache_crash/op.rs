//! The writes that are played, and how they are drawn.

use crate::disk::Random;

pub type Text = Vec<u8>;

#[derive(Debug, Clone)]
pub enum Op {
    /// Perhaps with a time to live in milliseconds.
    Set(Text, Text, Option<u64>),
    Append(Text, Text),
    PushLeft(Text, Text),
    PushRight(Text, Vec<Text>),
    PopLeft(Text),
    PopRight(Text),
    /// As many elements stay at most.
    TrimTo(Text, usize),
    InsertBefore(Text, Text, Text),
    RemoveAll(Text, Text),
    HashSet(Text, Text, Text),
    HashDelete(Text, Text),
    SetAdd(Text, Text),
    SetRemove(Text, Text),
    SortedAdd(Text, i64, Text),
    SortedRemove(Text, Text),
    ExpireAt(Text, u64),
    Persist(Text),
    Delete(Text),
    Rename(Text, Text),
    Copy(Text, Text),
    Move(Text, usize),
    SwapDb(usize, usize),
    FlushDb,
}

/// The databases that are played on.
const USED: [usize; 3] = [0, 1, 15];
/// More than a row of the journal takes.
const LARGE_BYTES: usize = 300_000;

pub fn database(random: &mut Random) -> usize {
    pick(random, &USED)
}

fn pick<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[usize::try_from(random.below(of.len() as u64)).unwrap()]
}

/// A key that mostly holds its own type.
fn key(random: &mut Random, kind: char) -> Text {
    let kind = if random.one_in(20) { pick(random, &['s', 'l', 'h', 'e', 'z']) } else { kind };
    format!("{kind}{}", random.below(4)).into_bytes()
}

fn any_key(random: &mut Random) -> Text {
    let kind = pick(random, &['s', 'l', 'h', 'e', 'z']);
    key(random, kind)
}

fn name(random: &mut Random) -> Text {
    format!("m{}", random.below(6)).into_bytes()
}

/// Few of them are large, and some are the same.
fn text(random: &mut Random) -> Text {
    let bytes = match random.below(60) {
        0 => LARGE_BYTES,
        1..4 => usize::try_from(random.below(40_000)).unwrap(),
        4..20 => return name(random),
        _ => usize::try_from(random.below(800)).unwrap(),
    };
    vec![random.next() as u8; bytes]
}

impl Op {
    pub fn draw(random: &mut Random, now_ms: u64) -> Self {
        match random.below(40) {
            0..5 => {
                let ttl_ms = random.one_in(3).then(|| 1 + random.below(20_000));
                Self::Set(key(random, 's'), text(random), ttl_ms)
            }
            5..7 => Self::Append(key(random, 's'), text(random)),
            7..9 => Self::PushLeft(key(random, 'l'), text(random)),
            9..12 => {
                let texts = (0..=random.below(3)).map(|_| text(random)).collect();
                Self::PushRight(key(random, 'l'), texts)
            }
            12 => Self::PopLeft(key(random, 'l')),
            13 => Self::PopRight(key(random, 'l')),
            14 => Self::TrimTo(key(random, 'l'), usize::try_from(random.below(5)).unwrap()),
            15 => Self::InsertBefore(key(random, 'l'), name(random), text(random)),
            16 => Self::RemoveAll(key(random, 'l'), name(random)),
            17..20 => Self::HashSet(key(random, 'h'), name(random), text(random)),
            20 => Self::HashDelete(key(random, 'h'), name(random)),
            21..23 => Self::SetAdd(key(random, 'e'), name(random)),
            23 => Self::SetRemove(key(random, 'e'), name(random)),
            24..26 => {
                let score = i64::try_from(random.below(100)).unwrap() - 50;
                Self::SortedAdd(key(random, 'z'), score, name(random))
            }
            26 => Self::SortedRemove(key(random, 'z'), name(random)),
            27..30 => Self::ExpireAt(any_key(random), now_ms + random.below(20_000)),
            30 => Self::Persist(any_key(random)),
            31..33 => Self::Delete(any_key(random)),
            33..35 => Self::Rename(any_key(random), any_key(random)),
            35..37 => Self::Copy(any_key(random), any_key(random)),
            37 => Self::Move(any_key(random), database(random)),
            38 => Self::SwapDb(database(random), database(random)),
            _ if random.one_in(5) => Self::FlushDb,
            _ => Self::Persist(any_key(random)),
        }
    }

    /// As a client says it.
    pub fn request(&self) -> Vec<Text> {
        let number = |number: i128| number.to_string().into_bytes();
        let mut request: Vec<Text> = Vec::new();
        let mut say = |words: &[&[u8]]| request.extend(words.iter().map(|word| word.to_vec()));
        match self {
            Self::Set(key, value, None) => say(&[b"SET", key, value]),
            Self::Set(key, value, Some(ttl_ms)) => {
                say(&[b"SET", key, value, b"PX", &number((*ttl_ms).into())]);
            }
            Self::Append(key, text) => say(&[b"APPEND", key, text]),
            Self::PushLeft(key, text) => say(&[b"LPUSH", key, text]),
            Self::PushRight(key, texts) => {
                say(&[b"RPUSH", key]);
                texts.iter().for_each(|text| say(&[text]));
            }
            Self::PopLeft(key) => say(&[b"LPOP", key]),
            Self::PopRight(key) => say(&[b"RPOP", key]),
            Self::TrimTo(key, 0) => say(&[b"LTRIM", key, b"1", b"0"]),
            Self::TrimTo(key, count) => {
                say(&[b"LTRIM", key, b"0", &number(*count as i128 - 1)]);
            }
            Self::InsertBefore(key, pivot, text) => say(&[b"LINSERT", key, b"BEFORE", pivot, text]),
            Self::RemoveAll(key, text) => say(&[b"LREM", key, b"0", text]),
            Self::HashSet(key, field, value) => say(&[b"HSET", key, field, value]),
            Self::HashDelete(key, field) => say(&[b"HDEL", key, field]),
            Self::SetAdd(key, member) => say(&[b"SADD", key, member]),
            Self::SetRemove(key, member) => say(&[b"SREM", key, member]),
            Self::SortedAdd(key, score, member) => {
                say(&[b"ZADD", key, &number((*score).into()), member]);
            }
            Self::SortedRemove(key, member) => say(&[b"ZREM", key, member]),
            Self::ExpireAt(key, at_ms) => say(&[b"PEXPIREAT", key, &number((*at_ms).into())]),
            Self::Persist(key) => say(&[b"PERSIST", key]),
            Self::Delete(key) => say(&[b"DEL", key]),
            Self::Rename(from, to) => say(&[b"RENAME", from, to]),
            Self::Copy(from, to) => say(&[b"COPY", from, to, b"REPLACE"]),
            Self::Move(key, db) => say(&[b"MOVE", key, &number(*db as i128)]),
            Self::SwapDb(one, other) => {
                say(&[b"SWAPDB", &number(*one as i128), &number(*other as i128)]);
            }
            Self::FlushDb => say(&[b"FLUSHDB"]),
        }
        request
    }
}

/// A request on one line; what is long by its length.
pub fn shown(request: &[Text]) -> String {
    let words: Vec<String> = request
        .iter()
        .map(|word| match word.len() {
            0..20 if word.is_ascii() => String::from_utf8_lossy(word).into_owned(),
            bytes => format!("<{bytes} bytes>"),
        })
        .collect();
    words.join(" ")
}
