//! Sorted sets: the cases, any commands beside the real server's answers, and what is recorded.

use bytes::Bytes;
use leveret::cache::{
    AddIf, Extreme, LexBound, LexRange, Limit, RangeBy, RangeQuery, Reply, Score, ScoreBound,
    ScoreRange,
};
use proptest::prelude::*;

use crate::case::Is::{Array, Bulk, Error, Int, Nil, NilArray, Shown, Status};
use crate::case::{Answer, Case, Is, args};
use crate::stand::Stand;
use crate::{beside_redis, embedded};

const OK: Is = Is::Ok;
const NOT_A_FLOAT: Is = Error("ERR value is not a valid float");
const NOT_A_RANGE: Is = Error("ERR min or max is not a float");
const NOT_A_LEX_RANGE: Is = Error("ERR min or max not valid string range item");
const NOT_AN_INTEGER: Is = Error("ERR value is not an integer or out of range");
const NOT_POSITIVE: Is = Error("ERR value is out of range, must be positive");
const SYNTAX: Is = Error("ERR syntax error");
const WRONG_TYPE: Is = Error("WRONGTYPE Operation against a key holding the wrong kind of value");
const NX_XX: Is = Error("ERR XX and NX options at the same time are not compatible");
const GT_LT_NX: Is = Error("ERR GT, LT, and/or NX options at the same time are not compatible");
const NAN: Is = Error("ERR resulting score is not a number (NaN)");
const LIMIT_OF_RANKS: Is =
    Error("ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX");
const LEX_SCORES: Is =
    Error("ERR syntax error, WITHSCORES not supported in combination with BYLEX");
const NO_KEYS: Is = Error("ERR numkeys should be greater than 0");
const NO_COUNT: Is = Error("ERR count should be greater than 0");
const NEGATIVE_LIMIT: Is = Error("ERR LIMIT can't be negative");
const NOT_A_WEIGHT: Is = Error("ERR weight value is not a float");
const INVALID_CURSOR: Is = Error("ERR invalid cursor");
const EMPTY: Is = Array(&[]);

