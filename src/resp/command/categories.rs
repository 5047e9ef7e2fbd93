//! The categories of commands, as COMMAND INFO and COMMAND LIST tell them. Nobody's rights hang on them.

use crate::cache::Flags;

/// In Redis's order, with the commands that are in a category by their names; more are by their flags.
const CATEGORIES: [(&str, &str); 18] = [
    (
        "keyspace",
        "copy dbsize del exists expire expireat expiretime flushall flushdb keys move \
         object|encoding object|freq object|help object|idletime object|refcount persist \
         pexpire pexpireat pexpiretime pttl randomkey rename renamenx scan swapdb touch ttl \
         type unlink",
    ),
    ("read", ""),
    ("write", ""),
    (
        "set",
        "sadd scard sdiff sdiffstore sinter sintercard sinterstore sismember smembers \
         smismember smove sort sort_ro spop srandmember srem sscan sunion sunionstore",
    ),
    (
        "sortedset",
        "bzmpop bzpopmax bzpopmin sort sort_ro zadd zcard zcount zdiff zdiffstore zincrby \
         zinter zintercard zinterstore zlexcount zmpop zmscore zpopmax zpopmin zrandmember \
         zrange zrangebylex zrangebyscore zrangestore zrank zrem zremrangebylex zremrangebyrank \
         zremrangebyscore zrevrange zrevrangebylex zrevrangebyscore zrevrank zscan zscore \
         zunion zunionstore",
    ),
    (
        "list",
        "blmove blmpop blpop brpop brpoplpush lindex linsert llen lmove lmpop lpop lpos lpush \
         lpushx lrange lrem lset ltrim rpop rpoplpush rpush rpushx sort sort_ro",
    ),
    (
        "hash",
        "hdel hexists hget hgetall hincrby hincrbyfloat hkeys hlen hmget hmset hrandfield hscan \
         hset hsetnx hstrlen hvals",
    ),
    (
        "string",
        "append decr decrby get getdel getex getrange getset incr incrby incrbyfloat lcs mget \
         mset msetnx psetex set setex setnx setrange strlen substr",
    ),
    ("bitmap", "bitcount bitfield bitfield_ro bitop bitpos getbit setbit"),
    ("pubsub", ""),
    ("admin", ""),
    ("fast", ""),
    ("slow", ""),
    ("blocking", ""),
    ("dangerous", "flushall flushdb info keys sort sort_ro swapdb"),
    (
        "connection",
        "auth client|getname client|getredir client|help client|id client|info client|kill \
         client|list client|no-evict client|pause client|reply client|setinfo client|setname \
         client|unblock client|unpause command command|count command|docs command|getkeys \
         command|help command|info command|list echo hello ping quit reset select wait",
    ),
    ("transaction", "discard exec multi unwatch watch"),
    (
        "scripting",
        "eval eval_ro evalsha evalsha_ro script|exists script|flush script|help script|kill \
         script|load",
    ),
];

/// The categories of the command that has this name and these flags.
pub(super) fn of(name: &'static str, flags: Flags) -> impl Iterator<Item = &'static str> {
    let is_script = name.starts_with("eval");
    let by_flags = move |category| match category {
        "write" => flags.has(Flags::WRITE),
        "read" => flags.has(Flags::READONLY) && !is_script,
        "pubsub" => flags.has(Flags::PUBSUB),
        "admin" | "dangerous" => flags.has(Flags::ADMIN),
        "blocking" => flags.has(Flags::BLOCKING),
        "fast" => flags.has(Flags::FAST),
        "slow" => !flags.has(Flags::FAST),
        _ => false,
    };
    let is_in = move |(category, names): &(&'static str, &str)| {
        by_flags(category) || names.split(' ').any(|known| known == name)
    };
    CATEGORIES.into_iter().filter(is_in).map(|(category, _)| category)
}
