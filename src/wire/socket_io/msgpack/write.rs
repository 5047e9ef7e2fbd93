//! The text form to MessagePack.

use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::wire::socket_io::parse::Text;
use crate::wire::socket_io::{Body, Limits, Packet, ParseError};

/// Writes a packet from its text form and its attachments.
///
/// # Errors
/// A [`ParseError`] when the text is no packet, or nested too deep for one that may have attachments.
pub fn encode(packet: &str, attachments: &[Bytes]) -> Result<Vec<u8>, ParseError> {
    let limits = Limits { attachments_max: attachments.len(), ..Limits::default() };
    let packet = Packet::parse_within(packet, limits)?;
    let mut out = Vec::with_capacity(256);
    let (kind, id, has_data) = match &packet.body {
        Body::Connect { auth } => (0, None, auth.is_some()),
        Body::Disconnect => (1, None, false),
        Body::Event { id, .. } => (2, *id, true),
        Body::Ack { id, .. } => (3, Some(*id), true),
        Body::ConnectError { .. } => (4, None, true),
    };
    head(&mut out, 2 + usize::from(id.is_some()) + usize::from(has_data), &MAP);
    string(&mut out, "type");
    out.push(kind);
    string(&mut out, "nsp");
    string(&mut out, &packet.namespace);
    if let Some(id) = id {
        string(&mut out, "id");
        unsigned(&mut out, id);
    }
    if has_data {
        string(&mut out, "data");
    }
    let mut writer = Writer { out, wide: Vec::new(), attachments };
    match &packet.body {
        Body::Connect { auth: Some(value) } | Body::ConnectError { error: value } => {
            writer.json(value)?;
        }
        Body::Connect { auth: None } | Body::Disconnect => {}
        Body::Event { name, args, .. } => {
            head(&mut writer.out, 1 + args.len(), &ARRAY);
            string(&mut writer.out, name);
            args.iter().try_for_each(|arg| writer.json(arg))?;
        }
        Body::Ack { args, .. } => {
            head(&mut writer.out, args.len(), &ARRAY);
            args.iter().try_for_each(|arg| writer.json(arg))?;
        }
    }
    Ok(writer.finish())
}

/// Writes each byte once, or twice when there is a long array or map.
struct Writer<'a> {
    out: Vec<u8>,
    /// Arrays and maps whose head takes more than the byte that it was given.
    wide: Vec<Wide>,
    attachments: &'a [Bytes],
}

struct Wide {
    /// Where that byte is.
    at: usize,
    count: usize,
    heads: &'static Heads,
}

impl Writer<'_> {
    fn json(&mut self, value: &RawValue) -> Result<(), ParseError> {
        let mut json = serde_json::Deserializer::from_str(value.get());
        Value(self).deserialize(&mut json).map_err(ParseError::Data)?;
        Ok(())
    }

    /// Leaves a byte for the head of an array or map: how many there are shows at its end.
    fn open(&mut self) -> usize {
        self.out.push(0);
        self.out.len() - 1
    }

    fn close(&mut self, at: usize, count: usize, heads: &'static Heads) {
        match (u8::try_from(count), self.out.get_mut(at)) {
            (Ok(short), Some(byte)) if count < heads.fixed_end => *byte = heads.fixed | short,
            _ => self.wide.push(Wide { at, count, heads }),
        }
    }

    fn finish(self) -> Vec<u8> {
        let Self { out, mut wide, .. } = self;
        if wide.is_empty() {
            return out;
        }
        wide.sort_unstable_by_key(|wide| wide.at);
        let mut whole = Vec::with_capacity(out.len() + 4 * wide.len());
        let mut from = 0;
        for Wide { at, count, heads } in wide {
            whole.extend_from_slice(&out[from..at]);
            head(&mut whole, count, heads);
            from = at + 1;
        }
        whole.extend_from_slice(&out[from..]);
        whole
    }
}

/// Writes one JSON value as it is read.
struct Value<'w, 'a>(&'w mut Writer<'a>);

/// As much of a value as tells a placeholder.
enum Seen {
    True,
    Number(u64),
    Other,
}

