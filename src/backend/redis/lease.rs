//! Which node has sockets of whom, as the server keeps it: a node's lease is one member of a sorted set, its
//! users are a set, and a user's nodes are another.

use std::time::Duration;

use redis::{Cmd, FromRedisValue, cmd};

use super::RedisCache;
use super::failure::of_server;
use super::values::ttl_ms;
use crate::backend::BackendError;

/// Users of a node that is gone that one step takes over.
const TAKEN_MAX: usize = 500;

/// 1: the user had no node.
const HOLD: &str = "local nodes = 'leveret:user-nodes:' .. ARGV[1] \
     local is_first = redis.call('SCARD', nodes) == 0 \
     redis.call('SADD', nodes, ARGV[2]) \
     redis.call('SADD', 'leveret:node-users:' .. ARGV[2], ARGV[1]) \
     return is_first and 1 or 0";

/// 1: the user has no node any more.
const GIVE_UP: &str = "local nodes = 'leveret:user-nodes:' .. ARGV[1] \
     redis.call('SREM', nodes, ARGV[2]) \
     redis.call('SREM', 'leveret:node-users:' .. ARGV[2], ARGV[1]) \
     return redis.call('SCARD', nodes) == 0 and 1 or 0";

/// 1: there was no lease.
const RENEW: &str = "local now = redis.call('TIME') \
     local ends = now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[2] \
     return redis.call('ZADD', 'leveret:node-leases', string.format('%.0f', ends), ARGV[1])";

/// The users whose last node was one whose lease has ended. Each is given once.
const TAKE_OVER: &str = "local time = redis.call('TIME') \
     local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)) \
     local gone, left = {}, tonumber(ARGV[1]) \
     local ended = redis.call('ZRANGEBYSCORE', 'leveret:node-leases', '-inf', now) \
     for _, node in ipairs(ended) do \
       local users = redis.call('SPOP', 'leveret:node-users:' .. node, left) \
       for _, user in ipairs(users) do \
         local nodes = 'leveret:user-nodes:' .. user \
         redis.call('SREM', nodes, node) \
         if redis.call('SCARD', nodes) == 0 then gone[#gone + 1] = user end \
       end \
       left = left - #users \
       if redis.call('SCARD', 'leveret:node-users:' .. node) == 0 then \
         redis.call('ZREM', 'leveret:node-leases', node) \
       end \
       if left <= 0 then break end \
     end \
     return gone";

fn eval(script: &str) -> Cmd {
    let mut eval = cmd("EVAL");
    eval.arg(script).arg(0);
    eval
}

impl RedisCache {
    pub async fn hold_user(&self, user: &str, node: &str) -> Result<bool, BackendError> {
        self.link.run(eval(HOLD).arg(user).arg(node)).await
    }

    pub async fn give_up_user(&self, user: &str, node: &str) -> Result<bool, BackendError> {
        self.link.run(eval(GIVE_UP).arg(user).arg(node)).await
    }

    pub async fn renew_node(&self, node: &str, lease: Duration) -> Result<bool, BackendError> {
        self.link.run(eval(RENEW).arg(node).arg(ttl_ms(lease))).await
    }

    pub async fn take_over_users(&self) -> Result<Vec<String>, BackendError> {
        let value: redis::Value = self.link.run(eval(TAKE_OVER).arg(TAKEN_MAX)).await?;
        Vec::from_redis_value(value).map_err(|error| of_server(&error.into()))
    }
}
