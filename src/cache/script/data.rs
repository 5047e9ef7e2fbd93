//! What scripts hand to their codecs: a Lua value, taken out of Lua.

/// Values that a decoder makes of one text, all that are in it counted: a byte of text can stand for a
/// whole [`Data`], and these lie outside of the memory that Lua counts.
pub(super) const DECODED_MAX: usize = 4 * 1024 * 1024;

/// A Lua value of its own. The codecs read and write these, so they need no Lua.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    Nil,
    /// `cjson.null`.
    Null,
    Boolean(bool),
    Number(f64),
    String(Vec<u8>),
    /// A table with the keys from 1 on, as decoders make it.
    Array(Vec<Data>),
    /// A table's keys and values, in the order in which Lua gives them.
    Table(Vec<(Data, Data)>),
    /// Of a type that no codec knows, by its name.
    Other(&'static str),
}

impl Data {
    /// The type's name in Lua.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Null => "userdata",
            Self::Boolean(_) => "boolean",
            Self::Number(_) => "number",
            Self::String(_) => "string",
            Self::Array(_) | Self::Table(_) => "table",
            Self::Other(name) => name,
        }
    }
}
