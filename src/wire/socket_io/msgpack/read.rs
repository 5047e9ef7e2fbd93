//! MessagePack to the text form.

use std::io::Write as _;

use bytes::Bytes;

use crate::wire::socket_io::{DEPTH_MAX, ID_MAX, Limits, Namespace, ParseError};

/// Reads one packet: its text form, whose placeholders stand for the attachments beside it.
///
/// # Errors
/// A [`ParseError`] that says what is wrong. A map `{_placeholder: true}` in a packet with binary data
/// is wrong too: the text form can't tell it from that data.
pub fn decode(packet: &[u8], limits: Limits) -> Result<(String, Vec<Bytes>), ParseError> {
    let mut reader = Reader::new(packet, limits);
    let text = reader.packet()?;
    reader.end()?;
    Ok((text, reader.attachments))
}

/// An array of a name, a packet and options, as Socket.IO's Redis adapter publishes it: the packet's text form
/// with its attachments, and the options as JSON.
///
/// # Errors
/// As [`decode`].
pub fn decode_published(
    message: &[u8],
    limits: Limits,
) -> Result<(String, Vec<Bytes>, Vec<u8>), ParseError> {
    let mut reader = Reader::new(message, limits);
    let Token::Array(3) = reader.token()? else {
        return Err(ParseError::MessagePack("it is no array of three"));
    };
    reader.text()?;
    let text = reader.packet()?;
    let attachments = std::mem::take(&mut reader.attachments);
    let mut options = Vec::new();
    reader.value(&mut options, 0)?;
    reader.end()?;
    Ok((text, attachments, options))
}

const NOT_UTF8: ParseError = ParseError::MessagePack("a string that is not UTF-8");

/// The byte that is the value true.
const TRUE: u8 = 0xc3;

/// A value, or the head of one.
enum Token<'a> {
    Nil,
    /// JavaScript's, as notepack.io writes it.
    Undefined,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(&'a str),
    Binary(&'a [u8]),
    /// JavaScript's, in milliseconds since the Unix epoch.
    Date(i64),
    Array(usize),
    Map(usize),
}

struct Reader<'a> {
    rest: &'a [u8],
    limits: Limits,
    attachments: Vec<Bytes>,
    /// Of the attachments.
    bytes: usize,
    /// Whether there is a map that the text form would take for an attachment.
    has_literal: bool,
}

impl<'a> Reader<'a> {
    fn new(rest: &'a [u8], limits: Limits) -> Self {
        Self { rest, limits, attachments: Vec::new(), bytes: 0, has_literal: false }
    }

    /// The text form of the packet that is next.
    fn packet(&mut self) -> Result<String, ParseError> {
        let (mut kind, mut namespace, mut id) = (None, None, None);
        let mut data = Vec::new();
        let Token::Map(entries) = self.token()? else { return Err(ParseError::NotAnObject) };
        for _ in 0..entries {
            match self.text()? {
                "type" => kind = Some(self.token()?),
                "nsp" => namespace = Some(Namespace::new(self.text()?)?),
                "id" => id = Some(self.token()?),
                "data" if !self.is_undefined() => {
                    // As in JavaScript, the last one of a name counts.
                    data.clear();
                    self.attachments.clear();
                    self.has_literal = false;
                    self.value(&mut data, 0)?;
                }
                // What else there is says nothing, and brings nothing.
                _ => {
                    let (attachments, has_literal) = (self.attachments.len(), self.has_literal);
                    self.value(&mut Vec::new(), 0)?;
                    self.attachments.truncate(attachments);
                    self.has_literal = has_literal;
                }
            }
        }
        let Some(Token::Unsigned(kind @ 0..=4)) = kind else {
            return Err(ParseError::MessagePack("its type is none"));
        };
        let namespace = namespace.ok_or(ParseError::Namespace)?;
        if self.has_literal && !self.attachments.is_empty() {
            return Err(ParseError::Placeholder);
        }
        let mut text = Vec::with_capacity(data.len() + namespace.len() + 16);
        // Writing to a Vec can't fail.
        let _ = match (kind, self.attachments.len()) {
            (kind, 0) => write!(text, "{kind}"),
            (2 | 3, count) => write!(text, "{}{count}-", kind + 3),
            _ => return Err(ParseError::UnexpectedBinary),
        };
        if namespace != Namespace::ROOT {
            let _ = write!(text, "{namespace},");
        }
        match id {
            None | Some(Token::Nil | Token::Undefined) => {}
            Some(Token::Unsigned(id)) if id <= ID_MAX => {
                let _ = write!(text, "{id}");
            }
            Some(_) => return Err(ParseError::IdTooLarge),
        }
        text.extend_from_slice(&data);
        String::from_utf8(text).map_err(|_| NOT_UTF8)
    }

