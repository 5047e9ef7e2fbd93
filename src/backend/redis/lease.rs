//! Which node has sockets of whom, as the server keeps it: a node's lease is one member of a sorted set, its
//! users are a set, and a user's nodes are another.

use std::time::Duration;

use redis::{Cmd, cmd};

use super::RedisCache;
use super::values::ttl_ms;
use crate::backend::{BackendError, Held};

/// Users of a node that is gone that one step takes over.
const TAKEN_MAX: usize = 500;

/// {1: the user had no node, 1: this node had no lease, which it has now}
const HOLD: &str = "local time = redis.call('TIME') \
     local now = time[1] * 1000 + math.floor(time[2] / 1000) \
     local ended = tonumber(redis.call('ZSCORE', 'leveret:node-leases', ARGV[2]) or 0) < now \
     if ended then \
       redis.call('ZADD', 'leveret:node-leases', string.format('%.0f', now + ARGV[3]), ARGV[2]) \
     end \
     local nodes = 'leveret:user-nodes:' .. ARGV[1] \
     local is_first = redis.call('SCARD', nodes) == 0 \
     redis.call('SADD', nodes, ARGV[2]) \
     redis.call('SADD', 'leveret:node-users:' .. ARGV[2], ARGV[1]) \
     return {is_first and 1 or 0, ended and 1 or 0}";

/// 1: the user has no node any more.
const GIVE_UP: &str = "local nodes = 'leveret:user-nodes:' .. ARGV[1] \
     redis.call('SREM', nodes, ARGV[2]) \
     redis.call('SREM', 'leveret:node-users:' .. ARGV[2], ARGV[1]) \
     return redis.call('SCARD', nodes) == 0 and 1 or 0";

/// 1: there was no lease, or it had ended, so that others may have taken some of its users already.
const RENEW: &str = "local time = redis.call('TIME') \
     local now = time[1] * 1000 + math.floor(time[2] / 1000) \
     local ended = tonumber(redis.call('ZSCORE', 'leveret:node-leases', ARGV[1]) or 0) < now \
     redis.call('ZADD', 'leveret:node-leases', string.format('%.0f', now + ARGV[2]), ARGV[1]) \
     return ended and 1 or 0";

/// {1: there are more, the users whose last node was one whose lease has ended}. Each is given once, and its
/// key goes in the same step.
const TAKE_OVER: &str = "local time = redis.call('TIME') \
     local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)) \
     local gone, left = {}, tonumber(ARGV[1]) \
     local ended = redis.call('ZRANGEBYSCORE', 'leveret:node-leases', '-inf', now) \
     for _, node in ipairs(ended) do \
       local users = redis.call('SPOP', 'leveret:node-users:' .. node, left) \
       for _, user in ipairs(users) do \
         local nodes = 'leveret:user-nodes:' .. user \
         redis.call('SREM', nodes, node) \
         if redis.call('SCARD', nodes) == 0 then \
           gone[#gone + 1] = user \
           redis.call('DEL', ARGV[2] .. user) \
         end \
       end \
       left = left - #users \
       if redis.call('SCARD', 'leveret:node-users:' .. node) == 0 then \
         redis.call('ZREM', 'leveret:node-leases', node) \
       end \
       if left <= 0 then break end \
     end \
     return {left <= 0 and 1 or 0, gone}";

fn eval(script: &str) -> Cmd {
    let mut eval = cmd("EVAL");
    eval.arg(script).arg(0);
    eval
}

impl RedisCache {
    pub async fn hold_user(
        &self,
        user: &str,
        node: &str,
        lease: Duration,
    ) -> Result<Held, BackendError> {
        let mut hold = eval(HOLD);
        hold.arg(user).arg(node).arg(ttl_ms(lease));
        let (is_first, had_no_lease) = self.link.run(&hold).await?;
        Ok(Held { is_first, had_no_lease })
    }

    pub async fn give_up_user(&self, user: &str, node: &str) -> Result<bool, BackendError> {
        self.link.run(eval(GIVE_UP).arg(user).arg(node)).await
    }

    pub async fn renew_node(&self, node: &str, lease: Duration) -> Result<bool, BackendError> {
        self.link.run(eval(RENEW).arg(node).arg(ttl_ms(lease))).await
    }

    pub async fn take_over_users(
        &self,
        key_prefix: &str,
    ) -> Result<(bool, Vec<String>), BackendError> {
        self.link.run(eval(TAKE_OVER).arg(TAKEN_MAX).arg(key_prefix)).await
    }
}
