//! Which address a request comes from, when proxies stand in between.

use std::net::IpAddr;
use std::str::FromStr;

use http::{HeaderMap, HeaderName};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Addresses that begin with the same bits: `10.0.0.0/8`, `fd00::/8`, or one address alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    /// Bits behind the prefix are 0.
    bits: u128,
    prefix_bits: u32,
    is_v4: bool,
}

/// A text that is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an address or a network such as 10.0.0.0/8")]
pub struct NetworkError;

impl Network {
    /// The network of `address` with that many leading bits; more than it has means all of them. An IPv4
    /// address in IPv6 form counts as the IPv4 address.
    pub fn new(address: IpAddr, prefix_bits: u32) -> Self {
        let (bits, is_v4) = match address.to_canonical() {
            // At the top, so that prefixes of both kinds count from the same end.
            IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, true),
            IpAddr::V6(address) => (address.to_bits(), false),
        };
        let prefix_bits = prefix_bits.min(if is_v4 { 32 } else { 128 });
        let mask = u128::MAX.checked_shl(128 - prefix_bits).unwrap_or(0);
        Self { bits: bits & mask, prefix_bits, is_v4 }
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        Self::new(address, self.prefix_bits) == *self
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix_bits) = match text.split_once('/') {
            None => (text, None),
            Some((address, bits)) => (address, Some(bits)),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits: u32 = match prefix_bits {
            None => width,
            Some(bits) => bits.parse().map_err(|_| NetworkError)?,
        };
        if prefix_bits > width {
            return Err(NetworkError);
        }
        // An IPv4 network in IPv6 form counts from the same end.
        let mapped = address.is_ipv6() && address.to_canonical().is_ipv4();
        let prefix_bits = match mapped {
            true => prefix_bits.checked_sub(96).ok_or(NetworkError)?,
            false => prefix_bits,
        };
        Ok(Self::new(address, prefix_bits))
    }
}

/// The address of the client: `peer`, or when that is a trusted proxy the last entry of
/// `X-Forwarded-For` that is not one as well. Everything before that entry is the client's own claim.
pub fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let mut client = peer.to_canonical();
    let is_trusted = |address| trusted.iter().any(|network| network.contains(address));
    for value in headers.get_all(X_FORWARDED_FOR).iter().rev() {
        let Ok(value) = value.to_str() else { return client };
        for entry in value.rsplit(',') {
            if !is_trusted(client) {
                return client;
            }
            // What is no address was not written by the proxy: its own address has to do.
            let Some(address) = address(entry.trim()) else { return client };
            client = address.to_canonical();
        }
    }
    client
}

/// An entry: an address, as some proxies write it with a port.
fn address(entry: &str) -> Option<IpAddr> {
    let bare = entry.trim_start_matches('[').trim_end_matches(']');
    bare.parse().ok().or_else(|| Some(entry.parse::<std::net::SocketAddr>().ok()?.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_holds_the_addresses_with_its_prefix() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("10.1.2.3", "::ffff:10.1.2.3", "::a01:203"),
            ("192.168.4.0/22", "192.168.7.255", "192.168.8.0"),
            ("0.0.0.0/0", "203.0.113.9", "::1"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("::1", "::1", "::2"),
            ("::ffff:10.0.0.0/104", "10.9.9.9", "11.0.0.1"),
        ] {
            assert!(network(text).contains(ip(inside)), "{text} {inside}");
            assert!(!network(text).contains(ip(outside)), "{text} {outside}");
        }
        for wrong in [
            "",
            "localhost",
            "::ffff:10.0.0.0/95",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0/8",
            "1.2.3.4/-1",
        ] {
            assert_eq!(wrong.parse::<Network>(), Err(NetworkError), "{wrong}");
        }
    }

    #[test]
    fn only_what_a_trusted_proxy_wrote_is_believed() {
        let trusted = [network("127.0.0.1"), network("10.0.0.0/8")];
        let seen = |peer: &str, lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(X_FORWARDED_FOR, line.parse().unwrap());
            }
            client(ip(peer), &headers, &trusted).to_string()
        };
        assert_eq!(seen("203.0.113.9", &["198.51.100.1"]), "203.0.113.9", "no proxy of ours");
        assert_eq!(seen("127.0.0.1", &[]), "127.0.0.1");
        assert_eq!(seen("127.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(seen("::ffff:127.0.0.1", &["198.51.100.1:4711"]), "198.51.100.1");
        assert_eq!(seen("127.0.0.1", &["[2001:db8::1]:80"]), "2001:db8::1");
        assert_eq!(seen("127.0.0.1", &["9.9.9.9, 198.51.100.1, 10.1.1.1"]), "198.51.100.1");
        assert_eq!(seen("127.0.0.1", &["9.9.9.9, 198.51.100.1", "10.1.1.1"]), "198.51.100.1");
        assert_eq!(seen("127.0.0.1", &["10.2.2.2,10.1.1.1"]), "10.2.2.2", "proxies all the way");
        assert_eq!(seen("127.0.0.1", &["198.51.100.1, unknown"]), "127.0.0.1");
    }
}
