//! The sorted-set commands as Rust methods.

use bytes::Bytes;

use super::{AddIf, Added, Extreme, RangeBy, RangeQuery, Score};
use crate::cache::command::Access;
use crate::cache::engine::Cache;
use crate::cache::error::CacheError;
use crate::cache::keyspace::Key;
use crate::cache::typed::Write;

fn scored(member: &Key, score: Score) -> (Bytes, f64) {
    (Bytes::copy_from_slice(member), score.get())
}

fn checked(score: f64) -> Result<Score, CacheError> {
    Score::new(score).ok_or(CacheError::NotAFloat)
}

impl Cache {
    /// ZADD of one member: whether it is new.
    ///
    /// # Errors
    /// As all methods here: those of [`Cache::get`]; and [`CacheError::NotAFloat`] for a score that is
    /// NaN.
    pub fn zadd(&self, key: impl AsRef<[u8]>, score: f64, member: impl AsRef<[u8]>) -> Write<bool> {
        let written = self.zadd_if(key, AddIf::default(), [(score, member)])?;
        Ok(written.map(|added| added.added > 0))
    }

    /// ZADD with conditions.
    ///
    /// # Errors
    /// See [`Cache::zadd`].
    pub fn zadd_if<M: AsRef<[u8]>>(
        &self,
        key: impl AsRef<[u8]>,
        condition: AddIf,
        members: impl IntoIterator<Item = (f64, M)>,
    ) -> Write<Added> {
        let scored = |(score, member): (f64, M)| Ok((checked(score)?, member));
        let members = members.into_iter().map(scored).collect::<Result<Vec<_>, CacheError>>()?;
        self.write(Access::Grow, |keyspace| {
            let members = members.iter().map(|(score, member)| (*score, member.as_ref()));
            keyspace.sorted_add(key.as_ref(), condition, members)
        })
    }

    /// ZINCRBY: the member's new score.
    ///
    /// # Errors
    /// See [`Cache::zadd`]; and [`CacheError::NanScore`] when infinities of both signs meet.
    pub fn zincrby(&self, key: impl AsRef<[u8]>, by: f64, member: impl AsRef<[u8]>) -> Write<f64> {
        let by = checked(by)?;
        self.write(Access::Grow, |keyspace| {
            let (key, member) = (key.as_ref(), member.as_ref());
            let score = keyspace.sorted_increment(key, AddIf::default(), by, member)?;
            Ok(score.map_or(by, |score| score).get())
        })
    }

    /// ZREM of one member: whether it was there.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn zrem(&self, key: impl AsRef<[u8]>, member: impl AsRef<[u8]>) -> Write<bool> {
        self.write(Access::Shrink, |keyspace| {
            Ok(keyspace.sorted_remove(key.as_ref(), [member.as_ref()])? > 0)
        })
    }

    /// ZREMRANGEBYRANK, ZREMRANGEBYSCORE and ZREMRANGEBYLEX: how many members that were.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn zremrange(&self, key: impl AsRef<[u8]>, by: &RangeBy) -> Write<usize> {
        self.write(Access::Shrink, |keyspace| keyspace.sorted_remove_range(key.as_ref(), by))
    }

    /// ZPOPMIN and ZPOPMAX: the outermost members, at most `count`, and their scores.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn zpop(
        &self,
        key: impl AsRef<[u8]>,
        extreme: Extreme,
        count: usize,
    ) -> Write<Vec<(Bytes, f64)>> {
        self.write(Access::Shrink, |keyspace| {
            let popped = keyspace.zpop(extreme, key.as_ref(), count)?;
            Ok(popped.iter().map(|item| scored(&item.member, item.score)).collect())
        })
    }

    /// ZCARD.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn zcard(&self, key: impl AsRef<[u8]>) -> Result<usize, CacheError> {
        self.read(|keyspace| keyspace.sorted_len(key.as_ref()))
    }

    /// ZSCORE.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn zscore(
        &self,
        key: impl AsRef<[u8]>,
        member: impl AsRef<[u8]>,
    ) -> Result<Option<f64>, CacheError> {
        let score = self.read(|keyspace| keyspace.sorted_score(key.as_ref(), member.as_ref()))?;
        Ok(score.map(Score::get))
    }

    /// ZRANK: how many members have a lower score.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn zrank(
        &self,
        key: impl AsRef<[u8]>,
        member: impl AsRef<[u8]>,
    ) -> Result<Option<usize>, CacheError> {
        self.read(|keyspace| keyspace.sorted_rank(key.as_ref(), member.as_ref(), false))
    }

    /// ZREVRANK: how many members have a higher score.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn zrevrank(
        &self,
        key: impl AsRef<[u8]>,
        member: impl AsRef<[u8]>,
    ) -> Result<Option<usize>, CacheError> {
        self.read(|keyspace| keyspace.sorted_rank(key.as_ref(), member.as_ref(), true))
    }

    /// ZCOUNT and ZLEXCOUNT.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn zcount(&self, key: impl AsRef<[u8]>, by: &RangeBy) -> Result<usize, CacheError> {
        self.read(|keyspace| keyspace.sorted_count(key.as_ref(), by))
    }

    /// ZRANGE in all its forms: members and their scores.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn zrange_by(
        &self,
        key: impl AsRef<[u8]>,
        query: &RangeQuery,
    ) -> Result<Vec<(Bytes, f64)>, CacheError> {
        let found = self.read(|keyspace| keyspace.sorted_range(key.as_ref(), query))?;
        Ok(found.iter().map(|item| scored(&item.member, item.score)).collect())
    }

    /// ZRANGE by ranks, both included, the lowest score first; negative ones count from the end.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn zrange(
        &self,
        key: impl AsRef<[u8]>,
        start: i64,
        stop: i64,
    ) -> Result<Vec<(Bytes, f64)>, CacheError> {
        self.zrange_by(key, &RangeQuery::of_ranks(start, stop))
    }

    /// ZREVRANGE: as [`Cache::zrange`], the highest score first.
    ///
    /// # Errors
    /// See [`Cache::get`].
    pub fn zrevrange(
        &self,
        key: impl AsRef<[u8]>,
        start: i64,
        stop: i64,
    ) -> Result<Vec<(Bytes, f64)>, CacheError> {
        self.zrange_by(key, &RangeQuery { is_reverse: true, ..RangeQuery::of_ranks(start, stop) })
    }
}
