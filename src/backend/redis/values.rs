//! Values, lists and counters.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use redis::{Script, cmd};

use super::{OWN_KEYS, RedisCache};
use crate::backend::{BackendError, RateLimit};

/// Keys that a step of a scan looks at, about.
const SCAN_COUNT: usize = 1_000;

/// An id as XADD gives it, so it rises though the clock be set back: an empty stream keeps its last.
static PUSH_CAPPED: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "redis.call('LPUSH', KEYS[1], ARGV[1]) \
         redis.call('LTRIM', KEYS[1], 0, ARGV[2]) \
         return redis.call('XADD', KEYS[2], 'MAXLEN', '0', '*', 'p', '')",
    )
});

/// {allowed, left, milliseconds until the window ends}. A call that is refused is not counted.
static RATE_LIMIT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local text = redis.call('GET', KEYS[1]) or '0' \
         if not (text == '0' or text:match('^-?[1-9]%d*$')) then \
           return redis.error_reply('ERR value is not an integer or out of range') \
         end \
         local calls, limit = math.max(tonumber(text), 0), tonumber(ARGV[1]) \
         local left = redis.call('PTTL', KEYS[1]) \
         local window = left \
         if left < 0 then window = ARGV[2] end \
         if calls >= limit then \
           if calls > 0 and left < 0 then redis.call('PEXPIRE', KEYS[1], window) end \
           return {0, 0, tonumber(window)} \
         end \
         local counted = string.format('%.0f', calls + 1) \
         if left < 0 then redis.call('SET', KEYS[1], counted, 'PX', window) \
         else redis.call('SET', KEYS[1], counted, 'KEEPTTL') end \
         return {1, limit - calls - 1, tonumber(window)}",
    )
});

/// A push that the server has answered.
#[must_use = "a push is only safe once it is durable"]
pub struct RedisPushed {
    /// Unique, and rising in the order of the pushes, over all nodes.
    pub offset: String,
}

/// In milliseconds, one at least; what no clock can tell is refused by the server.
pub fn ttl_ms(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX).max(1)
}

impl RedisCache {
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, BackendError> {
        let value: Option<Vec<u8>> = self.link.run(cmd("GET").arg(key)).await?;
        Ok(value.map(Bytes::from))
    }

    pub async fn set(
        &self,
        key: &str,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Result<(), BackendError> {
        let mut command = cmd("SET");
        command.arg(key).arg(&value[..]);
        if let Some(ttl) = ttl {
            command.arg("PX").arg(ttl_ms(ttl));
        }
        self.link.run(&command).await
    }

    pub async fn delete(&self, key: &str) -> Result<bool, BackendError> {
        self.link.run(cmd("DEL").arg(key)).await
    }

    pub async fn expire(&self, key: &str, ttl: Duration) -> Result<bool, BackendError> {
        self.link.run(cmd("PEXPIRE").arg(key).arg(ttl_ms(ttl))).await
    }

    pub async fn push_capped(
        &self,
        key: &str,
        value: Bytes,
        keep: usize,
    ) -> Result<RedisPushed, BackendError> {
        let mut push = PUSH_CAPPED.key(key);
        push.key(format!("{OWN_KEYS}offsets")).arg(&value[..]).arg(keep.max(1) - 1);
        Ok(RedisPushed { offset: self.link.script(&push).await? })
    }

    pub async fn list_range(
        &self,
        key: &str,
        start: i64,
        stop: i64,
    ) -> Result<Vec<Bytes>, BackendError> {
        let values: Vec<Vec<u8>> =
            self.link.run(cmd("LRANGE").arg(key).arg(start).arg(stop)).await?;
        Ok(values.into_iter().map(Bytes::from).collect())
    }

    pub async fn rate_limit(
        &self,
        key: &str,
        limit: u32,
        window: Duration,
    ) -> Result<RateLimit, BackendError> {
        let mut count = RATE_LIMIT.key(key);
        count.arg(limit).arg(ttl_ms(window));
        let (allowed, remaining, reset_ms): (bool, u32, u64) = self.link.script(&count).await?;
        Ok(RateLimit { allowed, remaining, reset_ms })
    }

    /// By SCAN, so that the server is held up by no step: every key is met that is there before and after.
    pub async fn invalidate_pattern(&self, pattern: &str) -> Result<usize, BackendError> {
        let (mut removed, mut cursor) = (0, 0_u64);
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(SCAN_COUNT);
            let (next, keys): (u64, Vec<Vec<u8>>) = self.link.run(&scan).await?;
            if !keys.is_empty() {
                removed += self.link.run::<usize>(cmd("UNLINK").arg(keys)).await?;
            }
            if next == 0 {
                return Ok(removed);
            }
            cursor = next;
        }
    }
}
