//! From JSON to Lua.

use super::{Config, depth_max};
use crate::cache::script::data::{DECODED_MAX, Data};
use crate::cache::script::number::parse_prefix;

/// Why a text is no JSON. Characters count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("Expected {expected} but found {found} at character {at}")]
    Unexpected { expected: &'static str, found: &'static str, at: usize },
    #[error("Found too many nested data structures ({depth}) at character {at}")]
    Nesting { depth: usize, at: usize },
    #[error("JSON parser does not support UTF-16 or UTF-32")]
    Encoding,
    #[error("not enough memory")]
    Memory,
}

/// Reads a text; it ends at a NUL, if there is one.
///
/// # Errors
/// What is wrong with it, and where.
pub fn decode(text: &[u8], config: &Config) -> Result<Data, DecodeError> {
    if let [first, second, ..] = text
        && (*first == 0 || *second == 0)
    {
        return Err(DecodeError::Encoding);
    }
    let mut decoder = Decoder {
        text,
        at: 0,
        depth: 0,
        values_left: DECODED_MAX,
        depth_max: depth_max(config.decode_depth_max),
        invalid_numbers: config.decode_invalid,
    };
    let token = decoder.token();
    let value = decoder.value(token)?;
    match decoder.token() {
        Token { kind: Kind::End, .. } => Ok(value),
        other => Err(other.instead_of("the end")),
    }
}

struct Token {
    kind: Kind,
    /// From 0.
    at: usize,
}

#[derive(Debug, PartialEq)]
enum Kind {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    Colon,
    Comma,
    End,
    Null,
    Boolean(bool),
    Number(f64),
    Text(Vec<u8>),
    Error(&'static str),
}

impl Token {
    fn instead_of(&self, expected: &'static str) -> DecodeError {
        let found = match self.kind {
            Kind::ObjectBegin => "T_OBJ_BEGIN",
            Kind::ObjectEnd => "T_OBJ_END",
            Kind::ArrayBegin => "T_ARR_BEGIN",
            Kind::ArrayEnd => "T_ARR_END",
            Kind::Colon => "T_COLON",
            Kind::Comma => "T_COMMA",
            Kind::End => "T_END",
            Kind::Null => "T_NULL",
            Kind::Boolean(_) => "T_BOOLEAN",
            Kind::Number(_) => "T_NUMBER",
            Kind::Text(_) => "T_STRING",
            Kind::Error(error) => error,
        };
        DecodeError::Unexpected { expected, found, at: self.at + 1 }
    }
}

struct Decoder<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
    depth_max: usize,
    values_left: usize,
    invalid_numbers: bool,
}