pub const CASES: &[Case] = &[
    Case {
        name: "sorted sets: wrong numbers of arguments",
        steps: &[
            ("ZADD k 1", Error("ERR wrong number of arguments for 'zadd' command")),
            ("ZINCRBY k 1", Error("ERR wrong number of arguments for 'zincrby' command")),
            ("ZREM k", Error("ERR wrong number of arguments for 'zrem' command")),
            ("ZCARD", Error("ERR wrong number of arguments for 'zcard' command")),
            ("ZSCORE k", Error("ERR wrong number of arguments for 'zscore' command")),
            ("ZMSCORE k", Error("ERR wrong number of arguments for 'zmscore' command")),
            ("ZRANK k", Error("ERR wrong number of arguments for 'zrank' command")),
            ("ZRANK k a WITHSCORE", Error("ERR wrong number of arguments for 'zrank' command")),
            ("ZCOUNT k 1", Error("ERR wrong number of arguments for 'zcount' command")),
            ("ZRANGE k 1", Error("ERR wrong number of arguments for 'zrange' command")),
            ("ZRANGESTORE d k 1", Error("ERR wrong number of arguments for 'zrangestore' command")),
            ("ZPOPMIN", Error("ERR wrong number of arguments for 'zpopmin' command")),
            ("ZMPOP 1 k", Error("ERR wrong number of arguments for 'zmpop' command")),
            ("ZUNION 1", Error("ERR wrong number of arguments for 'zunion' command")),
            ("ZUNIONSTORE d 1", Error("ERR wrong number of arguments for 'zunionstore' command")),
            ("ZINTERCARD 1", Error("ERR wrong number of arguments for 'zintercard' command")),
            ("ZRANDMEMBER", Error("ERR wrong number of arguments for 'zrandmember' command")),
            ("ZSCAN k", Error("ERR wrong number of arguments for 'zscan' command")),
        ],
    },
    Case {
        name: "zadd with its conditions",
        steps: &[
            ("ZADD k 1 a 2 b 2 b 3 b", Int(2)),
            ("ZSCORE k b", Bulk("3")),
            ("ZADD k CH 1 a 4 b 5 c", Int(2)),
            ("ZADD k NX 9 a 9 d", Int(1)),
            ("ZADD k XX 2 a 9 e", Int(0)),
            ("ZADD k xx ch 3 a 9 e", Int(1)),
            ("ZADD k GT CH 2 a 6 b 1 f", Int(2)),
            ("ZADD k LT CH 2 a 7 b 1 f", Int(1)),
            ("ZADD k GT XX CH 3 a 7 b 1 g", Int(2)),
            (
                "ZRANGE k 0 -1 WITHSCORES",
                Array(&["f", "1", "a", "3", "c", "5", "b", "7", "d", "9"]),
            ),
            ("ZADD missing XX 1 a", Int(0)),
            ("EXISTS missing", Int(0)),
            ("ZADD k NX XX 1 a", NX_XX),
            ("ZADD k NX GT 1 a", GT_LT_NX),
            ("ZADD k NX LT 1 a", GT_LT_NX),
            ("ZADD k GT LT 1 a", GT_LT_NX),
            ("ZADD k NX XX GT 1 a", NX_XX),
            ("ZADD k NX XX 1", SYNTAX),
            ("ZADD k NX 1", SYNTAX),
            ("ZADD k CH NX", SYNTAX),
            ("ZADD k 1 a 2", SYNTAX),
            ("ZADD k 1 a x b", NOT_A_FLOAT),
            ("ZADD k x NX", NOT_A_FLOAT),
            ("SET s x", OK),
            ("ZADD s x a", NOT_A_FLOAT),
            ("ZADD s 1 a", WRONG_TYPE),
            ("ZADD s XX 1 a", WRONG_TYPE),
            ("TYPE k", Status("zset")),
        ],
    },
    Case {
        name: "zadd incr and zincrby",
        steps: &[
            ("ZADD k INCR 1.5 a", Bulk("1.5")),
            ("ZADD k INCR NX 1 a", Nil),
            ("ZADD k INCR XX 1 b", Nil),
            ("ZADD missing INCR XX 1 b", Nil),
            ("ZADD k INCR GT -1 a", Nil),
            ("ZADD k INCR GT 0 a", Nil),
            ("ZADD k INCR LT -1 a", Bulk("0.5")),
            ("ZADD k INCR CH 0.25 a", Bulk("0.75")),
            (
                "ZADD k INCR 1 a 2 b",
                Error("ERR INCR option supports a single increment-element pair"),
            ),
            ("ZADD k GT LT INCR 1 a", GT_LT_NX),
            ("ZINCRBY k 0.1 a", Bulk("0.84999999999999998")),
            ("ZINCRBY new -3 m", Bulk("-3")),
            ("ZINCRBY k x a", NOT_A_FLOAT),
            ("ZINCRBY k nan a", NOT_A_FLOAT),
            ("ZADD k inf a", Int(0)),
            ("ZINCRBY k -inf a", NAN),
            ("ZADD k INCR -inf a", NAN),
            ("ZADD k INCR NX -inf a", Nil),
            ("ZSCORE k a", Bulk("inf")),
            ("SET s x", OK),
            ("ZINCRBY s 1 a", WRONG_TYPE),
            ("ZINCRBY s x a", NOT_A_FLOAT),
            ("ZINCRBY k 3 new-one", Bulk("3")),
            ("ZINCRBY k -0 z", Bulk("-0")),
            ("ZSCORE k z", Bulk("0")),
        ],
    },
    Case {
        name: "scores as doubles are read and printed",
        steps: &[
            ("ZADD k 3.0 a 1e20 b inf c -Infinity d 0.1 e 1e-5 f 123456789012345678 g", Int(7)),
            ("ZADD k 1.5e300 h 100000 i 1e16 j 1e17 k 0x1p3 l 0x.8 m +5 n .5 o 5. p -0 q", Int(10)),
            (
                "ZRANGE k 0 -1 WITHSCORES",
                Shown(
                    "[d -inf q 0 f 1.0000000000000001e-05 e 0.10000000000000001 m 0.5 o 0.5 a 3 \
                     n 5 p 5 l 8 i 100000 j 10000000000000000 k 1e+17 g 1.2345678901234568e+17 \
                     b 1e+20 h 1.5000000000000001e+300 c inf]",
                ),
            ),
            ("ZADD k nan x", NOT_A_FLOAT),
            ("ZADD k 1e400 x", NOT_A_FLOAT),
            ("ZADD k 1e-400 x", NOT_A_FLOAT),
            ("ZADD k ' 1' x", NOT_A_FLOAT),
            ("ZADD k '1 ' x", NOT_A_FLOAT),
            ("ZADD k '' x", NOT_A_FLOAT),
            ("ZADD k . x", NOT_A_FLOAT),
            ("ZADD k 0x x", NOT_A_FLOAT),
            ("ZADD k 1e x", NOT_A_FLOAT),
            ("ZADD k 1d x", NOT_A_FLOAT),
            ("ZADD k +-1 x", NOT_A_FLOAT),
            ("ZADD k 1e-310 x", Int(1)),
            ("ZSCORE k x", Bulk("9.9999999999999694e-311")),
            ("ZADD k 0x123456789abcdef01 y", Int(1)),
            ("ZSCORE k y", Bulk("2.0988295479420645e+19")),
        ],
    },
    Case {
        name: "members one by one",
        steps: &[
            ("ZADD k 1 a 2 b 2 c 3 ''", Int(4)),
            ("ZCARD k", Int(4)),
            ("ZCARD missing", Int(0)),
            ("ZSCORE k nope", Nil),
            ("ZSCORE missing a", Nil),
            ("ZMSCORE k a nope '' a", Shown("[1 nil 3 1]")),
            ("ZMSCORE missing a b", Shown("[nil nil]")),
            ("ZRANK k a", Int(0)),
            ("ZRANK k c", Int(2)),
            ("ZREVRANK k c", Int(1)),
            ("ZREVRANK k a", Int(3)),
            ("ZRANK k nope", Nil),
            ("ZREVRANK missing a", Nil),
            ("ZREM k a nope a ''", Int(2)),
            ("ZREM missing a", Int(0)),
            ("ZREM k b c", Int(2)),
            ("EXISTS k", Int(0)),
            ("SET s x", OK),
            ("ZCARD s", WRONG_TYPE),
            ("ZSCORE s a", WRONG_TYPE),
            ("ZMSCORE s a", WRONG_TYPE),
            ("ZRANK s a", WRONG_TYPE),
            ("ZREM s a", WRONG_TYPE),
            ("GET k", Nil),
            ("ZADD k 1 a", Int(1)),
            ("GET k", WRONG_TYPE),
            ("LPUSH k a", WRONG_TYPE),
            ("SET k x", OK),
            ("TYPE k", Status("string")),
        ],
    },
    Case {
        name: "members of one score are ordered by their bytes",
        steps: &[
            ("ZADD k 0 b 0 a 0 B 0 ba 0 '' 0 aa", Int(6)),
            ("ZRANGE k 0 -1", Array(&["", "B", "a", "aa", "b", "ba"])),
            ("ZADD k 1 a -1 ba", Int(0)),
            ("ZRANGE k 0 -1", Array(&["ba", "", "B", "aa", "b", "a"])),
            ("ZREVRANGE k 0 -1", Array(&["a", "b", "aa", "B", "", "ba"])),
        ],
    },
    Case {
        name: "ranges by rank",
        steps: &[
            ("ZADD k 1 a 2 b 3 c 4 d", Int(4)),
            ("ZRANGE k 1 2", Array(&["b", "c"])),
            ("ZRANGE k -2 -1 withscores", Array(&["c", "3", "d", "4"])),
            ("ZRANGE k 2 1", EMPTY),
            ("ZRANGE k 4 9", EMPTY),
            ("ZRANGE k -99 0", Array(&["a"])),
            ("ZRANGE k 0 -99", EMPTY),
            ("ZRANGE k 0 1 REV", Array(&["d", "c"])),
            ("ZRANGE k -1 -1 REV WITHSCORES", Array(&["a", "1"])),
            ("ZREVRANGE k 0 0 WITHSCORES", Array(&["d", "4"])),
            ("ZREVRANGE k 1 -2", Array(&["c", "b"])),
            ("ZRANGE missing 0 -1", EMPTY),
            ("ZRANGE missing 0 -1 WITHSCORES", EMPTY),
            ("ZRANGE k 0 -1 LIMIT 0 1", LIMIT_OF_RANKS),
            ("ZRANGE k 0 -1 LIMIT 3 -1", Array(&["a", "b", "c", "d"])),
            ("ZREVRANGE k 0 -1 LIMIT 0 1", LIMIT_OF_RANKS),
            ("ZRANGE k a -1", NOT_AN_INTEGER),
            ("ZRANGE k 0 1.5", NOT_AN_INTEGER),
            ("ZRANGE k a -1 FOO", SYNTAX),
            ("ZRANGE k 0 -1 REV REV", SYNTAX),
            ("ZRANGE k 0 -1 LIMIT 1", SYNTAX),
            ("ZRANGE k 0 -1 LIMIT a 1", NOT_AN_INTEGER),
            ("ZREVRANGE k 0 -1 REV", SYNTAX),
            ("ZREVRANGE k 0 -1 BYSCORE", SYNTAX),
            ("ZRANGE k 9223372036854775807 9223372036854775807", EMPTY),
            ("ZRANGE k -9223372036854775808 9223372036854775807", Array(&["a", "b", "c", "d"])),
            ("SET s x", OK),
            ("ZRANGE s 0 -1", WRONG_TYPE),
            ("ZRANGE s a -1", NOT_AN_INTEGER),
        ],
    },
    Case {
        name: "ranges by score",
        steps: &[
            ("ZADD k 1 a 2 b 2 c 3 d 4 e", Int(5)),
            ("ZRANGEBYSCORE k 2 3", Array(&["b", "c", "d"])),
            ("ZRANGEBYSCORE k (2 3 WITHSCORES", Array(&["d", "3"])),
            ("ZRANGEBYSCORE k 1 (2", Array(&["a"])),
            ("ZRANGEBYSCORE k (1 (2", EMPTY),
            ("ZRANGEBYSCORE k 3 2", EMPTY),
            ("ZRANGEBYSCORE k -inf +inf", Array(&["a", "b", "c", "d", "e"])),
            ("ZREVRANGEBYSCORE k 3 2", Array(&["d", "c", "b"])),
            ("ZREVRANGEBYSCORE k (3 -inf WITHSCORES", Array(&["c", "2", "b", "2", "a", "1"])),
            ("ZREVRANGEBYSCORE k 2 3", EMPTY),
            ("ZRANGEBYSCORE k -inf inf LIMIT 1 2", Array(&["b", "c"])),
            ("ZREVRANGEBYSCORE k inf -inf LIMIT 1 2", Array(&["d", "c"])),
            ("ZRANGEBYSCORE k -inf inf LIMIT 1 -1", Array(&["b", "c", "d", "e"])),
            ("ZRANGEBYSCORE k -inf inf LIMIT 3 -9", Array(&["d", "e"])),
            ("ZRANGEBYSCORE k -inf inf LIMIT 9 1", EMPTY),
            ("ZRANGEBYSCORE k -inf inf LIMIT -1 2", EMPTY),
            ("ZRANGEBYSCORE k -inf inf LIMIT 0 0", EMPTY),
            ("ZRANGE k 2 3 BYSCORE", Array(&["b", "c", "d"])),
            ("ZRANGE k 3 2 BYSCORE REV LIMIT 0 2 WITHSCORES", Array(&["d", "3", "c", "2"])),
            ("ZRANGE k 3 2 BYSCORE BYSCORE", SYNTAX),
            ("ZRANGE k 3 2 BYSCORE BYLEX", SYNTAX),
            ("ZRANGEBYSCORE k 1 2 BYSCORE", SYNTAX),
            ("ZRANGEBYSCORE k 1 2 REV", SYNTAX),
            ("ZRANGEBYSCORE k x 2", NOT_A_RANGE),
            ("ZRANGEBYSCORE k 1 (x", NOT_A_RANGE),
            ("ZRANGEBYSCORE k 1 ((2", NOT_A_RANGE),
            ("ZRANGEBYSCORE k nan 2", NOT_A_RANGE),
            ("ZRANGEBYSCORE k x 2 FOO", SYNTAX),
            ("ZCOUNT k 2 3", Int(3)),
            ("ZCOUNT k (2 inf", Int(2)),
            ("ZCOUNT k '' 9", Int(5)),
            ("ZCOUNT k ( 9", Int(5)),
            ("ZCOUNT k ' 2' 9", Int(4)),
            ("ZCOUNT k ' ' 9", NOT_A_RANGE),
            ("ZCOUNT k '1 ' 9", NOT_A_RANGE),
            ("ZCOUNT k 0 1e400", Int(5)),
            ("ZCOUNT k 1e400 inf", Int(0)),
            ("ZCOUNT missing 0 1", Int(0)),
            ("SET s x", OK),
            ("ZCOUNT s 0 1", WRONG_TYPE),
            ("ZRANGEBYSCORE s 0 1", WRONG_TYPE),
            ("ZRANGEBYSCORE missing 0 1 WITHSCORES", EMPTY),
        ],
    },
    Case {
        name: "ranges by the members' bytes",
        steps: &[
            ("ZADD k 0 a 0 b 0 c 0 d 0 aa", Int(5)),
            ("ZRANGEBYLEX k - +", Array(&["a", "aa", "b", "c", "d"])),
            ("ZRANGEBYLEX k [aa (c", Array(&["aa", "b"])),
            ("ZRANGEBYLEX k (aa [c", Array(&["b", "c"])),
            ("ZRANGEBYLEX k + -", EMPTY),
            ("ZRANGEBYLEX k [c [b", EMPTY),
            ("ZRANGEBYLEX k - [", EMPTY),
            ("ZRANGEBYLEX k ( + LIMIT 1 2", Array(&["aa", "b"])),
            ("ZREVRANGEBYLEX k + [b", Array(&["d", "c", "b"])),
            ("ZREVRANGEBYLEX k (d - LIMIT 0 2", Array(&["c", "b"])),
            ("ZREVRANGEBYLEX k [b [d", EMPTY),
            ("ZRANGE k [b + BYLEX", Array(&["b", "c", "d"])),
            ("ZRANGE k + [b BYLEX REV LIMIT 0 1", Array(&["d"])),
            ("ZRANGE k - + BYLEX WITHSCORES", LEX_SCORES),
            ("ZRANGEBYLEX k - + WITHSCORES", LEX_SCORES),
            ("ZRANGEBYLEX k a +", NOT_A_LEX_RANGE),
            ("ZRANGEBYLEX k - ++", NOT_A_LEX_RANGE),
            ("ZRANGEBYLEX k -a +", NOT_A_LEX_RANGE),
            ("ZRANGEBYLEX k '' +", NOT_A_LEX_RANGE),
            ("ZLEXCOUNT k - +", Int(5)),
            ("ZLEXCOUNT k (a (c", Int(2)),
            ("ZLEXCOUNT k 0 1", NOT_A_LEX_RANGE),
            ("ZLEXCOUNT missing - +", Int(0)),
            ("SET s x", OK),
            ("ZRANGEBYLEX s - +", WRONG_TYPE),
            ("ZLEXCOUNT s - +", WRONG_TYPE),
        ],
    },
    Case {
        name: "ranges by the members' bytes in a set whose scores differ",
        steps: &[
            ("ZADD k 1 c 2 a 3 d 4 b", Int(4)),
            ("ZRANGEBYLEX k - [c", Array(&["c", "a"])),
            ("ZRANGEBYLEX k [d +", EMPTY),
            ("ZRANGEBYLEX k (a +", Array(&["c", "a", "d", "b"])),
            ("ZRANGEBYLEX k (a [c", Array(&["c", "a"])),
            ("ZRANGEBYLEX k (a [c LIMIT 1 9", Array(&["a"])),
            ("ZRANGEBYLEX k (a [c LIMIT 3 9", Array(&["b"])),
            ("ZREVRANGEBYLEX k [c -", Array(&["b", "d", "a", "c"])),
            ("ZREVRANGEBYLEX k [c (a", Array(&["b", "d"])),
            ("ZLEXCOUNT k (a [c", Int(2)),
            ("ZREMRANGEBYLEX k (a [c", Int(2)),
            ("ZRANGE k 0 -1", Array(&["d", "b"])),
        ],
    },
    Case {
        name: "ranges that are stored",
        steps: &[
            ("ZADD k 1 a 2 b 3 c 4 d", Int(4)),
            ("ZRANGESTORE d k 1 2", Int(2)),
            ("ZRANGE d 0 -1 WITHSCORES", Array(&["b", "2", "c", "3"])),
            ("ZRANGESTORE d k 9 1 BYSCORE REV LIMIT 0 3", Int(3)),
            ("ZRANGE d 0 -1", Array(&["b", "c", "d"])),
            ("ZRANGESTORE d d 0 0", Int(1)),
            ("ZRANGE d 0 -1", Array(&["b"])),
            ("ZRANGESTORE d k - [c BYLEX", Int(3)),
            ("EXPIRE d 100", Int(1)),
            ("ZRANGESTORE d k 0 0", Int(1)),
            ("TTL d", Int(-1)),
            ("ZRANGESTORE d k 5 9", Int(0)),
            ("EXISTS d", Int(0)),
            ("SET s x", OK),
            ("ZRANGESTORE s k 0 0", Int(1)),
            ("TYPE s", Status("zset")),
            ("SET s x", OK),
            ("ZRANGESTORE s missing 0 -1", Int(0)),
            ("EXISTS s", Int(0)),
            ("SET s x", OK),
            ("ZRANGESTORE d s 0 -1", WRONG_TYPE),
            ("ZRANGESTORE d k 0 -1 WITHSCORES", SYNTAX),
            ("ZRANGESTORE d k 0 -1 LIMIT 0 1", LIMIT_OF_RANKS),
            ("ZRANGESTORE d k x -1", NOT_AN_INTEGER),
        ],
    },
    Case {
        name: "ranges that are removed",
        steps: &[
            ("ZADD k 1 a 2 b 3 c 4 d 5 e", Int(5)),
            ("ZREMRANGEBYRANK k 0 0", Int(1)),
            ("ZREMRANGEBYRANK k -1 -1", Int(1)),
            ("ZRANGE k 0 -1", Array(&["b", "c", "d"])),
            ("ZREMRANGEBYRANK k 5 9", Int(0)),
            ("ZREMRANGEBYSCORE k (2 3", Int(1)),
            ("ZREMRANGEBYSCORE k -inf inf", Int(2)),
            ("EXISTS k", Int(0)),
            ("ZADD k 0 a 0 b 0 c", Int(3)),
            ("ZREMRANGEBYLEX k [b [b", Int(1)),
            ("ZREMRANGEBYLEX k - +", Int(2)),
            ("EXISTS k", Int(0)),
            ("ZREMRANGEBYRANK missing 0 -1", Int(0)),
            ("ZREMRANGEBYRANK k x 1", NOT_AN_INTEGER),
            ("ZREMRANGEBYSCORE k x 1", NOT_A_RANGE),
            ("ZREMRANGEBYLEX k x [b", NOT_A_LEX_RANGE),
            ("SET s x", OK),
            ("ZREMRANGEBYRANK s 0 1", WRONG_TYPE),
            ("ZREMRANGEBYSCORE s 0 1", WRONG_TYPE),
            ("ZREMRANGEBYLEX s - +", WRONG_TYPE),
        ],
    },
    Case {
        name: "pops",
        steps: &[
            ("ZADD k 1 a 2 b 3 c 4 d 5 e", Int(5)),
            ("ZPOPMIN k", Array(&["a", "1"])),
            ("ZPOPMAX k", Array(&["e", "5"])),
            ("ZPOPMAX k 2", Array(&["d", "4", "c", "3"])),
            ("ZPOPMIN k 0", EMPTY),
            ("ZPOPMIN k -1", NOT_POSITIVE),
            ("ZPOPMIN k x", NOT_POSITIVE),
            ("ZPOPMIN k 1 2", SYNTAX),
            ("ZPOPMIN k x 2", SYNTAX),
            ("ZPOPMIN k 99", Array(&["b", "2"])),
            ("EXISTS k", Int(0)),
            ("ZPOPMIN k", EMPTY),
            ("ZPOPMIN k 3", EMPTY),
            ("SET s x", OK),
            ("ZPOPMIN s", WRONG_TYPE),
            ("ZPOPMIN s 0", WRONG_TYPE),
            ("ZPOPMIN s -1", NOT_POSITIVE),
        ],
    },
    Case {
        name: "pops from the first of many keys",
        steps: &[
            ("ZADD k 1 a 2 b 3 c", Int(3)),
            ("ZMPOP 1 k MIN", Shown("[k [[a 1]]]")),
            ("ZMPOP 2 missing k max COUNT 9", Shown("[k [[c 3] [b 2]]]")),
            ("EXISTS k", Int(0)),
            ("ZMPOP 2 missing k MIN", NilArray),
            ("ZMPOP 0 k MIN", NO_KEYS),
            ("ZMPOP -1 k MIN", NO_KEYS),
            ("ZMPOP x k MIN", NO_KEYS),
            ("ZMPOP 2 k MIN", SYNTAX),
            ("ZMPOP 9223372036854775807 k MIN", SYNTAX),
            ("ZMPOP 1 k MID", SYNTAX),
            ("ZMPOP 1 k MIN COUNT", SYNTAX),
            ("ZMPOP 1 k MIN COUNT 0", NO_COUNT),
            ("ZMPOP 1 k MIN COUNT x", NO_COUNT),
            ("ZMPOP 1 k MIN COUNT 1 COUNT 1", SYNTAX),
            ("ZMPOP 1 k MIN FOO 1", SYNTAX),
            ("ZADD k 1 a", Int(1)),
            ("SET s x", OK),
            ("ZMPOP 2 s k MIN", WRONG_TYPE),
            ("ZMPOP 2 missing s MIN", WRONG_TYPE),
            ("ZMPOP 2 k s MIN", Shown("[k [[a 1]]]")),
        ],
    },
    Case {
        name: "unions, intersections and differences",
        steps: &[
            ("ZADD a 1 x 2 y 3 z", Int(3)),
            ("ZADD b 10 y 20 z 30 w", Int(3)),
            ("SADD s z w v", Int(3)),
            ("ZUNION 2 a b", Array(&["x", "y", "z", "w"])),
            ("ZUNION 2 a b WITHSCORES", Array(&["x", "1", "y", "12", "z", "23", "w", "30"])),
            ("ZUNION 2 a s WITHSCORES", Array(&["v", "1", "w", "1", "x", "1", "y", "2", "z", "4"])),
            ("ZUNION 2 a missing WITHSCORES", Array(&["x", "1", "y", "2", "z", "3"])),
            ("ZUNION 2 missing nope", EMPTY),
            ("ZUNION 2 a a WITHSCORES", Array(&["x", "2", "y", "4", "z", "6"])),
            (
                "ZUNION 2 a b WEIGHTS 2 -1 WITHSCORES",
                Array(&["w", "-30", "z", "-14", "y", "-6", "x", "2"]),
            ),
            (
                "ZUNION 2 a b AGGREGATE MAX WITHSCORES",
                Array(&["x", "1", "y", "10", "z", "20", "w", "30"]),
            ),
            (
                "ZUNION 2 a b WITHSCORES aggregate min",
                Array(&["x", "1", "y", "2", "z", "3", "w", "30"]),
            ),
            ("ZINTER 2 a b WITHSCORES", Array(&["y", "12", "z", "23"])),
            ("ZINTER 3 a b s WITHSCORES", Array(&["z", "24"])),
            ("ZINTER 2 a b WEIGHTS 1 10 AGGREGATE MIN WITHSCORES", Array(&["y", "2", "z", "3"])),
            ("ZINTER 2 a missing", EMPTY),
            ("ZDIFF 2 a b WITHSCORES", Array(&["x", "1"])),
            ("ZDIFF 2 b s", Array(&["y"])),
            ("ZDIFF 2 s a WITHSCORES", Array(&["v", "1", "w", "1"])),
            ("ZDIFF 2 a a", EMPTY),
            ("ZDIFF 1 a", Array(&["x", "y", "z"])),
            ("ZINTERCARD 2 a b", Int(2)),
            ("ZINTERCARD 2 a b LIMIT 1", Int(1)),
            ("ZINTERCARD 2 a b LIMIT 0", Int(2)),
            ("ZINTERCARD 3 a b s LIMIT 9 LIMIT 1", Int(1)),
            ("ZINTERCARD 1 missing", Int(0)),
        ],
    },
    Case {
        name: "unions and their kin that are refused",
        steps: &[
            ("ZADD k 1 a", Int(1)),
            ("SET s x", OK),
            ("ZUNION 0 k", Error("ERR at least 1 input key is needed for 'zunion' command")),
            ("ZINTER -1 k", Error("ERR at least 1 input key is needed for 'zinter' command")),
            ("ZDIFF 0 k", Error("ERR at least 1 input key is needed for 'zdiff' command")),
            (
                "ZINTERCARD 0 k",
                Error("ERR at least 1 input key is needed for 'zintercard' command"),
            ),
            (
                "ZUNIONSTORE d 0 k",
                Error("ERR at least 1 input key is needed for 'zunionstore' command"),
            ),
            ("ZUNION x k", NOT_AN_INTEGER),
            ("ZUNION 2 k", SYNTAX),
            ("ZDIFFSTORE d 9223372036854775807 k", SYNTAX),
            ("ZUNION 1 s BAD", WRONG_TYPE),
            ("ZUNION 2 k s BAD", WRONG_TYPE),
            ("ZUNION 1 k BAD", SYNTAX),
            ("ZUNION 1 missing BAD", SYNTAX),
            ("ZUNION 1 k WEIGHTS", SYNTAX),
            ("ZUNION 1 k WEIGHTS x", NOT_A_WEIGHT),
            ("ZUNION 1 k WEIGHTS nan", NOT_A_WEIGHT),
            ("ZUNION 1 k WEIGHTS 1 2", SYNTAX),
            ("ZUNION 1 k AGGREGATE", SYNTAX),
            ("ZUNION 1 k AGGREGATE avg", SYNTAX),
            ("ZDIFF 1 k WEIGHTS 1", SYNTAX),
            ("ZDIFF 1 k AGGREGATE MAX", SYNTAX),
            ("ZUNIONSTORE d 1 k WITHSCORES", SYNTAX),
            ("ZDIFFSTORE d 1 k WITHSCORES", SYNTAX),
            ("ZINTERCARD 1 k WITHSCORES", SYNTAX),
            ("ZINTERCARD 1 k WEIGHTS 1", SYNTAX),
            ("ZINTERCARD 1 k LIMIT", SYNTAX),
            ("ZINTERCARD 1 k LIMIT -1", NEGATIVE_LIMIT),
            ("ZINTERCARD 1 k LIMIT x", NEGATIVE_LIMIT),
            ("ZINTER 1 k LIMIT 1", SYNTAX),
            ("ZUNIONSTORE d 1 s", WRONG_TYPE),
            ("ZUNIONSTORE s 1 k", Int(1)),
            ("TYPE s", Status("zset")),
        ],
    },
    Case {
        name: "scores that are combined",
        steps: &[
            ("ZADD p inf m 0 z 0.1 f", Int(3)),
            ("ZADD n -inf m 0 z 0.2 f 0.3 g", Int(4)),
            ("ZADD o 0.3 f 7 h", Int(2)),
            (
                "ZUNION 2 p n WITHSCORES",
                Shown("[m 0 z 0 g 0.29999999999999999 f 0.30000000000000004]"),
            ),
            ("ZUNION 1 p WEIGHTS 0 WITHSCORES", Array(&["f", "0", "m", "0", "z", "0"])),
            ("ZINTER 2 p n WEIGHTS 1 0 WITHSCORES", Shown("[m 0 z 0 f 0.10000000000000001]")),
            ("ZINTER 2 p n WEIGHTS 1 0 AGGREGATE MIN WITHSCORES", Shown("[f 0 z 0 m inf]")),
            ("ZUNION 1 p WEIGHTS -1 WITHSCORES", Shown("[m -inf f -0.10000000000000001 z -0]")),
            // The smallest first.
            (
                "ZUNION 3 p n o WITHSCORES",
                Shown("[m 0 z 0 g 0.29999999999999999 f 0.60000000000000009 h 7]"),
            ),
            ("ZINTER 3 n p o WITHSCORES", Shown("[f 0.60000000000000009]")),
            ("ZUNIONSTORE d 1 p WEIGHTS -1", Int(3)),
        ],
    },
    Case {
        name: "combinations that are stored",
        steps: &[
            ("ZADD a 1 x 2 y", Int(2)),
            ("ZADD b 10 y 20 z", Int(2)),
            ("ZUNIONSTORE d 2 a b WEIGHTS 1 2 AGGREGATE MAX", Int(3)),
            ("ZRANGE d 0 -1 WITHSCORES", Array(&["x", "1", "y", "20", "z", "40"])),
            ("EXPIRE d 100", Int(1)),
            ("ZINTERSTORE d 2 a b", Int(1)),
            ("ZRANGE d 0 -1 WITHSCORES", Array(&["y", "12"])),
            ("TTL d", Int(-1)),
            ("ZDIFFSTORE d 2 b a", Int(1)),
            ("ZRANGE d 0 -1 WITHSCORES", Array(&["z", "20"])),
            ("ZINTERSTORE a 2 a b", Int(1)),
            ("ZRANGE a 0 -1 WITHSCORES", Array(&["y", "12"])),
            ("ZDIFFSTORE d 2 a a", Int(0)),
            ("EXISTS d", Int(0)),
            ("RPUSH list x", Int(1)),
            ("ZUNIONSTORE list 1 missing", Int(0)),
            ("EXISTS list", Int(0)),
        ],
    },
    Case {
        name: "random members and scans",
        steps: &[
            ("ZADD k 7 a", Int(1)),
            ("ZRANDMEMBER k", Bulk("a")),
            ("ZRANDMEMBER k 5", Array(&["a"])),
            ("ZRANDMEMBER k 5 WITHSCORES", Array(&["a", "7"])),
            ("ZRANDMEMBER k -3", Array(&["a", "a", "a"])),
            ("ZRANDMEMBER k -2 withscores", Array(&["a", "7", "a", "7"])),
            ("ZRANDMEMBER k 0", EMPTY),
            ("ZRANDMEMBER missing", Nil),
            ("ZRANDMEMBER missing 1", EMPTY),
            ("ZRANDMEMBER missing -1", EMPTY),
            ("ZRANDMEMBER k x", NOT_AN_INTEGER),
            ("ZRANDMEMBER k x FOO", NOT_AN_INTEGER),
            ("ZRANDMEMBER k 1 FOO", SYNTAX),
            ("ZRANDMEMBER k 1 WITHSCORES 1", SYNTAX),
            ("ZRANDMEMBER k 4611686018427387905", Array(&["a"])),
            ("ZRANDMEMBER k 4611686018427387905 WITHSCORES", Error("ERR value is out of range")),
            (
                "ZRANDMEMBER k -9223372036854775808",
                Error(
                    "ERR value is out of range, value must between -9223372036854775807 and \
                       9223372036854775807",
                ),
            ),
            ("ZSCAN k 0", Shown("[0 [a 7]]")),
            ("ZSCAN k 0 MATCH b*", Shown("[0 []]")),
            ("ZSCAN k 0 match a count 1", Shown("[0 [a 7]]")),
            ("ZSCAN k 99 COUNT 5", Shown("[0 [a 7]]")),
            ("ZSCAN k ''", Shown("[0 [a 7]]")),
            ("ZSCAN missing 0", Shown("[0 []]")),
            ("ZSCAN missing 0 FOO", Shown("[0 []]")),
            ("ZSCAN missing x FOO", INVALID_CURSOR),
            ("ZSCAN k x", INVALID_CURSOR),
            ("ZSCAN k 18446744073709551616", INVALID_CURSOR),
            ("ZSCAN k 0 COUNT 0", SYNTAX),
            ("ZSCAN k 0 COUNT x", NOT_AN_INTEGER),
            ("ZSCAN k 0 COUNT", SYNTAX),
            ("ZSCAN k 0 FOO 1", SYNTAX),
            ("SET s x", OK),
            ("ZRANDMEMBER s", WRONG_TYPE),
            ("ZRANDMEMBER s 1", WRONG_TYPE),
            ("ZSCAN s 0 FOO", WRONG_TYPE),
            ("ZSCAN s x FOO", INVALID_CURSOR),
        ],
    },
];

