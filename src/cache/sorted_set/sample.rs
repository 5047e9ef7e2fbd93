//! ZRANDMEMBER and ZSCAN: members by their place in the table, which is no order.

use super::elements::SortedSet;
use super::{members, text};
use crate::cache::error::CacheError;
use crate::cache::keyspace::Keyspace;
use crate::cache::pick::{Pick, bounded};
use crate::cache::reply::Reply;
use crate::cache::scan::{Scan, scanned};
use crate::wire::resp::format_double;

impl Keyspace {
    pub(super) fn random_scored(
        &mut self,
        key: &[u8],
        pick: Option<(Pick, bool)>,
    ) -> Result<Reply, CacheError> {
        let len = self.looked_at::<SortedSet>(key)?.map_or(0, SortedSet::len);
        let (wanted, with_scores) = pick.unwrap_or((Pick::Distinct(1), false));
        let indexes = self.pick_indexes(len, wanted);
        let set = self.collection::<SortedSet>(key)?;
        let picked = indexes.into_iter().filter_map(|index| set.and_then(|set| set.at(index)));
        let mut picked = bounded(picked, |(member, _)| member.len())?.into_iter();
        Ok(match pick {
            None => picked.next().map_or(Reply::Nil, |(member, _)| text(member)),
            Some(_) => members(picked, with_scores),
        })
    }

    pub(super) fn scan_sorted(&self, key: &[u8], scan: &Scan) -> Result<Reply, CacheError> {
        let Some(set) = self.collection::<SortedSet>(key)? else {
            return Ok(scanned(0, Vec::new()));
        };
        let filter = scan.filter()?;
        let indexes = scan.indexes(set.len(), filter.count);
        let next_cursor = indexes.start;
        let met = indexes.rev().filter_map(|index| set.at(index));
        let found = met.filter(|(member, _)| filter.admits(member));
        let flat = found.flat_map(|(member, score)| {
            let mut digits = Vec::new();
            format_double(score.get(), &mut digits);
            [text(member), Reply::Bulk(digits.into())]
        });
        Ok(scanned(next_cursor, flat.collect()))
    }
}
