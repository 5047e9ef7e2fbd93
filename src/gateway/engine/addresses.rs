//! How many sessions each address has.

use std::net::IpAddr;
use std::sync::Arc;

use ahash::AHashMap;
use parking_lot::Mutex;

use super::super::forwarded::Network;
use super::super::options::Limits;
use super::super::shrink;

/// A stranger has as many IPv6 addresses as he likes below this prefix, so they count as one.
const IPV6_PREFIX_BITS: u32 = 64;

/// Counts; an entry lives as long as a session from there does.
pub struct Addresses {
    open: Mutex<AHashMap<Network, usize>>,
    sockets_max: Option<usize>,
    loopback_sockets_max: Option<usize>,
}

/// A session's place in its address's count, given back when it is dropped.
pub struct Place {
    /// `None`: its address is not counted.
    counted: Option<(Arc<Addresses>, Network)>,
}

impl Addresses {
    pub fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            open: Mutex::default(),
            sockets_max: limits.address_sockets_max,
            loopback_sockets_max: limits.loopback_sockets_max,
        })
    }

    /// A place for one more session. `None`: the address has as many as it may.
    pub fn take(self: &Arc<Self>, client: Option<IpAddr>) -> Option<Place> {
        let Some(client) = client.map(|client| client.to_canonical()) else {
            return Some(Place { counted: None });
        };
        let max = if client.is_loopback() { self.loopback_sockets_max } else { self.sockets_max };
        let Some(max) = max else { return Some(Place { counted: None }) };
        let prefix_bits = if client.is_ipv6() { IPV6_PREFIX_BITS } else { u32::MAX };
        let network = Network::new(client, prefix_bits);
        let mut open = self.open.lock();
        let count = open.get(&network).copied().unwrap_or(0);
        if count >= max {
            return None;
        }
        open.insert(network, count + 1);
        drop(open);
        Some(Place { counted: Some((Arc::clone(self), network)) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((addresses, network)) = self.counted.take() else { return };
        let mut open = addresses.open.lock();
        match open.get_mut(&network) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                open.remove(&network);
                shrink::table(&mut open);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(sockets_max: Option<usize>) -> Arc<Addresses> {
        let limits = Limits { address_sockets_max: sockets_max, ..Limits::default() };
        Addresses::new(&limits)
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn an_address_has_so_many_places_and_others_have_theirs() {
        let addresses = addresses(Some(2));
        let first = addresses.take(ip("203.0.113.1")).unwrap();
        let _second = addresses.take(ip("::ffff:203.0.113.1")).unwrap();
        assert!(addresses.take(ip("203.0.113.1")).is_none());
        assert!(addresses.take(ip("203.0.113.2")).is_some());
        drop(first);
        assert!(addresses.take(ip("203.0.113.1")).is_some());
    }

    #[test]
    fn one_ipv6_network_counts_as_one_address() {
        let addresses = addresses(Some(1));
        let _first = addresses.take(ip("2001:db8:0:1::1")).unwrap();
        assert!(addresses.take(ip("2001:db8:0:1:ffff::2")).is_none());
        assert!(addresses.take(ip("2001:db8:0:2::1")).is_some());
    }

    #[test]
    fn loopback_and_unknown_addresses_are_not_counted_unless_told() {
        let addresses = addresses(Some(0));
        assert!(addresses.take(ip("127.0.0.1")).is_some());
        assert!(addresses.take(ip("::1")).is_some());
        assert!(addresses.take(None).is_some());
        assert!(addresses.take(ip("203.0.113.1")).is_none());
        assert!(self::addresses(None).take(ip("203.0.113.1")).is_some());
    }

    #[test]
    fn nothing_is_kept_of_an_address_that_left() {
        let addresses = addresses(Some(2));
        let places = [addresses.take(ip("203.0.113.1")), addresses.take(ip("203.0.113.1"))];
        drop(places);
        assert!(addresses.open.lock().is_empty());
    }
}