fn key() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "c", "lex"])
}

fn member() -> impl Strategy<Value = String> {
    prop_oneof!["[a-d]{0,2}".prop_map(|text| format!("'{text}'")), "m[0-9]{2}"]
}

fn score() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (-5i32..6).prop_map(|score| score.to_string()),
        2 => (-20i32..20).prop_map(|score| format!("{}", f64::from(score) / 10.0)),
        1 => any::<f64>().prop_map(|score| format!("{score:e}")),
        1 => prop::sample::select(vec!["inf", "-inf", "-0", "1e400", "x", "nan"])
            .prop_map(str::to_owned),
    ]
}

fn bound() -> impl Strategy<Value = String> {
    (prop::sample::select(vec!["", "", "("]), score())
        .prop_map(|(open, score)| open.to_owned() + &score)
}

fn lex_bound() -> impl Strategy<Value = String> {
    let bounded = ("[\\[(]", "[a-d]{0,2}").prop_map(|(open, text)| format!("{open}{text}"));
    prop_oneof![4 => bounded, 1 => Just("-".to_owned()), 1 => Just("+".to_owned())]
}

fn limit() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => Just(String::new()),
        1 => (-1i32..4, -1i32..4).prop_map(|(offset, count)| format!(" LIMIT {offset} {count}")),
    ]
}

