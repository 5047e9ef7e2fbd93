//! Locks with a time to live, and fencing tokens that rise over all nodes.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;

use super::values::ttl_ms;
use super::{OWN_KEYS, RedisCache};
use crate::backend::BackendError;

/// A token is the time in microseconds, or one more than the last where that would not rise. So a server
/// that forgot the last, as after a crash, gives a higher one too.
static LOCK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('EXISTS', KEYS[1]) == 1 then return false end \
         local now = redis.call('TIME') \
         local token = tonumber(now[1]) * 1000000 + tonumber(now[2]) \
         local last = tonumber(redis.call('GET', KEYS[2]) or '0') or 0 \
         if token <= last then token = last + 1 end \
         local text = string.format('%.0f', token) \
         redis.call('SET', KEYS[1], text, 'PX', ARGV[1]) \
         redis.call('SET', KEYS[2], text) \
         return text",
    )
});

static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end \
         return redis.call('PEXPIRE', KEYS[1], ARGV[2])",
    )
});

static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end \
         return redis.call('DEL', KEYS[1])",
    )
});

impl RedisCache {
    pub async fn lock(&self, key: &str, ttl: Duration) -> Result<Option<u64>, BackendError> {
        let mut lock = LOCK.key(key);
        lock.key(format!("{OWN_KEYS}fence")).arg(ttl_ms(ttl));
        self.link.script(&lock).await
    }

    pub async fn renew(&self, key: &str, token: u64, ttl: Duration) -> Result<bool, BackendError> {
        let mut renew = RENEW.key(key);
        renew.arg(token).arg(ttl_ms(ttl));
        self.link.script(&renew).await
    }

    pub async fn release(&self, key: &str, token: u64) -> Result<bool, BackendError> {
        self.link.script(RELEASE.key(key).arg(token)).await
    }
}
