//! Text to [`Packet`]: `type [count "-"] [namespace ","] [id] [JSON]`.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{ARGS_MAX, Args, Body, ID_MAX, Limits, Namespace, Packet, ParseError, is_reserved};

impl<'a> Packet<'a> {
    /// Reads the text of one packet, of at most `attachments_max` attachments, however deep it is nested:
    /// somebody has bounded that.
    ///
    /// # Errors
    /// A [`ParseError`] that says what is wrong.
    pub fn parse(text: &'a str, attachments_max: usize) -> Result<Self, ParseError> {
        let limits = Limits { attachments_max, depth_max: usize::MAX, ..Limits::default() };
        Self::parse_within(text, limits)
    }

    /// As [`Packet::parse`], of a packet that keeps the bounds of `limits`.
    ///
    /// # Errors
    /// As [`Packet::parse`].
    pub fn parse_within(text: &'a str, limits: Limits) -> Result<Self, ParseError> {
        let Limits { attachments_max, depth_max, .. } = limits;
        let kind = text.chars().next().ok_or(ParseError::Empty)?;
        let rest = &text[kind.len_utf8()..];
        let (attachments, rest) = match kind {
            '5' | '6' => attachment_count(rest, attachments_max)?,
            _ => (0, rest),
        };
        let (namespace, rest) = namespace(rest)?;
        let (id, data) = id(rest)?;
        if is_deeper_than(data, depth_max) {
            return Err(ParseError::TooDeep { depth_max });
        }
        let body = match kind {
            '0' => Body::Connect { auth: optional(data, object)? },
            '1' => no_data(data, Body::Disconnect)?,
            '2' | '5' => event(id, data, attachments)?,
            '3' | '6' => {
                let id = id.ok_or(ParseError::IdMissing)?;
                Body::Ack { id, args: required(data, array)?, attachments }
            }
            '4' => Body::ConnectError { error: required(data, object_or_string)? },
            unknown => return Err(ParseError::UnknownType(unknown)),
        };
        match (&body, id) {
            (Body::Event { .. } | Body::Ack { .. }, _) | (_, None) => Ok(Self { namespace, body }),
            (_, Some(_)) => Err(ParseError::UnexpectedId),
        }
    }
}

fn attachment_count(text: &str, attachments_max: usize) -> Result<(usize, &str), ParseError> {
    let (count, rest) = text.split_once('-').ok_or(ParseError::AttachmentCount)?;
    let (attachments, after) = digits(count);
    let attachments = attachments.ok_or(ParseError::AttachmentCount)?;
    if attachments == 0 || !after.is_empty() {
        return Err(ParseError::AttachmentCount);
    }
    let attachments = usize::try_from(attachments).unwrap_or(usize::MAX);
    if attachments > attachments_max {
        return Err(ParseError::TooManyAttachments { attachments, attachments_max });
    }
    Ok((attachments, rest))
}

/// A namespace ends at a comma, or with the text.
fn namespace(text: &str) -> Result<(Namespace<'_>, &str), ParseError> {
    if !text.starts_with('/') {
        return Ok((Namespace::ROOT, text));
    }
    let (name, rest) = text.split_once(',').unwrap_or((text, ""));
    Ok((Namespace::new(name)?, rest))
}

fn id(text: &str) -> Result<(Option<u64>, &str), ParseError> {
    match digits(text) {
        (Some(id), _) if id > ID_MAX => Err(ParseError::IdTooLarge),
        id => Ok(id),
    }
}

/// The number that `text` begins with, and what follows it; a number past u64 reads as its maximum.
fn digits(text: &str) -> (Option<u64>, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    match digits {
        "" => (None, rest),
        _ => (Some(digits.parse().unwrap_or(u64::MAX)), rest),
    }
}

