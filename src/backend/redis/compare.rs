//! Setting a value that is still the one that was read.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use redis::Script;

use super::RedisCache;
use super::values::ttl_ms;
use crate::backend::BackendError;

/// The first argument tells whether a value is expected at all: there is none that no key could have.
static COMPARE_AND_SET: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if ARGV[1] == '0' then \
           if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end \
         elseif redis.pcall('GET', KEYS[1]) ~= ARGV[2] then return 0 end \
         redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4]) \
         return 1",
    )
});

impl RedisCache {
    pub async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool, BackendError> {
        let mut script = COMPARE_AND_SET.key(key);
        script.arg(i32::from(expected.is_some())).arg(expected.unwrap_or_default());
        script.arg(&value[..]).arg(ttl_ms(ttl));
        self.link.script(&script).await
    }
}