fn keys() -> impl Strategy<Value = String> {
    prop::collection::vec(key(), 1..4).prop_map(|keys| format!("{} {}", keys.len(), keys.join(" ")))
}

fn combining() -> impl Strategy<Value = String> {
    let weights = prop_oneof![
        2 => Just(None),
        1 => prop::collection::vec(score(), 3).prop_map(Some),
    ];
    let aggregate =
        prop::sample::select(vec!["", " AGGREGATE SUM", " AGGREGATE MIN", " AGGREGATE MAX"]);
    (prop::collection::vec(key(), 1..4), weights, aggregate).prop_map(
        |(keys, weights, aggregate)| {
            let weights = weights.map_or_else(String::new, |weights| {
                format!(" WEIGHTS {}", weights[..keys.len()].join(" "))
            });
            format!("{} {}{weights}{aggregate}", keys.len(), keys.join(" "))
        },
    )
}

/// Lines that both servers have to answer alike.
fn line() -> impl Strategy<Value = String> {
    let condition =
        prop::sample::select(vec!["", " NX", " XX", " GT", " LT", " CH", " XX CH", " NX GT"]);
    let scored = prop::collection::vec((score(), member()), 1..5).prop_map(|members| {
        let members: Vec<String> =
            members.into_iter().map(|(score, member)| format!("{score} {member}")).collect();
        members.join(" ")
    });
    let with_scores = prop::sample::select(vec!["", " WITHSCORES"]);
    let end = prop::sample::select(vec!["MIN", "MAX"]);
    let operation = prop::sample::select(vec!["UNION", "INTER", "DIFF"]);
    let ranks = || (-7i32..7, -7i32..7).prop_map(|(start, stop)| format!("{start} {stop}"));
    let scores = || (bound(), bound()).prop_map(|(min, max)| format!("{min} {max}"));
    let lex = || (lex_bound(), lex_bound()).prop_map(|(min, max)| format!("{min} {max}"));
    let reading = prop_oneof![
        (key(), ranks(), with_scores.clone())
            .prop_map(|(key, by, with)| format!("ZRANGE {key} {by}{with}")),
        (key(), ranks(), with_scores.clone())
            .prop_map(|(key, by, with)| format!("ZREVRANGE {key} {by}{with}")),
        (key(), scores(), limit(), with_scores.clone())
            .prop_map(|(key, by, limit, with)| format!("ZRANGEBYSCORE {key} {by}{with}{limit}")),
        (key(), scores(), limit(), with_scores.clone()).prop_map(|(key, by, limit, with)| format!(
            "ZRANGE {key} {by} BYSCORE REV{limit}{with}"
        )),
        (lex(), limit()).prop_map(|(by, limit)| format!("ZRANGEBYLEX lex {by}{limit}")),
        (lex(), limit()).prop_map(|(by, limit)| format!("ZRANGE lex {by} REV BYLEX{limit}")),
        lex().prop_map(|by| format!("ZLEXCOUNT lex {by}")),
        (key(), scores()).prop_map(|(key, by)| format!("ZCOUNT {key} {by}")),
        (key(), member()).prop_map(|(key, member)| format!("ZRANK {key} {member}")),
        (key(), member()).prop_map(|(key, member)| format!("ZREVRANK {key} {member}")),
        (key(), member(), member())
            .prop_map(|(key, one, other)| format!("ZMSCORE {key} {one} {other}")),
        (operation.clone(), combining(), with_scores)
            .prop_map(|(operation, combining, with)| format!("Z{operation} {combining}{with}")),
        (keys(), 0u32..4).prop_map(|(keys, limit)| format!("ZINTERCARD {keys} LIMIT {limit}")),
    ];
    let writing = prop_oneof![
        6 => (key(), condition.clone(), scored).prop_map(|(key, condition, scored)| format!("ZADD {key}{condition} {scored}")),
        2 => (key(), condition, score(), member())
            .prop_map(|(key, condition, score, member)| format!("ZADD {key} INCR{condition} {score} {member}")),
        2 => (key(), score(), member()).prop_map(|(key, score, member)| format!("ZINCRBY {key} {score} {member}")),
        2 => (member(), member()).prop_map(|(one, other)| format!("ZADD lex 0 {one} 0 {other}")),
        1 => lex().prop_map(|by| format!("ZREMRANGEBYLEX lex {by}")),
        2 => (key(), member(), member()).prop_map(|(key, one, other)| format!("ZREM {key} {one} {other}")),
        1 => (key(), ranks()).prop_map(|(key, by)| format!("ZREMRANGEBYRANK {key} {by}")),
        1 => (key(), scores()).prop_map(|(key, by)| format!("ZREMRANGEBYSCORE {key} {by}")),
        1 => (end.clone(), key(), 0u32..4).prop_map(|(end, key, count)| format!("ZPOP{end} {key} {count}")),
        1 => (end, keys(), 1u32..4).prop_map(|(end, keys, count)| format!("ZMPOP {keys} {end} COUNT {count}")),
        2 => (key(), operation, combining())
            .prop_map(|(key, operation, combining)| format!("Z{operation}STORE {key} {combining}")),
        1 => (key(), key(), ranks()).prop_map(|(to, from, by)| format!("ZRANGESTORE {to} {from} {by}")),
        1 => (key(), key(), scores(), limit())
            .prop_map(|(to, from, by, limit)| format!("ZRANGESTORE {to} {from} {by} BYSCORE{limit}")),
        1 => (key(), member()).prop_map(|(key, member)| format!("SADD {key} {member}")),
        1 => key().prop_map(|key| format!("DEL {key}")),
    ];
    prop_oneof![2 => writing, 1 => reading]
}

