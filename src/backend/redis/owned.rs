//! Hashes that one node owns at a time, as the server keeps them: the owner is a field, and how often the hash
//! was taken another.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use redis::cmd;

use super::RedisCache;
use super::outbox::{Change, RedisSent};
use super::saying::{self, with_say};
use super::values::ttl_ms;
use crate::backend::{BackendError, Owned, Saying};

/// The fields that are not their user's.
const OWNER: &str = "@";
const TAKES: &str = "#";

const PUT: &str = "local owner = redis.call('HGET', KEYS[1], '@') \
     if owner and owner ~= ARGV[1] then return 0 end \
     redis.call('HSET', KEYS[1], '@', ARGV[1]) \
     for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end \
     redis.call('PEXPIRE', KEYS[1], ARGV[2]) \
     return 1";

/// As [`PUT`], and nothing else stays.
const REPLACE: &str = "local owner = redis.call('HGET', KEYS[1], '@') \
     if owner and owner ~= ARGV[1] then return 0 end \
     local takes = redis.call('HGET', KEYS[1], '#') \
     redis.call('DEL', KEYS[1]) \
     redis.call('HSET', KEYS[1], '@', ARGV[1]) \
     if takes then redis.call('HSET', KEYS[1], '#', takes) end \
     for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end \
     redis.call('PEXPIRE', KEYS[1], ARGV[2]) \
     return 1";

const REMOVE_FIELD: &str = "if redis.call('HGET', KEYS[1], '@') ~= ARGV[1] then return 0 end \
     return redis.call('HDEL', KEYS[1], ARGV[2])";

const REMOVE: &str = "if redis.call('HGET', KEYS[1], '@') ~= ARGV[1] then return 0 end \
     return redis.call('DEL', KEYS[1])";

/// The hash as it is then, or nothing; what is said is said with it.
const TAKE: &str = "if redis.call('HGET', KEYS[1], '@') ~= ARGV[2] \
       or tonumber(redis.call('HGET', KEYS[1], '#') or '0') ~= tonumber(ARGV[3]) then return {} end \
     redis.call('HSET', KEYS[1], '@', ARGV[1]) \
     redis.call('PEXPIRE', KEYS[1], ARGV[4]) \
     redis.call('HINCRBY', KEYS[1], '#', 1) \
     say(5) \
     return redis.call('HGETALL', KEYS[1])";

/// `None`: there is none.
fn owned(all: Vec<(Vec<u8>, Vec<u8>)>) -> Option<Owned> {
    let (mut owner, mut takes, mut fields) = (None, 0, Vec::new());
    for (field, value) in all {
        let text = || String::from_utf8_lossy(&value).into_owned();
        match &field[..] {
            field if field == OWNER.as_bytes() => owner = Some(text()),
            field if field == TAKES.as_bytes() => takes = text().parse().unwrap_or_default(),
            _ => fields.push((Bytes::from(field), Bytes::from(value))),
        }
    }
    Some(Owned { owner: owner?, takes, fields })
}

#[derive(Clone)]
pub struct RedisOwned {
    cache: RedisCache,
    prefix: String,
    node: String,
}

impl RedisOwned {
    pub fn new(cache: RedisCache, kind: &str, node: &str) -> Self {
        Self { cache, prefix: format!("leveret:{kind}:"), node: node.to_owned() }
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn send(
        &self,
        script: &'static str,
        name: &str,
        args: Vec<Vec<u8>>,
    ) -> Result<RedisSent, BackendError> {
        let args = std::iter::once(self.node.clone().into_bytes()).chain(args).collect();
        let change = Change::Script { script, key: self.key(name), args };
        self.cache.outbox.put_silently(change)
    }

    pub fn put(
        &self,
        name: &str,
        fields: Vec<(String, Vec<u8>)>,
        ttl: Duration,
    ) -> Result<RedisSent, BackendError> {
        self.send_fields(PUT, name, fields, ttl)
    }

    pub fn replace(
        &self,
        name: &str,
        fields: Vec<(String, Vec<u8>)>,
        ttl: Duration,
    ) -> Result<RedisSent, BackendError> {
        self.send_fields(REPLACE, name, fields, ttl)
    }

    fn send_fields(
        &self,
        script: &'static str,
        name: &str,
        fields: Vec<(String, Vec<u8>)>,
        ttl: Duration,
    ) -> Result<RedisSent, BackendError> {
        let fields = fields.into_iter().flat_map(|(field, value)| [field.into_bytes(), value]);
        let ttl = ttl_ms(ttl).to_string().into_bytes();
        self.send(script, name, std::iter::once(ttl).chain(fields).collect())
    }

    pub fn remove_field(&self, name: &str, field: String) -> Result<RedisSent, BackendError> {
        self.send(REMOVE_FIELD, name, vec![field.into_bytes()])
    }

    pub fn remove(&self, name: &str) -> Result<RedisSent, BackendError> {
        self.send(REMOVE, name, Vec::new())
    }

    pub async fn find(&self, name: &str) -> Result<Option<Owned>, BackendError> {
        Ok(owned(self.cache.link.run(cmd("HGETALL").arg(self.key(name))).await?))
    }

    pub async fn take(
        &self,
        name: &str,
        found: &Owned,
        ttl: Duration,
        says: &[Saying],
    ) -> Result<Option<Owned>, BackendError> {
        static SCRIPT: LazyLock<String> = LazyLock::new(|| with_say(TAKE));
        let mut take = cmd("EVAL");
        take.arg(&*SCRIPT).arg(1).arg(self.key(name)).arg(&self.node);
        take.arg(&found.owner).arg(found.takes).arg(ttl_ms(ttl));
        saying::args(says).for_each(|text| _ = take.arg(text));
        Ok(owned(self.cache.link.run(&take).await?))
    }
}