    fn end(&self) -> Result<(), ParseError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(ParseError::MessagePack("bytes behind the packet"))
    }

    /// Appends the next value as JSON.
    fn value(&mut self, out: &mut Vec<u8>, depth: usize) -> Result<(), ParseError> {
        let token = self.token()?;
        let depth_max = self.limits.depth_max.min(DEPTH_MAX);
        if depth == depth_max && matches!(token, Token::Array(_) | Token::Map(_)) {
            return Err(ParseError::TooDeep { depth_max });
        }
        let _ = match token {
            Token::Nil | Token::Undefined => write!(out, "null"),
            Token::Bool(value) => write!(out, "{value}"),
            Token::Unsigned(value) => write!(out, "{value}"),
            Token::Signed(value) => write!(out, "{value}"),
            Token::Float(value) => return json(out, &value),
            Token::Text(text) => return json(out, text),
            Token::Date(ms) => write!(out, "\"{}\"", iso(ms)),
            Token::Binary(bytes) => {
                let number = self.attachment(bytes)?;
                write!(out, r#"{{"_placeholder":true,"num":{number}}}"#)
            }
            Token::Array(count) => {
                out.push(b'[');
                for index in 0..count {
                    if index > 0 {
                        out.push(b',');
                    }
                    self.value(out, depth + 1)?;
                }
                out.push(b']');
                Ok(())
            }
            Token::Map(count) => {
                out.push(b'{');
                let mut is_first = true;
                for _ in 0..count {
                    let key = self.text()?;
                    if self.is_undefined() {
                        // As JSON has it: a member that is undefined is none.
                        self.token()?;
                        continue;
                    }
                    if !is_first {
                        out.push(b',');
                    }
                    is_first = false;
                    json(out, key)?;
                    out.push(b':');
                    self.has_literal |= key == "_placeholder" && self.rest.starts_with(&[TRUE]);
                    self.value(out, depth + 1)?;
                }
                out.push(b'}');
                Ok(())
            }
        };
        Ok(())
    }

    /// Keeps an attachment; its number.
    fn attachment(&mut self, bytes: &[u8]) -> Result<usize, ParseError> {
        let Limits { attachments_max, attachments_bytes_max: bytes_max, .. } = self.limits;
        let attachments = self.attachments.len() + 1;
        if attachments > attachments_max {
            return Err(ParseError::TooManyAttachments { attachments, attachments_max });
        }
        self.bytes += bytes.len();
        if self.bytes > bytes_max {
            return Err(ParseError::AttachmentsTooLarge { bytes: self.bytes, bytes_max });
        }
        self.attachments.push(Bytes::copy_from_slice(bytes));
        Ok(attachments - 1)
    }

    fn is_undefined(&self) -> bool {
        self.rest.starts_with(&[0xd4, 0])
    }

    fn text(&mut self) -> Result<&'a str, ParseError> {
        match self.token()? {
            Token::Text(text) => Ok(text),
            _ => Err(ParseError::MessagePack("a name that is no string")),
        }
    }

    /// <https://github.com/msgpack/msgpack/blob/master/spec.md>
    fn token(&mut self) -> Result<Token<'a>, ParseError> {
        let [prefix] = self.array()?;
        Ok(match prefix {
            0x00..=0x7f => Token::Unsigned(prefix.into()),
            0x80..=0x8f => Token::Map((prefix & 0x0f).into()),
            0x90..=0x9f => Token::Array((prefix & 0x0f).into()),
            0xa0..=0xbf => self.string((prefix & 0x1f).into())?,
            0xc0 => Token::Nil,
            0xc2 => Token::Bool(false),
            TRUE => Token::Bool(true),
            0xc4..=0xc6 => {
                let length = self.unsigned(1 << (prefix - 0xc4))?;
                Token::Binary(self.bytes(length)?)
            }
            // An ArrayBuffer, as notepack.io writes it in Node; a Buffer, and both in a browser, are bin.
            0xc7..=0xc9 => {
                let length = self.unsigned(1 << (prefix - 0xc7))?;
                match self.array()? {
                    [0] => Token::Binary(self.bytes(length)?),
                    _ => return Err(ParseError::MessagePack("an unknown extension")),
                }
            }
            0xca => Token::Float(f32::from_be_bytes(self.array()?).into()),
            0xcb => Token::Float(f64::from_be_bytes(self.array()?)),
            0xcc..=0xcf => Token::Unsigned(self.unsigned(1 << (prefix - 0xcc))?),
            0xd0 => Token::signed(i8::from_be_bytes(self.array()?).into()),
            0xd1 => Token::signed(i16::from_be_bytes(self.array()?).into()),
            0xd2 => Token::signed(i32::from_be_bytes(self.array()?).into()),
            0xd3 => Token::signed(i64::from_be_bytes(self.array()?)),
            0xd4 => match self.array()? {
                [0, _] => Token::Undefined,
                _ => return Err(ParseError::MessagePack("an unknown extension")),
            },
            0xd7 => match self.array()? {
                [0] => Token::Date(i64::from_be_bytes(self.array()?)),
                _ => return Err(ParseError::MessagePack("an unknown extension")),
            },
            0xd9..=0xdb => {
                let length = self.unsigned(1 << (prefix - 0xd9))?;
                self.string(length)?
            }
            0xdc | 0xdd => Token::Array(count(self.unsigned(2 << (prefix - 0xdc))?)),
            0xde | 0xdf => Token::Map(count(self.unsigned(2 << (prefix - 0xde))?)),
            0xe0..=0xff => Token::Signed(i8::from_be_bytes([prefix]).into()),
            _ => return Err(ParseError::MessagePack("an unknown type of value")),
        })
    }

    fn string(&mut self, length: u64) -> Result<Token<'a>, ParseError> {
        str::from_utf8(self.bytes(length)?).map(Token::Text).map_err(|_| NOT_UTF8)
    }

    /// A number of 1, 2, 4 or 8 bytes.
    fn unsigned(&mut self, width: u64) -> Result<u64, ParseError> {
        Ok(self.bytes(width)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn bytes(&mut self, length: u64) -> Result<&'a [u8], ParseError> {
        let (bytes, rest) = self.rest.split_at_checked(count(length)).ok_or(CUT)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], ParseError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(CUT)?;
        self.rest = rest;
        Ok(*bytes)
    }
}