/// Whether data is nested deeper than `levels`: [`RawValue`] alone would take any depth, and whoever
/// reads it later, here or in a client, might not.
pub(super) fn is_deeper_than(data: &str, levels: usize) -> bool {
    // Every level takes an opening and a closing byte.
    if data.len() / 2 <= levels {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in data.bytes() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > levels {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

fn no_data<'a>(data: &str, body: Body<'a>) -> Result<Body<'a>, ParseError> {
    if data.is_empty() { Ok(body) } else { Err(ParseError::UnexpectedData) }
}

fn required<'a, T>(
    data: &'a str,
    read: impl FnOnce(&'a str) -> Result<T, ParseError>,
) -> Result<T, ParseError> {
    optional(data, read)?.ok_or(ParseError::DataMissing)
}

fn optional<'a, T>(
    data: &'a str,
    read: impl FnOnce(&'a str) -> Result<T, ParseError>,
) -> Result<Option<T>, ParseError> {
    if data.is_empty() { Ok(None) } else { read(data).map(Some) }
}

fn object(data: &str) -> Result<&RawValue, ParseError> {
    let raw: &RawValue = serde_json::from_str(data).map_err(ParseError::Data)?;
    if raw.get().starts_with('{') { Ok(raw) } else { Err(ParseError::NotAnObject) }
}

fn object_or_string(data: &str) -> Result<&RawValue, ParseError> {
    let raw: &RawValue = serde_json::from_str(data).map_err(ParseError::Data)?;
    if raw.get().starts_with(['{', '"']) { Ok(raw) } else { Err(ParseError::NotAnObject) }
}

fn array(data: &str) -> Result<Args<'_>, ParseError> {
    serde_json::from_str(data).map(|ArgsOnly(args)| args).map_err(ParseError::Data)
}

fn event(id: Option<u64>, data: &str, attachments: usize) -> Result<Body<'_>, ParseError> {
    let NameAndArgs { name, args } = required(data, |data| {
        serde_json::from_str::<NameAndArgs<'_>>(data).map_err(ParseError::Data)
    })?;
    if is_reserved(&name) {
        return Err(ParseError::ReservedEvent(name.into_owned()));
    }
    Ok(Body::Event { id, name, args, attachments })
}

/// `[...]`
struct ArgsOnly<'a>(Args<'a>);

/// `["name", ...]`
struct NameAndArgs<'a> {
    name: Cow<'a, str>,
    args: Args<'a>,
}

/// A JSON string, borrowed when it has no escapes.
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'de> Deserialize<'de> for ArgsOnly<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;
        impl<'de> Visitor<'de> for Elements {
            type Value = ArgsOnly<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                args(seq).map(ArgsOnly)
            }
        }
        deserializer.deserialize_seq(Elements)
    }
}

impl<'de> Deserialize<'de> for NameAndArgs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;
        impl<'de> Visitor<'de> for Elements {
            type Value = NameAndArgs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array that begins with an event name")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let EventName(name) =
                    seq.next_element()?.ok_or_else(|| A::Error::invalid_length(0, &self))?;
                Ok(NameAndArgs { name, args: args(seq)? })
            }
        }
        deserializer.deserialize_seq(Elements)
    }
}

fn args<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<Args<'de>, A::Error> {
    let mut args = Args::new();
    while let Some(arg) = seq.next_element()? {
        if args.len() == ARGS_MAX {
            return Err(A::Error::custom(format_args!("more than {ARGS_MAX} arguments")));
        }
        args.push(arg);
    }
    Ok(args)
}

/// A JSON string, or a number, which is called as JavaScript writes it: the stock server has its handlers by
/// that.
struct EventName<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for EventName<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl<'de> Visitor<'de> for Name {
            type Value = EventName<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event name, a string or a number")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(EventName(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(EventName(Cow::Owned(text.to_owned())))
            }

            #[expect(clippy::cast_precision_loss, reason = "JavaScript has no other numbers")]
            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(EventName(Cow::Owned(as_javascript(number as f64))))
            }

            #[expect(clippy::cast_precision_loss, reason = "JavaScript has no other numbers")]
            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(EventName(Cow::Owned(as_javascript(number as f64))))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
                Ok(EventName(Cow::Owned(as_javascript(number))))
            }
        }
        deserializer.deserialize_any(Name)
    }
}

/// ECMAScript, Number::toString.
fn as_javascript(number: f64) -> String {
    let size = number.abs();
    if number == 0.0 {
        "0".to_owned()
    } else if (1e-6..1e21).contains(&size) {
        number.to_string()
    } else if size < 1.0 {
        format!("{number:e}")
    } else {
        format!("{number:e}").replace('e', "e+")
    }
}

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Str;
        impl<'de> Visitor<'de> for Str {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Str)
    }
}