#[test]
fn any_commands_are_answered_as_redis_answers_them_also_after_a_restart() {
    let inspection = ["a", "b", "c", "lex"].map(|key| format!("ZRANGE {key} 0 -1 WITHSCORES"));
    beside_redis::play(line(), &inspection, |members_and_scores| members_and_scores / 2);
}

fn reply(stand: &Stand, line: &str) -> Reply {
    let args: Vec<Bytes> = args(line).into_iter().map(Bytes::from).collect();
    let command = leveret::cache::Command::parse(&args).expect("a good line");
    stand.cache().execute(&[command], None).replies.remove(0)
}

/// RESP3 has doubles, and each pair as an array of its own but for a pop without a count.
#[test]
fn scores_are_doubles_and_pairs_are_told_from_lists() {
    let stand = Stand::new();
    let text = |text: &'static str| Reply::Bulk(Bytes::from_static(text.as_bytes()));
    assert_eq!(reply(&stand, "ZADD k 1 a 2.5 b 3 c 4 d"), Reply::Integer(4));
    assert_eq!(reply(&stand, "ZSCORE k b"), Reply::Double(2.5));
    assert_eq!(reply(&stand, "ZMSCORE k a x"), Reply::Array(vec![Reply::Double(1.0), Reply::Nil]));
    let pairs = |pairs: &[(&'static str, f64)]| {
        Reply::Pairs(pairs.iter().map(|(it, score)| (text(it), Reply::Double(*score))).collect())
    };
    assert_eq!(reply(&stand, "ZRANGE k 0 1 WITHSCORES"), pairs(&[("a", 1.0), ("b", 2.5)]));
    assert_eq!(reply(&stand, "ZDIFF 1 missing WITHSCORES"), pairs(&[]));
    assert_eq!(reply(&stand, "ZPOPMIN k 1"), pairs(&[("a", 1.0)]));
    assert_eq!(reply(&stand, "ZPOPMIN k"), Reply::Array(vec![text("b"), Reply::Double(2.5)]));
    let popped = Reply::Array(vec![Reply::Array(vec![text("d"), Reply::Double(4.0)])]);
    assert_eq!(reply(&stand, "ZMPOP 1 k MAX"), Reply::Array(vec![text("k"), popped]));
}

#[test]
fn random_members_are_each_picked_once_or_on_their_own() {
    let stand = Stand::new();
    for n in 0..50 {
        let _ = stand.cache().zadd("k", f64::from(n), n.to_string()).unwrap();
    }
    let names = |line: &str| -> Vec<String> {
        let Answer::Array(names) = embedded(stand.cache(), line) else { panic!("no array") };
        names.iter().map(Answer::shown).collect()
    };
    for wanted in [1, 20, 49, 50, 99] {
        let mut picked = names(&format!("ZRANDMEMBER k {wanted}"));
        assert_eq!(picked.len(), wanted.min(50));
        picked.sort();
        picked.dedup();
        assert_eq!(picked.len(), wanted.min(50), "no member twice");
    }
    let picked = names("ZRANDMEMBER k -5000");
    assert_eq!(picked.len(), 5_000);
    // Each is missed by 5,000 picks of 50 once in 10^43.
    assert!((0..50).all(|n: i32| picked.contains(&n.to_string())));
    let too_many = embedded(stand.cache(), "ZRANDMEMBER k -1048577");
    assert_eq!(too_many, Answer::Error("ERR value is out of range".to_owned()));
}

#[test]
fn a_scan_meets_every_member_that_stays() {
    let stand = Stand::new();
    let cache = stand.cache();
    for n in 0..300 {
        let _ = cache.zadd("k", f64::from(n), n.to_string()).unwrap();
    }
    let mut met = std::collections::HashSet::new();
    let (mut cursor, mut round) = ("0".to_owned(), 0);
    loop {
        let Answer::Array(answer) = embedded(cache, &format!("ZSCAN k {cursor} COUNT 7")) else {
            panic!("no array")
        };
        let [Answer::Bulk(next), Answer::Array(found)] = &answer[..] else { panic!("{answer:?}") };
        assert!(found.len() <= 14);
        met.extend(found.chunks(2).map(|pair| pair[0].shown()));
        // Every third one goes, others come.
        let _ = cache.zrem("k", (round * 3).to_string()).unwrap();
        let _ = cache.zadd("k", 0.0, format!("new {round}")).unwrap();
        round += 1;
        cursor = String::from_utf8(next.clone()).unwrap();
        if cursor == "0" {
            break;
        }
    }
    assert!((0..300).filter(|n| n % 3 != 0).all(|n: i32| met.contains(&n.to_string())));
}

#[tokio::test]
async fn a_new_score_records_one_member_however_large_the_set_is() {
    let mut stand = Stand::new();
    let members = (0..5_000).map(|n| (f64::from(n), format!("player:{n}")));
    let _ = stand.cache().zadd_if("board", AddIf::default(), members).unwrap();
    stand.cache().journal().flush().await.unwrap();
    let before = stand.cache().journal().stats();
    assert_eq!(before.live_facts, 5_001);
    for n in 0..10 {
        let score = stand.cache().zincrby("board", 0.5, format!("player:{n}")).unwrap();
        assert_eq!(score.durable().await.unwrap(), f64::from(n) + 0.5);
    }
    let after = stand.cache().journal().stats();
    let bytes = after.bytes_appended - before.bytes_appended;
    assert!(bytes < 10 * 300, "{bytes} bytes for 10 scores");
    assert_eq!(after.live_facts, 5_001);
    assert_eq!(stand.restart(), 5_001);
    assert_eq!(stand.cache().zscore("board", "player:9").unwrap(), Some(9.5));
    assert_eq!(stand.cache().zrank("board", "player:9").unwrap(), Some(9));
    assert_eq!(stand.cache().zrevrank("board", "player:0").unwrap(), Some(4_999));
    // What does not change a score writes nothing.
    assert!(stand.cache().zadd("board", 9.5, "player:9").unwrap().commit.is_none());
}

#[test]
fn the_typed_methods_are_the_commands() {
    let stand = Stand::new();
    let cache = stand.cache();
    assert!(cache.zadd("k", 1.0, "a").unwrap().value);
    assert!(!cache.zadd("k", 2.0, "a").unwrap().value);
    assert!(cache.zadd("k", f64::NAN, "a").is_err());
    assert!(cache.zincrby("k", f64::NAN, "a").is_err());
    let only_new = AddIf { nx: true, ..AddIf::default() };
    let added = cache.zadd_if("k", only_new, [(9.0, "a"), (3.0, "b"), (4.0, "c")]).unwrap().value;
    assert_eq!((added.added, added.updated), (2, 0));
    let pairs = |pairs: &[(&'static str, f64)]| -> Vec<(Bytes, f64)> {
        pairs.iter().map(|(it, score)| (Bytes::from_static(it.as_bytes()), *score)).collect()
    };
    assert_eq!(cache.zrange("k", 0, -1).unwrap(), pairs(&[("a", 2.0), ("b", 3.0), ("c", 4.0)]));
    assert_eq!(cache.zrevrange("k", 0, 0).unwrap(), pairs(&[("c", 4.0)]));
    let bound =
        |score, is_exclusive| ScoreBound { score: Score::new(score).unwrap(), is_exclusive };
    let by = RangeBy::Score(ScoreRange { min: bound(2.0, true), max: bound(4.0, false) });
    assert_eq!(cache.zcount("k", &by).unwrap(), 2);
    let query =
        RangeQuery { by: by.clone(), is_reverse: true, limit: Limit { offset: 0, count: 1 } };
    assert_eq!(cache.zrange_by("k", &query).unwrap(), pairs(&[("c", 4.0)]));
    let all = LexRange { min: LexBound::Lowest, max: LexBound::Exclusive("b".into()) };
    assert_eq!(cache.zcount("k", &RangeBy::Lex(Box::new(all))).unwrap(), 1);
    assert_eq!(cache.zpop("k", Extreme::Min, 1).unwrap().value, pairs(&[("a", 2.0)]));
    assert_eq!(cache.zremrange("k", &by).unwrap().value, 2);
    assert_eq!(cache.zcard("k").unwrap(), 0);
    assert!(!cache.zrem("k", "b").unwrap().value);
    assert_eq!(cache.zscore("k", "b").unwrap(), None);
    assert!(!cache.exists("k"));
}
