//! What each node holds, as the server keeps it: a node's lease is one member of a sorted set, what it holds is
//! a hash of notes, and a group is a hash of how many nodes hold each member.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{FromRedisValue, cmd};

use super::RedisCache;
use super::failure::of_server;
use super::outbox::{Change, RedisAnswer};
use super::saying::{self, with_say};
use super::values::ttl_ms;
use crate::backend::{BackendError, Held, Holding, Saying};

/// How long what a node that is over had sent may come after its end, in milliseconds.
const LATE_MAX_MS: u64 = 60_000;

/// Holdings of nodes that are gone that one step tells.
const LAPSED_MAX: usize = 500;

/// What [`HOLD`] and [`GIVE_UP`] begin with.
const LOOK: &str = "local time = redis.call('TIME') \
     local now = time[1] * 1000 + math.floor(time[2] / 1000) \
     local ended = tonumber(redis.call('ZSCORE', 'leveret:node-leases', ARGV[1]) or 0) < now \
     local group = 'leveret:held:' .. ARGV[2] ";

/// node, group, member, its name among what the node holds, its note, the lease, what is said.
/// {1: no node held it, 1: this node had no lease, which it has now}; nothing is done for one that is shut
/// down, which is late.
const HOLD: &str = "if redis.call('EXISTS', 'leveret:node-over:' .. ARGV[1]) == 1 then return {0, 0} end \
     if ended then \
       redis.call('ZADD', 'leveret:node-leases', string.format('%.0f', now + ARGV[6]), ARGV[1]) \
     end \
     local is_new = redis.call('HSETNX', KEYS[1], ARGV[4], ARGV[5]) == 1 \
     local is_first = is_new and redis.call('HINCRBY', group, ARGV[3], 1) == 1 \
     if is_first then say(7) end \
     return {is_first and 1 or 0, ended and 1 or 0}";

/// As [`HOLD`]; the note is none, and the sixth is 1 when the node has to be gone. 1: no node holds it.
const GIVE_UP: &str = "if ARGV[6] == '1' and not ended then return 0 end \
     if redis.call('HDEL', KEYS[1], ARGV[4]) == 1 and redis.call('HINCRBY', group, ARGV[3], -1) <= 0 then \
       redis.call('HDEL', group, ARGV[3]) \
       say(7) \
     end \
     return 1 - redis.call('HEXISTS', group, ARGV[3])";

/// 1: there was no lease, or it had ended, so that others may have taken some of what it held already. One that
/// is shut down gets none any more.
const RENEW: &str = "if redis.call('EXISTS', 'leveret:node-over:' .. ARGV[1]) == 1 then return 0 end \
     local time = redis.call('TIME') \
     local now = time[1] * 1000 + math.floor(time[2] / 1000) \
     local ended = tonumber(redis.call('ZSCORE', 'leveret:node-leases', ARGV[1]) or 0) < now \
     redis.call('ZADD', 'leveret:node-leases', string.format('%.0f', now + ARGV[2]), ARGV[1]) \
     return ended and 1 or 0";

/// Marks a node as over, until its lease ends and for the milliseconds of the second argument at least. One that
/// holds nothing has no lease any more.
const END: &str = "local time = redis.call('TIME') \
     local now = time[1] * 1000 + math.floor(time[2] / 1000) \
     local left = tonumber(redis.call('ZSCORE', 'leveret:node-leases', ARGV[1]) or 0) - now \
     if redis.call('HLEN', KEYS[1]) == 0 then redis.call('ZREM', 'leveret:node-leases', ARGV[1]) end \
     local marked = string.format('%.0f', math.max(left + 1, tonumber(ARGV[2]))) \
     redis.call('SET', 'leveret:node-over:' .. ARGV[1], '', 'PX', marked)";

/// {{node, name, note, name, note ...}, ...} of nodes whose leases have ended; one that holds nothing is
/// forgotten.
const LAPSED: &str = "local time = redis.call('TIME') \
     local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)) \
     local found, left = {}, tonumber(ARGV[1]) \
     for _, node in ipairs(redis.call('ZRANGEBYSCORE', 'leveret:node-leases', '-inf', '(' .. now)) do \
       local some = redis.call('HRANDFIELD', 'leveret:holds:' .. node, left, 'WITHVALUES') \
       if #some == 0 then redis.call('ZREM', 'leveret:node-leases', node) \
       else \
         left = left - #some / 2 \
         table.insert(some, 1, node) \
         found[#found + 1] = some \
       end \
       if left <= 0 then break end \
     end \
     return found";

const LEASED: &str = "local time = redis.call('TIME') \
     local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)) \
     local there = {} \
     for _, node in ipairs(redis.call('ZRANGEBYSCORE', 'leveret:node-leases', now, '+inf')) do \
       if redis.call('EXISTS', 'leveret:node-over:' .. node) == 0 then there[#there + 1] = node end \
     end \
     return there";

/// What a node's holding is called: colons may be in both parts.
fn name(holding: &Holding) -> String {
    format!("{}:{}{}", holding.group.len(), holding.group, holding.member)
}

/// `None`: it is no such name.
fn named(name: &str, note: String) -> Option<Holding> {
    let (length, rest) = name.split_once(':')?;
    let (group, member) = rest.split_at_checked(length.parse().ok()?)?;
    Some(Holding { group: group.into(), member: member.into(), note })
}

/// A node that is gone and something that it held; `None`: it cannot be read, or not be given up by that name.
/// Of a note what can be read is enough, as what it stands beside is still to be given up.
fn read(node: &[u8], text: &[u8], note: &[u8]) -> Option<(String, Holding)> {
    let (node, text) = (std::str::from_utf8(node).ok()?, std::str::from_utf8(text).ok()?);
    let holding = named(text, String::from_utf8_lossy(note).into_owned())?;
    (name(&holding) == text).then(|| (node.to_owned(), holding))
}