impl Decoder<'_> {
    /// The byte at this distance; a NUL behind the end.
    fn peek(&self, distance: usize) -> u8 {
        self.text.get(self.at + distance).copied().unwrap_or(0)
    }

    fn rest(&self) -> &[u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn token(&mut self) -> Token {
        while matches!(self.peek(0), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        let at = self.at;
        let one = match self.peek(0) {
            b'{' => Kind::ObjectBegin,
            b'}' => Kind::ObjectEnd,
            b'[' => Kind::ArrayBegin,
            b']' => Kind::ArrayEnd,
            b':' => Kind::Colon,
            b',' => Kind::Comma,
            0 => return Token { kind: Kind::End, at },
            b'"' => return self.string(),
            b'-' | b'0'..=b'9' => return self.number(),
            _ => return self.word(),
        };
        self.at += 1;
        Token { kind: one, at }
    }

    fn error(&self, error: &'static str) -> Token {
        Token { kind: Kind::Error(error), at: self.at }
    }

    fn word(&mut self) -> Token {
        let at = self.at;
        for (word, kind) in [
            (&b"true"[..], Kind::Boolean(true)),
            (b"false", Kind::Boolean(false)),
            (b"null", Kind::Null),
        ] {
            if self.rest().starts_with(word) {
                self.at += word.len();
                return Token { kind, at };
            }
        }
        let may_be_a_number = matches!(self.peek(0), b'+' | b'i' | b'I' | b'n' | b'N');
        if may_be_a_number && self.invalid_numbers && self.is_invalid_number() {
            return self.number();
        }
        self.error("invalid token")
    }

    fn number(&mut self) -> Token {
        if !self.invalid_numbers && self.is_invalid_number() {
            return self.error("invalid number");
        }
        match parse_prefix(self.rest()) {
            Some((number, taken)) => {
                let at = self.at;
                self.at += taken;
                Token { kind: Kind::Number(number), at }
            }
            None => self.error("invalid number"),
        }
    }

    /// A number that JSON does not have: a sign before it, hexadecimal, leading zeros, not finite.
    fn is_invalid_number(&self) -> bool {
        let from = match self.peek(0) {
            b'+' => return true,
            b'-' => 1,
            _ => 0,
        };
        match self.peek(from) {
            b'0' => matches!(self.peek(from + 1), b'x' | b'X' | b'0'..=b'9'),
            ..=b'9' => false,
            _ => self.rest().get(from..from + 3).is_some_and(|it| {
                it.eq_ignore_ascii_case(b"inf") || it.eq_ignore_ascii_case(b"nan")
            }),
        }
    }

    fn string(&mut self) -> Token {
        let begin = self.at;
        self.at += 1;
        let mut text = Vec::new();
        loop {
            let byte = match self.peek(0) {
                b'"' => break,
                0 => return self.error("unexpected end of string"),
                b'\\' => match self.peek(1) {
                    escaped @ (b'"' | b'\\' | b'/') => escaped,
                    b'b' => 0x08,
                    b't' => b'\t',
                    b'n' => b'\n',
                    b'f' => 0x0c,
                    b'r' => b'\r',
                    b'u' => match self.unicode() {
                        Some((character, taken)) => {
                            let mut utf8 = [0; 4];
                            text.extend_from_slice(character.encode_utf8(&mut utf8).as_bytes());
                            self.at += taken;
                            continue;
                        }
                        None => return self.error("invalid unicode escape code"),
                    },
                    _ => return self.error("invalid escape code"),
                },
                byte => byte,
            };
            self.at += if self.peek(0) == b'\\' { 2 } else { 1 };
            text.push(byte);
        }
        self.at += 1;
        Token { kind: Kind::Text(text), at: begin }
    }

    /// The character of one escape or of two that are a surrogate pair, and how many bytes that is.
    fn unicode(&self) -> Option<(char, usize)> {
        const ESCAPE_BYTES: usize = 6;
        let unit = |at: usize| -> Option<u16> {
            let digits = self.text.get(at + 2..at + ESCAPE_BYTES)?;
            if !digits.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
            u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
        };
        let first = unit(self.at)?;
        if let Some(character) = char::from_u32(first.into()) {
            return Some((character, ESCAPE_BYTES));
        }
        let second_at = self.at + ESCAPE_BYTES;
        if self.text.get(second_at..second_at + 2)? != b"\\u" {
            return None;
        }
        let character = char::decode_utf16([first, unit(second_at)?]).next()?.ok()?;
        Some((character, 2 * ESCAPE_BYTES))
    }

    fn value(&mut self, token: Token) -> Result<Data, DecodeError> {
        self.values_left = self.values_left.checked_sub(1).ok_or(DecodeError::Memory)?;
        Ok(match token.kind {
            Kind::Text(text) => Data::String(text),
            Kind::Number(number) => Data::Number(number),
            Kind::Boolean(value) => Data::Boolean(value),
            Kind::Null => Data::Null,
            Kind::ObjectBegin => self.object()?,
            Kind::ArrayBegin => self.array()?,
            _ => return Err(token.instead_of("value")),
        })
    }

    fn descend(&mut self) -> Result<(), DecodeError> {
        self.depth += 1;
        if self.depth > self.depth_max {
            return Err(DecodeError::Nesting { depth: self.depth, at: self.at });
        }
        Ok(())
    }

    fn object(&mut self) -> Result<Data, DecodeError> {
        self.descend()?;
        let mut pairs = Vec::new();
        let mut token = self.token();
        if token.kind != Kind::ObjectEnd {
            loop {
                let Token { kind: Kind::Text(key), .. } = token else {
                    return Err(token.instead_of("object key string"));
                };
                let colon = self.token();
                if colon.kind != Kind::Colon {
                    return Err(colon.instead_of("colon"));
                }
                let value = self.token();
                pairs.push((Data::String(key), self.value(value)?));
                let next = self.token();
                match next.kind {
                    Kind::ObjectEnd => break,
                    Kind::Comma => token = self.token(),
                    _ => return Err(next.instead_of("comma or object end")),
                }
            }
        }
        self.depth -= 1;
        Ok(Data::Table(pairs))
    }

    fn array(&mut self) -> Result<Data, DecodeError> {
        self.descend()?;
        let mut items = Vec::new();
        let mut token = self.token();
        if token.kind != Kind::ArrayEnd {
            loop {
                items.push(self.value(token)?);
                let next = self.token();
                match next.kind {
                    Kind::ArrayEnd => break,
                    Kind::Comma => token = self.token(),
                    _ => return Err(next.instead_of("comma or array end")),
                }
            }
        }
        self.depth -= 1;
        Ok(Data::Array(items))
    }
}
