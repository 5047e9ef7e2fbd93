//! The cache's answers as bytes.

use bytes::Bytes;

use crate::cache::{Reply, parse_integer};
use crate::wire::resp::Writer;

pub(super) fn write(writer: &mut Writer<'_>, reply: &Reply) {
    match reply {
        Reply::Status(text) => writer.status(text),
        Reply::StatusText(text) => writer.status(text),
        Reply::Error(error) => writer.error(error.to_string()),
        Reply::ErrorText(text) => writer.error(text),
        Reply::Integer(value) => writer.integer(*value),
        Reply::Bulk(bytes) => writer.bulk(bytes),
        Reply::Nil => writer.nil(),
        Reply::NilArray => writer.nil_array(),
        Reply::Array(items) => {
            writer.array(items.len());
            items.iter().for_each(|item| write(writer, item));
        }
        Reply::Set(members) => {
            writer.set(members.len());
            members.iter().for_each(|member| write(writer, member));
        }
        Reply::Map(pairs) => {
            writer.map(pairs.len());
            for (key, value) in pairs {
                write(writer, key);
                write(writer, value);
            }
        }
        Reply::Pairs(pairs) => {
            writer.pairs(pairs.len());
            for (first, second) in pairs {
                writer.pair();
                write(writer, first);
                write(writer, second);
            }
        }
        Reply::Double(value) => writer.double(*value),
        Reply::Boolean(value) => writer.boolean(*value),
        Reply::Verbatim { format, text } => writer.verbatim(*format, text),
        Reply::BigNumber(digits) => writer.big_number(digits),
    }
}

/// Reads back an answer that a [`Writer`] has written in RESP3; `None` when it is not whole.
pub(super) fn read(mut bytes: &[u8]) -> Option<Reply> {
    read_next(&mut bytes)
}

fn read_next(rest: &mut &[u8]) -> Option<Reply> {
    let (line, behind) = rest.split_at(memchr::memchr(b'\r', rest)?);
    *rest = behind.get(2..)?;
    let (kind, text) = line.split_first()?;
    let owned = |text: &[u8]| Bytes::copy_from_slice(text);
    let number = || parse_integer(text);
    let len = || usize::try_from(number()?).ok();
    Some(match kind {
        b'+' => Reply::StatusText(owned(text)),
        b'-' => Reply::ErrorText(owned(text)),
        b':' => Reply::Integer(number()?),
        b'_' => Reply::Nil,
        b'$' => Reply::Bulk(owned(take(rest, len()?)?)),
        b'=' => {
            let (format, text) = take(rest, len()?)?.split_first_chunk::<3>()?;
            Reply::Verbatim { format: *format, text: owned(text.get(1..)?) }
        }
        b'*' => Reply::Array(read_many(rest, len()?)?),
        b'~' => Reply::Set(read_many(rest, len()?)?),
        b'%' => {
            let pair = |_| Some((read_next(rest)?, read_next(rest)?));
            Reply::Map((0..len()?).map(pair).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

fn read_many(rest: &mut &[u8], len: usize) -> Option<Vec<Reply>> {
    (0..len).map(|_| read_next(rest)).collect()
}

/// The next bytes, and the line break behind them.
fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (bytes, behind) = rest.split_at_checked(len)?;
    *rest = behind.strip_prefix(b"\r\n")?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::resp::Version;

    #[test]
    fn what_was_written_is_read_back() {
        let text = |text: &'static str| Bytes::from_static(text.as_bytes());
        let reply = Reply::Array(vec![
            Reply::StatusText(text("OK")),
            Reply::ErrorText(text("ERR no")),
            Reply::Integer(-7),
            Reply::Nil,
            Reply::Bulk(text("a\r\nb")),
            Reply::Verbatim { format: *b"txt", text: text("# Server\r\n") },
            Reply::Set(vec![Reply::Bulk(text(""))]),
            Reply::Map(vec![(Reply::Bulk(text("k")), Reply::Array(Vec::new()))]),
        ]);
        let mut out = Vec::new();
        write(&mut Writer { out: &mut out, version: Version::Resp3 }, &reply);
        assert_eq!(read(&out), Some(reply));
        for end in 0..out.len() {
            assert_eq!(read(&out[..end]), None);
        }
    }
}
