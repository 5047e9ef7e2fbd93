//! SCAN and RANDOMKEY: keys by their places.

use bytes::Bytes;

use crate::cache::error::CacheError;
use crate::cache::keyspace::Keyspace;
use crate::cache::reply::Reply;
use crate::cache::scan::Scan;
use crate::model::text::Text;

impl Keyspace {
    /// SCAN. The cursor is the next place: a key keeps its own, so one that stays is met. Free places
    /// and expired keys count as a tenth of a key or less, so that no call takes long.
    pub(super) fn scan_keys(&self, scan: &Scan) -> Result<Reply, CacheError> {
        const PLACES_A_KEY: usize = 10;
        /// So few are nothing, and a scan of what a mass of removals has left comes to its end.
        const PLACES_LEAST: usize = 4_096;
        let filter = scan.filter()?;
        let places_max = filter.count.saturating_mul(PLACES_A_KEY).max(PLACES_LEAST);
        let mut keys_left = filter.count;
        let mut found = Vec::new();
        let mut next_cursor = scan.cursor;
        for (next, slot) in self.slots_from(scan.cursor).take(places_max) {
            next_cursor = next;
            let Some(slot) = slot else { continue };
            let is_of_type =
                |name: &Text| name.eq_ignore_ascii_case(slot.value().type_name().as_bytes());
            if filter.admits(slot.key()) && filter.type_name.as_ref().is_none_or(is_of_type) {
                found.push(Reply::Bulk(Bytes::copy_from_slice(slot.key())));
            }
            keys_left -= 1;
            if keys_left == 0 {
                break;
            }
        }
        if next_cursor >= self.places_end() as u64 {
            next_cursor = 0;
        }
        Ok(Reply::Array(vec![Reply::Bulk(next_cursor.to_string().into()), Reply::Array(found)]))
    }

    /// RANDOMKEY. Where most keys have expired and not gone yet, those that follow a place are looked at.
    pub(super) fn random_key(&mut self) -> Option<Bytes> {
        const LOOKS: usize = 64;
        let slot = (0..LOOKS).find_map(|_| self.random_live_slot()).or_else(|| {
            let place = self.random_below(self.places_end()) as u64;
            let around = self.slots_from(place).chain(self.slots_from(0).take(place as usize));
            around.filter_map(|(_, slot)| slot).next()
        });
        slot.map(|slot| Bytes::copy_from_slice(slot.key()))
    }
}