impl<'de> DeserializeSeed<'de> for Value<'_, '_> {
    type Value = Seen;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Seen, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_, '_> {
    type Value = Seen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Seen, E> {
        self.0.out.push(0xc0);
        Ok(Seen::Other)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Seen, E> {
        self.0.out.push(if value { 0xc3 } else { 0xc2 });
        Ok(if value { Seen::True } else { Seen::Other })
    }

    fn visit_u64<E>(self, value: u64) -> Result<Seen, E> {
        unsigned(&mut self.0.out, value);
        Ok(Seen::Number(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Seen, E> {
        signed(&mut self.0.out, value);
        Ok(Seen::Other)
    }

    fn visit_f64<E>(self, value: f64) -> Result<Seen, E> {
        self.0.out.push(0xcb);
        self.0.out.extend_from_slice(&value.to_be_bytes());
        Ok(Seen::Other)
    }

    fn visit_str<E>(self, value: &str) -> Result<Seen, E> {
        string(&mut self.0.out, value);
        Ok(Seen::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Seen, A::Error> {
        let Value(writer) = self;
        let (at, mut count) = (writer.open(), 0);
        while seq.next_element_seed(Value(writer))?.is_some() {
            count += 1;
        }
        writer.close(at, count, &ARRAY);
        Ok(Seen::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Seen, A::Error> {
        let Value(writer) = self;
        let wide = writer.wide.len();
        let (at, mut count) = (writer.open(), 0);
        let (mut marked, mut number) = (false, None);
        while let Some(Text(key)) = map.next_key()? {
            string(&mut writer.out, &key);
            let seen = map.next_value_seed(Value(writer))?;
            match (&*key, seen) {
                ("_placeholder", Seen::True) => marked = true,
                ("num", Seen::Number(value)) => number = usize::try_from(value).ok(),
                _ => {}
            }
            count += 1;
        }
        let attachments = writer.attachments;
        let attachment = number.filter(|_| marked).and_then(|number| attachments.get(number));
        match attachment {
            Some(attachment) => {
                writer.out.truncate(at);
                writer.wide.truncate(wide);
                head(&mut writer.out, attachment.len(), &BINARY);
                writer.out.extend_from_slice(attachment);
            }
            None => writer.close(at, count, &MAP),
        }
        Ok(Seen::Other)
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    head(out, text.len(), &STRING);
    out.extend_from_slice(text.as_bytes());
}

fn unsigned(out: &mut Vec<u8>, value: u64) {
    if let Ok(short) = u8::try_from(value) {
        if short >= 0x80 {
            out.push(0xcc);
        }
        out.push(short);
    } else if let Ok(short) = u16::try_from(value) {
        out.push(0xcd);
        out.extend_from_slice(&short.to_be_bytes());
    } else if let Ok(short) = u32::try_from(value) {
        out.push(0xce);
        out.extend_from_slice(&short.to_be_bytes());
    } else {
        out.push(0xcf);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

fn signed(out: &mut Vec<u8>, value: i64) {
    if let Ok(short) = i8::try_from(value) {
        if short < -0x20 {
            out.push(0xd0);
        }
        out.extend_from_slice(&short.to_be_bytes());
    } else if let Ok(short) = i16::try_from(value) {
        out.push(0xd1);
        out.extend_from_slice(&short.to_be_bytes());
    } else if let Ok(short) = i32::try_from(value) {
        out.push(0xd2);
        out.extend_from_slice(&short.to_be_bytes());
    } else {
        out.push(0xd3);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// How the head of a kind of value begins, by the width of its length.
struct Heads {
    /// The first byte of a length below `fixed_end`, which is part of it.
    fixed: u8,
    fixed_end: usize,
    byte: Option<u8>,
    two: u8,
    four: u8,
}

static STRING: Heads =
    Heads { fixed: 0xa0, fixed_end: 32, byte: Some(0xd9), two: 0xda, four: 0xdb };
static BINARY: Heads = Heads { fixed: 0, fixed_end: 0, byte: Some(0xc4), two: 0xc5, four: 0xc6 };
static ARRAY: Heads = Heads { fixed: 0x90, fixed_end: 16, byte: None, two: 0xdc, four: 0xdd };
static MAP: Heads = Heads { fixed: 0x80, fixed_end: 16, byte: None, two: 0xde, four: 0xdf };

fn head(out: &mut Vec<u8>, length: usize, heads: &Heads) {
    match (u8::try_from(length), heads.byte, u16::try_from(length)) {
        (Ok(length), _, _) if usize::from(length) < heads.fixed_end => {
            out.push(heads.fixed | length);
        }
        (Ok(length), Some(head), _) => out.extend_from_slice(&[head, length]),
        (_, _, Ok(length)) => {
            out.push(heads.two);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(heads.four);
            // A packet of 4 GiB is refused long before.
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
}
