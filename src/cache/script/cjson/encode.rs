//! From Lua to JSON.

use super::{Config, InvalidNumbers};
use crate::cache::script::data::Data;
use crate::cache::script::number::format_g;

/// Why a value can't be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("Cannot serialise {0}: {1}")]
    Value(&'static str, &'static str),
    #[error("Cannot serialise, excessive nesting ({0})")]
    Nesting(usize),
    #[error("not enough memory")]
    Memory,
}

/// Appends a value.
///
/// # Errors
/// When it has parts that JSON has not, more nesting or holes than is allowed, or its text is too long.
pub fn encode(value: &Data, config: &Config, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    Encoder { config, out, places_left: OUT_BYTES_MAX / 5 }.value(value, 0)
}

struct Encoder<'a> {
    config: &'a Config,
    out: &'a mut Vec<u8>,
    /// What sparse arrays may still have, holes included: each is five bytes of the text at least.
    places_left: usize,
}

type Written = Result<(), EncodeError>;

impl Encoder<'_> {
    fn value(&mut self, value: &Data, depth: usize) -> Written {
        self.check_room()?;
        match value {
            Data::Nil | Data::Null => self.raw(b"null"),
            Data::Boolean(true) => self.raw(b"true"),
            Data::Boolean(false) => self.raw(b"false"),
            Data::Number(number) => self.number(*number)?,
            Data::String(text) => self.text(text)?,
            Data::Array(items) => {
                let depth = self.descend(depth)?;
                if items.is_empty() {
                    self.raw(b"{}");
                } else {
                    let items: Vec<Option<&Data>> = items.iter().map(Some).collect();
                    self.array(&items, depth)?;
                }
            }
            Data::Table(pairs) => {
                let depth = self.descend(depth)?;
                match self.as_array(pairs)? {
                    Some(items) => self.array(&items, depth)?,
                    None => self.object(pairs, depth)?,
                }
            }
            Data::Other(name) => return Err(EncodeError::Value(name, "type not supported")),
        }
        Ok(())
    }

    fn check_room(&self) -> Written {
        if self.out.len() < OUT_BYTES_MAX { Ok(()) } else { Err(EncodeError::Memory) }
    }

    fn raw(&mut self, text: &[u8]) {
        self.out.extend_from_slice(text);
    }

    fn descend(&self, depth: usize) -> Result<usize, EncodeError> {
        let depth = depth + 1;
        if depth > self.config.encode_depth_max() {
            Err(EncodeError::Nesting(depth))
        } else {
            Ok(depth)
        }
    }

    /// The values by their keys, when all keys are whole numbers from 1 on and there is one at least.
    fn as_array<'d>(
        &mut self,
        pairs: &'d [(Data, Data)],
    ) -> Result<Option<Vec<Option<&'d Data>>>, EncodeError> {
        let mut highest = 0.0_f64;
        for (key, _) in pairs {
            match key {
                Data::Number(key) if *key >= 1.0 && key.floor() == *key => {
                    highest = highest.max(*key);
                }
                _ => return Ok(None),
            }
        }
        if pairs.is_empty() {
            return Ok(None);
        }
        let Config { sparse_ratio, sparse_safe, sparse_convert, .. } = *self.config;
        #[expect(clippy::cast_precision_loss, reason = "as C does")]
        let is_sparse = sparse_ratio > 0
            && highest > pairs.len() as f64 * f64::from(sparse_ratio)
            && highest > f64::from(sparse_safe);
        // Without the check a table of one key could ask for any number of nulls.
        if is_sparse || highest > HOLES_MAX {
            let sparse = EncodeError::Value("table", "excessively sparse array");
            return if sparse_convert { Ok(None) } else { Err(sparse) };
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bounded above"
        )]
        let index = |key: f64| key as usize;
        let places = index(highest);
        self.places_left = self.places_left.checked_sub(places).ok_or(EncodeError::Memory)?;
        let mut items = vec![None; places];
        for (key, value) in pairs {
            let Data::Number(key) = key else { continue };
            if let Some(item) = items.get_mut(index(*key).wrapping_sub(1)) {
                *item = Some(value);
            }
        }
        Ok(Some(items))
    }

    fn array(&mut self, items: &[Option<&Data>], depth: usize) -> Written {
        self.out.push(b'[');
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            self.value(item.unwrap_or(&Data::Nil), depth)?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn object(&mut self, pairs: &[(Data, Data)], depth: usize) -> Written {
        self.out.push(b'{');
        for (at, (key, value)) in pairs.iter().enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            match key {
                Data::Number(key) => {
                    self.out.push(b'"');
                    self.number(*key)?;
                    self.out.push(b'"');
                }
                Data::String(key) => self.text(key)?,
                other => {
                    let reason = "table key must be a number or string";
                    return Err(EncodeError::Value(other.type_name(), reason));
                }
            }
            self.out.push(b':');
            self.value(value, depth)?;
        }
        self.out.push(b'}');
        Ok(())
    }

    fn number(&mut self, number: f64) -> Written {
        if !number.is_finite() {
            match self.config.encode_invalid {
                InvalidNumbers::Refused => {
                    return Err(EncodeError::Value("number", "must not be NaN or Inf"));
                }
                InvalidNumbers::Null => {
                    self.raw(b"null");
                    return Ok(());
                }
                InvalidNumbers::Written if number.is_nan() => {
                    self.raw(b"nan");
                    return Ok(());
                }
                InvalidNumbers::Written => {}
            }
        }
        let precision = usize::try_from(self.config.precision).unwrap_or(14);
        format_g(number, precision, self.out);
        Ok(())
    }

    fn text(&mut self, text: &[u8]) -> Written {
        self.out.push(b'"');
        for piece in text.chunks(PIECE_BYTES) {
            self.check_room()?;
            self.escaped(piece);
        }
        self.out.push(b'"');
        Ok(())
    }

    fn escaped(&mut self, text: &[u8]) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        for byte in text {
            match byte {
                b'"' => self.raw(b"\\\""),
                b'\\' => self.raw(b"\\\\"),
                b'/' => self.raw(b"\\/"),
                0x08 => self.raw(b"\\b"),
                b'\t' => self.raw(b"\\t"),
                b'\n' => self.raw(b"\\n"),
                0x0c => self.raw(b"\\f"),
                b'\r' => self.raw(b"\\r"),
                0..=0x1f | 0x7f => {
                    self.raw(b"\\u00");
                    self.out.push(HEX[usize::from(byte >> 4)]);
                    self.out.push(HEX[usize::from(byte & 0xf)]);
                }
                other => self.out.push(*other),
            }
        }
    }
}

/// More than this Lua could not hold: an escape makes six bytes of one, and a hole is a `null`.
const OUT_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Bytes of a string between two looks at what is written.
const PIECE_BYTES: usize = 64 * 1024;
/// The highest key of an array.
const HOLES_MAX: f64 = 16_777_216.0;