const CUT: ParseError = ParseError::MessagePack("it ends too early");

impl Token<'_> {
    fn signed(value: i64) -> Self {
        u64::try_from(value).map_or(Token::Signed(value), Token::Unsigned)
    }
}

/// What does not fit is more than the input has in any case.
fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn json(out: &mut Vec<u8>, value: &(impl serde::Serialize + ?Sized)) -> Result<(), ParseError> {
    serde_json::to_writer(out, value).map_err(ParseError::Data)
}

/// As JavaScript's `toISOString`.
fn iso(ms: i64) -> String {
    const DAY_MS: i64 = 86_400_000;
    let (days, of_day) = (ms.div_euclid(DAY_MS), ms.rem_euclid(DAY_MS));
    // The days before each month, counted from March, so that the leap day is a year's last.
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let year = match year {
        0..=9999 => format!("{year:04}"),
        _ => format!("{}{:06}", if year < 0 { '-' } else { '+' }, year.unsigned_abs()),
    };
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, ms) = (of_day / 1_000 % 60, of_day % 1_000);
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::iso;

    #[test]
    fn dates_are_written_as_javascript_writes_them() {
        for (ms, text) in [
            (1_709_164_799_999, "2024-02-28T23:59:59.999Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (8_640_000_000_000_000, "+275760-09-13T00:00:00.000Z"),
            (-8_640_000_000_000_000, "-271821-04-20T00:00:00.000Z"),
        ] {
            assert_eq!(iso(ms), text);
        }
    }
}