#[derive(Clone, Copy)]
enum Step {
    Hold,
    GiveUp,
}

impl Step {
    fn script(self) -> &'static str {
        static SCRIPTS: LazyLock<[String; 2]> =
            LazyLock::new(|| [HOLD, GIVE_UP].map(|step| with_say(&format!("{LOOK}{step}"))));
        &SCRIPTS[self as usize]
    }
}

impl RedisCache {
    pub fn hold_for(
        &self,
        node: &str,
        lease: Duration,
        holding: &Holding,
        says: &[Saying],
    ) -> Result<RedisAnswer, BackendError> {
        self.send_step(Step::Hold, node, holding, &ttl_ms(lease).to_string(), says)
    }

    pub fn give_up(
        &self,
        node: &str,
        holding: &Holding,
        says: &[Saying],
    ) -> Result<RedisAnswer, BackendError> {
        self.send_step(Step::GiveUp, node, holding, "0", says)
    }

    pub fn take_over(
        &self,
        node: &str,
        holding: &Holding,
        says: &[Saying],
    ) -> Result<RedisAnswer, BackendError> {
        self.send_step(Step::GiveUp, node, holding, "1", says)
    }

    fn send_step(
        &self,
        step: Step,
        node: &str,
        holding: &Holding,
        sixth: &str,
        says: &[Saying],
    ) -> Result<RedisAnswer, BackendError> {
        let Holding { group, member, note } = holding;
        let name = name(holding);
        let own = [node, group, member, &name, note, sixth].map(|text| text.as_bytes().to_vec());
        let args = own.into_iter().chain(saying::args(says)).collect();
        let key = format!("leveret:holds:{node}");
        self.outbox.put(Change::Script { script: step.script(), key, args })
    }

    pub async fn renew_node(&self, node: &str, lease: Duration) -> Result<bool, BackendError> {
        let mut renew = cmd("EVAL");
        renew.arg(RENEW).arg(0).arg(node).arg(ttl_ms(lease));
        self.link.run(&renew).await
    }

    pub async fn end_node(&self, node: &str) -> Result<(), BackendError> {
        let mut end = cmd("EVAL");
        end.arg(END).arg(1).arg(format!("leveret:holds:{node}")).arg(node).arg(LATE_MAX_MS);
        self.link.run(&end).await
    }

    pub async fn lapsed_holdings(&self) -> Result<Vec<(String, Holding)>, BackendError> {
        let mut lapsed = cmd("EVAL");
        lapsed.arg(LAPSED).arg(0).arg(LAPSED_MAX);
        loop {
            let nodes: Vec<Vec<Vec<u8>>> = self.link.run(&lapsed).await?;
            let (mut found, mut unread) = (Vec::new(), false);
            for node in nodes {
                let mut texts = node.into_iter();
                let Some(node) = texts.next() else { continue };
                let mut unreadable = Vec::new();
                while let (Some(name), Some(note)) = (texts.next(), texts.next()) {
                    match read(&node, &name, &note) {
                        Some(holding) => found.push(holding),
                        None => unreadable.push(name),
                    }
                }
                if !unreadable.is_empty() {
                    unread = true;
                    self.forget_unreadable(&node, unreadable).await?;
                }
            }
            // Behind what nobody can read there may be more.
            if !found.is_empty() || !unread {
                return Ok(found);
            }
        }
    }

    /// What stays would be found again each time, in the place of what can be read.
    async fn forget_unreadable(
        &self,
        node: &[u8],
        names: Vec<Vec<u8>>,
    ) -> Result<(), BackendError> {
        let (count, first) = (names.len(), names.first().map(|name| name.escape_ascii()));
        let first = first.map(|name| name.to_string()).unwrap_or_default();
        tracing::warn!(count, first, "what a node held that is gone cannot be read");
        let mut forget = cmd("HDEL");
        forget.arg([b"leveret:holds:", node].concat()).arg(names);
        self.link.run(&forget).await
    }

    pub async fn leased_nodes(&self) -> Result<Vec<String>, BackendError> {
        let mut leased = cmd("EVAL");
        leased.arg(LEASED).arg(0);
        self.link.run(&leased).await
    }
}

impl RedisAnswer {
    pub async fn held(self) -> Result<Held, BackendError> {
        let (is_first, had_no_lease) = FromRedisValue::from_redis_value(self.value().await?)
            .map_err(|error| of_server(&error.into()))?;
        Ok(Held { is_first, had_no_lease })
    }

    pub async fn gone(self) -> Result<bool, BackendError> {
        FromRedisValue::from_redis_value(self.value().await?)
            .map_err(|error| of_server(&error.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holdings_name_reads_back_whatever_is_in_it() {
        for (group, member) in [("users", "ada"), ("room:1:2", "a:b"), ("", ""), ("ré", ":é")] {
            let holding =
                Holding { group: group.into(), member: member.into(), note: "n".to_owned() };
            assert_eq!(named(&name(&holding), "n".to_owned()), Some(holding));
        }
        for text in ["", "5", "5:abc", "x:abc", "2:é"] {
            let read = named(text, String::new());
            assert!(read.is_none() || text == "2:é", "{text}: {read:?}");
        }
        assert_eq!(named("1:é", String::new()), None);
        assert!(read(b"n", b"5:users", b"").is_some());
        // Its name would be another one.
        assert_eq!(read(b"n", b"05:users", b""), None);
        // It is held by its name, whatever stands beside it.
        let (_, holding) = read(b"n", b"5:usersada", b"A\xffda").unwrap();
        assert_eq!((&*holding.member, &*holding.note), ("ada", "A\u{fffd}da"));
    }
}
