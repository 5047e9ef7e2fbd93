//! A script's source: its digest, and what its first line says of it.

use std::fmt;

use sha1::{Digest as _, Sha1};

use crate::cache::reply::Reply;
use crate::model::text::Text;

/// A script's SHA-1.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Digest([u8; 20]);

impl Digest {
    pub(super) fn of(text: &[u8]) -> Self {
        Self(Sha1::digest(text).into())
    }

    /// From 40 hexadecimal digits.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let mut digest = [0; 20];
        if text.len() != 2 * digest.len() {
            return None;
        }
        for (byte, digits) in digest.iter_mut().zip(text.chunks_exact(2)) {
            for digit in digits {
                let digit = char::from(*digit).to_digit(16)?;
                *byte = (*byte << 4) | u8::try_from(digit).ok()?;
            }
        }
        Some(Self(digest))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(to, "{byte:02x}"))
    }
}

/// A script that may be run.
#[derive(Clone)]
pub(super) struct Script {
    pub digest: Digest,
    pub text: Text,
    /// Where its Lua begins: behind `#!lua`, if there is that.
    body_at: usize,
    /// What its first line says, if it says anything.
    pub flags: Option<ScriptFlags>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ScriptFlags {
    pub no_writes: bool,
    /// It may run, and write, whatever memory it takes.
    pub allow_oom: bool,
}

/// Known, and without a meaning here: there is no replica and no cluster.
const FLAGS_IGNORED: [&[u8]; 3] = [b"allow-stale", b"no-cluster", b"allow-cross-slot-keys"];

impl Script {
    /// # Errors
    /// What is wrong with the first line.
    pub(super) fn new(text: &Text) -> Result<Self, Reply> {
        let (body_at, flags) = first_line(text)
            .map_err(|error| Reply::ErrorText(super::convert::on_one_line(error.as_bytes())))?;
        Ok(Self { digest: Digest::of(text), text: text.clone(), body_at, flags })
    }

    /// With a text of its own: the one that came may be a slice of a reader's large buffer.
    pub(super) fn owned(self) -> Self {
        Self { text: Text::copy_from_slice(&self.text), ..self }
    }

    pub(super) fn body(&self) -> &[u8] {
        self.text.get(self.body_at..).unwrap_or_default()
    }
}

fn first_line(text: &[u8]) -> Result<(usize, Option<ScriptFlags>), String> {
    if !text.starts_with(b"#!") {
        return Ok((0, None));
    }
    let end = memchr::memchr(b'\n', text).ok_or("ERR Invalid script shebang")?;
    let line = text.get(..end).unwrap_or_default();
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let shown = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
    match words.next() {
        Some(b"#!lua") => {}
        other => {
            let engine = shown(other.unwrap_or_default());
            return Err(format!("ERR Unexpected engine in script shebang: {engine}"));
        }
    }
    let mut flags = ScriptFlags::default();
    for word in words {
        let list = word
            .strip_prefix(b"flags=")
            .ok_or_else(|| format!("ERR Unknown lua shebang option: {}", shown(word)))?;
        for flag in list.split(|byte| *byte == b',').filter(|flag| !flag.is_empty()) {
            if flag == b"no-writes" {
                flags.no_writes = true;
            } else if flag == b"allow-oom" {
                flags.allow_oom = true;
            } else if !FLAGS_IGNORED.contains(&flag) {
                return Err(format!("ERR Unexpected flag in script shebang: {}", shown(flag)));
            }
        }
    }
    Ok((end, Some(flags)))
}
