//! Binary packets: a header with placeholders, and attachments that arrive after it.

use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::parse::Text;
use super::{Body, Limits, Packet, ParseError};

/// A placeholder is far shorter, even with spaces.
const PLACEHOLDER_BYTES_MAX: usize = 128;

/// Reads the messages of one connection in order, and puts binary packets together.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    pending: Option<Pending>,
}

#[derive(Debug)]
struct Pending {
    header: String,
    expected: usize,
    attachments: Vec<Bytes>,
    bytes: usize,
}

/// A binary packet that has all its attachments.
#[derive(Debug, Clone)]
pub struct BinaryPacket {
    header: String,
    attachments: Vec<Bytes>,
}

impl Decoder {
    pub fn new(limits: Limits) -> Self {
        Self { limits, pending: None }
    }

    /// Takes a text message. None: it is the header of a binary packet, whose attachments are due next.
    ///
    /// # Errors
    /// A [`ParseError`] that says what is wrong; the connection can't go on after it.
    pub fn text<'a>(&mut self, text: &'a str) -> Result<Option<Packet<'a>>, ParseError> {
        if self.pending.is_some() {
            return Err(ParseError::AttachmentDue);
        }
        let packet = Packet::parse_within(text, self.limits)?;
        let expected = packet.body.attachments();
        if expected == 0 {
            return Ok(Some(packet));
        }
        check_placeholders(&packet.body)?;
        // How many come is only said so far.
        let attachments = Vec::with_capacity(expected.min(16));
        self.pending = Some(Pending { header: text.to_owned(), expected, attachments, bytes: 0 });
        Ok(None)
    }

    /// Takes a binary message. Some: it was the last attachment of its packet.
    ///
    /// # Errors
    /// A [`ParseError`] that says what is wrong; the connection can't go on after it.
    pub fn binary(&mut self, attachment: Bytes) -> Result<Option<BinaryPacket>, ParseError> {
        let pending = self.pending.as_mut().ok_or(ParseError::UnexpectedBinary)?;
        pending.bytes += attachment.len();
        let (bytes, bytes_max) = (pending.bytes, self.limits.attachments_bytes_max);
        if bytes > bytes_max {
            return Err(ParseError::AttachmentsTooLarge { bytes, bytes_max });
        }
        pending.attachments.push(attachment);
        if pending.attachments.len() < pending.expected {
            return Ok(None);
        }
        let complete = self.pending.take();
        Ok(complete.map(|Pending { header, attachments, .. }| BinaryPacket { header, attachments }))
    }
}

impl BinaryPacket {
    /// The packet; its arguments hold placeholders, each of an attachment that exists.
    ///
    /// # Errors
    /// None in practice: the header was parsed before.
    pub fn packet(&self) -> Result<Packet<'_>, ParseError> {
        Packet::parse(&self.header, self.attachments.len())
    }

    pub fn attachments(&self) -> &[Bytes] {
        &self.attachments
    }
}

/// The number of the attachment that `arg` stands for, when it is itself a placeholder,
/// `{"_placeholder":true,"num":n}`. One inside an array or object is for its reader to find.
pub fn placeholder(arg: &RawValue) -> Option<usize> {
    #[derive(Deserialize)]
    struct Placeholder {
        _placeholder: bool,
        num: usize,
    }
    // Most arguments are none, and need no reading to know it.
    if arg.get().len() > PLACEHOLDER_BYTES_MAX {
        return None;
    }
    let placeholder: Placeholder = serde_json::from_str(arg.get()).ok()?;
    placeholder._placeholder.then_some(placeholder.num)
}

/// Refuses a packet with a placeholder of an attachment that it does not have, as the stock parser
/// does once the attachments are there.
fn check_placeholders(body: &Body<'_>) -> Result<(), ParseError> {
    let (Body::Event { args, attachments, .. } | Body::Ack { args, attachments, .. }) = body else {
        return Ok(());
    };
    let mut dangling = false;
    for arg in args {
        dangling |= is_dangling(arg, *attachments).map_err(ParseError::Data)?;
    }
    if dangling { Err(ParseError::Placeholder) } else { Ok(()) }
}

/// Reads through all of `arg`: whether it has a placeholder of none of so many attachments.
///
/// # Errors
/// That it could not be read into a value either.
pub(super) fn is_dangling(arg: &RawValue, attachments: usize) -> serde_json::Result<bool> {
    let mut dangling = false;
    let walk = Walk { attachments, dangling: &mut dangling };
    walk.deserialize(&mut serde_json::Deserializer::from_str(arg.get()))?;
    Ok(dangling)
}

/// Looks for placeholders in a JSON value without building it: a value can take a hundred times the
/// bytes of its text. Its depth was bounded when the packet was parsed.
struct Walk<'a> {
    attachments: usize,
    dangling: &'a mut bool,
}

/// As much of a value as tells a placeholder.
enum Seen {
    True,
    Number(Option<usize>),
    Other,
}

impl Walk<'_> {
    fn inner(&mut self) -> Walk<'_> {
        Walk { attachments: self.attachments, dangling: self.dangling }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Seen;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Seen, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Seen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Seen, E> {
        Ok(if value { Seen::True } else { Seen::Other })
    }

    fn visit_u64<E>(self, value: u64) -> Result<Seen, E> {
        Ok(Seen::Number(usize::try_from(value).ok()))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Seen, E> {
        Ok(Seen::Number(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Seen, E> {
        Ok(Seen::Number(None))
    }

    fn visit_str<E>(self, _: &str) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_unit<E>(self) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Seen, A::Error> {
        while seq.next_element_seed(self.inner())?.is_some() {}
        Ok(Seen::Other)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Seen, A::Error> {
        let (mut marked, mut number) = (false, None);
        while let Some(Text(key)) = map.next_key()? {
            let value = map.next_value_seed(self.inner())?;
            match key.as_ref() {
                "_placeholder" => marked = matches!(value, Seen::True),
                "num" => number = if let Seen::Number(number) = value { number } else { None },
                _ => {}
            }
        }
        if marked && number.is_none_or(|number| number >= self.attachments) {
            *self.dangling = true;
        }
        Ok(Seen::Other)
    }
}
