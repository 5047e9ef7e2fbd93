//! The cache's answers as bytes.

use crate::cache::Reply;
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
