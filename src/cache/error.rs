//! What the cache refuses, in Redis's words.

use std::sync::Arc;

use crate::journal::JournalError;

/// Why a command was not done. The text is the one that Redis 7 sends, its code word first.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CacheError {
    #[error("WRONGTYPE Operation against a key holding the wrong kind of value")]
    WrongType,
    #[error("ERR value is not an integer or out of range")]
    NotAnInteger,
    #[error("ERR value is out of range, must be positive")]
    NotPositive,
    #[error("ERR increment or decrement would overflow")]
    IncrementOverflow,
    #[error("ERR decrement would overflow")]
    DecrementOverflow,
    #[error("ERR value is not a valid float")]
    NotAFloat,
    #[error("ERR increment would produce NaN or Infinity")]
    NotFinite,
    #[error("ERR offset is out of range")]
    OffsetOutOfRange,
    #[error("ERR If you want both the length and indexes, please just use IDX.")]
    LenAndIdx,
    #[error("ERR The specified keys must contain string values")]
    LcsOfOthers,
    #[error("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len")]
    LcsTooLong,
    #[error("ERR bit offset is not an integer or out of range")]
    NotABitOffset,
    #[error("ERR bit is not an integer or out of range")]
    NotABit,
    #[error("ERR The bit argument must be 1 or 0.")]
    NeitherBit,
    #[error("ERR BITOP NOT must be called with a single source key.")]
    NotOfMany,
    #[error(
        "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is."
    )]
    NotABitfieldType,
    #[error("ERR Invalid OVERFLOW type specified")]
    NotAnOverflow,
    #[error("ERR BITFIELD_RO only supports the GET subcommand")]
    ReadOnlyBitfield,
    #[error("ERR resulting score is not a number (NaN)")]
    NanScore,
    #[error("ERR min or max is not a float")]
    NotAScoreRange,
    #[error("ERR min or max not valid string range item")]
    NotALexRange,
    #[error("ERR weight value is not a float")]
    NotAWeight,
    #[error("ERR value is out of range")]
    OutOfRange,
    #[error(
        "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807"
    )]
    CountOutOfRange,
    #[error("ERR invalid cursor")]
    InvalidCursor,
    #[error("ERR XX and NX options at the same time are not compatible")]
    NxWithXx,
    #[error("ERR GT, LT, and/or NX options at the same time are not compatible")]
    GtLtNx,
    #[error("ERR INCR option supports a single increment-element pair")]
    IncrementOfMany,
    #[error(
        "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX"
    )]
    LimitOfRanks,
    #[error("ERR syntax error, WITHSCORES not supported in combination with BYLEX")]
    ScoresOfLexRange,
    #[error("ERR numkeys should be greater than 0")]
    NumKeysNotPositive,
    #[error("ERR count should be greater than 0")]
    CountNotPositive,
    #[error("ERR LIMIT can't be negative")]
    NegativeLimit,
    #[error("ERR at least 1 input key is needed for '{command}' command")]
    NoInputKey { command: &'static str },
    #[error("ERR no such key")]
    NoSuchKey,
    #[error("ERR index out of range")]
    IndexOutOfRange,
    #[error(
        "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list"
    )]
    RankOfZero,
    #[error("ERR COUNT can't be negative")]
    NegativeCount,
    #[error("ERR MAXLEN can't be negative")]
    NegativeMaxLen,
    #[error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")]
    StringTooLong,
    #[error("ERR syntax error")]
    Syntax,
    #[error("ERR invalid expire time in '{command}' command")]
    InvalidExpireTime { command: &'static str },
    #[error("ERR Unsupported option {option}")]
    UnsupportedOption { option: String },
    #[error("ERR NX and XX, GT or LT options at the same time are not compatible")]
    NxWithOthers,
    #[error("ERR GT and LT options at the same time are not compatible")]
    GtWithLt,
    #[error("ERR wrong number of arguments for '{command}' command")]
    WrongArity { command: &'static str },
    #[error("ERR unknown subcommand '{name}'. Try {} HELP.", command.to_ascii_uppercase())]
    UnknownSubcommand { command: &'static str, name: String },
    #[error(
        "ERR unknown subcommand or wrong number of arguments for '{name}'. Try {command} HELP."
    )]
    Subcommand { command: &'static str, name: String },
    #[error("ERR unknown command '{name}', with args beginning with: {args}")]
    UnknownCommand { name: String, args: String },
    /// The value as the error's text has it.
    #[error("OOM command not allowed when used memory > 'maxmemory'.")]
    OutOfMemory,
    #[error("ERR timeout is not a float or out of range")]
    TimeoutNotAFloat,
    #[error("ERR too many keys are watched")]
    TooManyWatched,
    #[error("ERR DB index is out of range")]
    NoSuchDatabase,
    #[error(
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
    )]
    Busy,
    #[error("NOTBUSY No scripts in execution right now.")]
    NotBusy,
    #[error(
        "UNKILLABLE Sorry the script already executed write commands against the dataset. You can \
         either wait the script termination or kill the server in a hard way using the SHUTDOWN \
         NOSAVE command."
    )]
    Unkillable,
    #[error("NOSCRIPT No matching script. Please use EVAL.")]
    NoScript,
    #[error("ERR Number of keys can't be negative")]
    NegativeKeys,
    #[error("ERR SCRIPT FLUSH only support SYNC|ASYNC option")]
    ScriptFlushOption,
    #[error("ERR reached lua stack limit")]
    LuaStack,
    #[error("ERR the scripts that are loaded take too much memory")]
    TooManyScripts,
    /// The thread that runs scripts could not be started, or came to an end.
    #[error("ERR scripts can't be run: {0}")]
    ScriptThread(String),
    #[error("ERR invalid {which} DB index")]
    InvalidDatabase { which: &'static str },
    #[error("ERR value is out of range, value must between -2147483648 and 2147483647")]
    NotAnInt32,
    #[error("ERR source and destination objects are the same")]
    SameObject,
    #[error("ERR hash value is not a float")]
    HashValueNotAFloat,
    #[error("ERR value is NaN or Infinity")]
    NanOrInfinite,
    #[error("ERR hash value is not an integer")]
    HashValueNotAnInteger,
    #[error("ERR Number of keys can't be greater than number of args")]
    TooManyNumKeys,
    #[error("ERR One or more scores can't be converted into double")]
    NotSortable,
    #[error("ERR timeout is not an integer or out of range")]
    TimeoutNotAnInteger,
    #[error("ERR timeout is negative")]
    NegativeTimeout,
    #[error(
        "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust."
    )]
    NoLfuPolicy,
    #[error(
        "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust."
    )]
    LfuPolicy,
    /// The journal takes no writes; reads go on.
    #[error("MISCONF Errors writing to the AOF file: {0}")]
    Journal(#[from] JournalError),
    /// Only the typed methods for JSON give it.
    #[error("ERR the value is not the JSON that was expected")]
    Json(#[source] Arc<serde_json::Error>),
}

impl From<serde_json::Error> for CacheError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(Arc::new(error))
    }
}

/// Two errors are equal when a client reads the same.
impl PartialEq for CacheError {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for CacheError {}
