//! JSON as the `cjson` of Redis's scripts reads and writes it: its own limits, its own numbers.

mod decode;
mod encode;

pub use decode::{DecodeError, decode};
pub use encode::{EncodeError, encode};

/// What scripts may set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Write a table with many holes as an object.
    pub sparse_convert: bool,
    /// A table has many holes when its highest key is more than this many times the number of its
    /// keys; 0: never.
    pub sparse_ratio: i32,
    /// And when its highest key is more than this.
    pub sparse_safe: i32,
    pub encode_depth_max: i32,
    pub decode_depth_max: i32,
    /// Significant digits that are written.
    pub precision: i32,
    pub encode_invalid: InvalidNumbers,
    /// Read infinities, NaN, hexadecimal numbers and leading zeros.
    pub decode_invalid: bool,
    /// Without effect: it is there for scripts that set it.
    pub keep_buffer: bool,
}

/// What becomes of an infinity or a NaN that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidNumbers {
    Refused,
    Written,
    /// Written as null.
    Null,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sparse_convert: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            encode_depth_max: 1_000,
            decode_depth_max: 1_000,
            precision: 14,
            encode_invalid: InvalidNumbers::Refused,
            decode_invalid: true,
            keep_buffer: true,
        }
    }
}

/// Whatever a script sets, nothing is nested deeper. Redis goes on until its stack is full.
const NESTING_MAX: usize = 1_000;

fn depth_max(set: i32) -> usize {
    usize::try_from(set).unwrap_or(0).min(NESTING_MAX)
}

impl Config {
    /// Tables within each other that are looked at before one is too deep.
    pub fn encode_depth_max(&self) -> usize {
        depth_max(self.encode_depth_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::script::data::Data;

    fn decoded(text: &str) -> Result<Data, String> {
        decode(text.as_bytes(), &Config::default()).map_err(|error| error.to_string())
    }

    fn encoded(value: &Data) -> Result<String, String> {
        let mut out = Vec::new();
        encode(value, &Config::default(), &mut out).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn what_is_read_is_written_the_same() {
        for text in [
            r#"{"a":[1,2.5,null,true,false,"x\"\\\/\b\f\n\r\t\u0001\u007f"],"b":{}}"#,
            "[1e+100,-0.1,0.33333333333333]",
            "null",
            "\"\"",
        ] {
            assert_eq!(encoded(&decoded(text).unwrap()).as_deref(), Ok(text));
        }
        assert_eq!(encoded(&decoded("[]").unwrap()).as_deref(), Ok("{}"));
        assert_eq!(decoded(r#""\ud83d\ude00\u00e9""#), Ok(Data::String("😀é".into())));
    }

    #[test]
    fn errors_say_what_was_expected_where() {
        for (text, error) in [
            ("", "Expected value but found T_END at character 1"),
            ("[1,}", "Expected value but found T_OBJ_END at character 4"),
            ("{a:1}", "Expected object key string but found invalid token at character 2"),
            ("{\"a\" 1}", "Expected colon but found T_NUMBER at character 6"),
            ("{\"a\":1 1}", "Expected comma or object end but found T_NUMBER at character 8"),
            ("[1 2]", "Expected comma or array end but found T_NUMBER at character 4"),
            ("1 1", "Expected the end but found T_NUMBER at character 3"),
            ("\"a", "Expected value but found unexpected end of string at character 3"),
            ("\"\\x\"", "Expected value but found invalid escape code at character 2"),
            ("[\"\\u12\"]", "Expected value but found invalid unicode escape code at character 3"),
            ("\"\\udc00\"", "Expected value but found invalid unicode escape code at character 2"),
            ("[-]", "Expected value but found invalid number at character 2"),
            ("a\0b", "JSON parser does not support UTF-16 or UTF-32"),
        ] {
            assert_eq!(decoded(text).unwrap_err(), error, "{text:?}");
        }
        let deep = "[".repeat(1_001);
        let error = "Found too many nested data structures (1001) at character 1001";
        assert_eq!(decoded(&deep).unwrap_err(), error);
    }

    #[test]
    fn tables_with_many_holes_are_refused() {
        let table = |highest: f64| {
            let one = (Data::Number(1.0), Data::Number(1.0));
            Data::Table(vec![one, (Data::Number(highest), Data::Number(2.0))])
        };
        assert_eq!(encoded(&table(3.0)).as_deref(), Ok("[1,null,2]"));
        let error = "Cannot serialise table: excessively sparse array";
        assert_eq!(encoded(&table(20.0)).unwrap_err(), error);
        let error = "Cannot serialise number: must not be NaN or Inf";
        assert_eq!(encoded(&Data::Number(f64::NAN)).unwrap_err(), error);
    }
}
