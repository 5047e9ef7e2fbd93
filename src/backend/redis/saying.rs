//! What is said or done in the same step as a change: part of that change's script.

use super::stream::ENTRIES_MAX;
use crate::backend::Saying;

/// In front of a script: has it say what its ARGV holds from an index on, in threes: how, where, what.
pub fn with_say(script: &str) -> String {
    format!(
        "local function say(first) \
           for i = first, #ARGV, 3 do \
             if ARGV[i] == 'p' then redis.call('PUBLISH', ARGV[i + 1], ARGV[i + 2]) \
             elseif ARGV[i] == 'd' then redis.call('DEL', ARGV[i + 1]) \
             else redis.call('XADD', ARGV[i + 1], 'MAXLEN', '~', {ENTRIES_MAX}, '*', 'e', ARGV[i + 2]) end \
           end \
         end {script}"
    )
}

/// As the scripts read it.
pub fn args(says: &[Saying]) -> impl Iterator<Item = Vec<u8>> {
    fn three(saying: &Saying) -> [&[u8]; 3] {
        match saying {
            Saying::Publish { channel, payload } => [b"p", channel.as_bytes(), &payload[..]],
            Saying::Append { stream, entry } => [b"a", stream.as_bytes(), &entry[..]],
            Saying::Remove { key } => [b"d", key.as_bytes(), b""],
        }
    }
    says.iter().flat_map(three).map(<[u8]>::to_vec)
}
