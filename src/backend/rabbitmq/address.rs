//! Where the server is and who we are there, from a URL.

use std::fmt;
use std::str::FromStr;

use lapin::uri::AMQPUri;

use crate::model::names::VhostName;

/// Heartbeats of this many seconds unless the URL says otherwise: a server that went silent is given up
/// within twice that.
const HEARTBEAT_S: u16 = 10;

/// `amqp://user:password@host:port/vhost`, or `amqps` for TLS. Prints itself without the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    pub(super) uri: AMQPUri,
    pub(super) vhost: VhostName,
}

impl Address {
    /// Reads a URL (RabbitMQ's URI specification). Without a vhost it means `/`, and so does a trailing
    /// slash alone.
    ///
    /// # Errors
    /// What is wrong with it; never its password.
    pub fn parse(url: &str) -> Result<Self, String> {
        let is_amqp = url.starts_with("amqp://") || url.starts_with("amqps://");
        if !is_amqp {
            return Err("it is no URL such as amqp://user:password@host:5672/vhost".to_owned());
        }
        let mut uri = AMQPUri::from_str(url).map_err(|reason| format!("no AMQP URL: {reason}"))?;
        // The parser takes localhost for every host that it does not understand.
        if let Some(host) = literal_v6(url) {
            uri.authority.host = host.to_owned();
        }
        if uri.authority.host.is_empty() {
            return Err("it names no host".to_owned());
        }
        if uri.vhost.is_empty() {
            uri.vhost = "/".to_owned();
        }
        let vhost = VhostName::new(uri.vhost.clone()).map_err(|error| error.to_string())?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT_S);
        Ok(Self { uri, vhost })
    }

    pub(super) fn user(&self) -> &str {
        &self.uri.authority.userinfo.username
    }
}

/// The address between the brackets of `amqp://[::1]:5672`.
fn literal_v6(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    host.strip_prefix('[')?.split_once(']').map(|(inside, _)| inside)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = &self.uri.authority;
        let (scheme, host, port) = (&self.uri.scheme, &authority.host, authority.port);
        match host.contains(':') {
            true => write!(f, "{scheme}://[{host}]:{port}")?,
            false => write!(f, "{scheme}://{host}:{port}")?,
        }
        match self.vhost.as_str() {
            "/" => Ok(()),
            vhost => write!(f, "/{vhost}"),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_who_and_is_shown_without_its_password() {
        let address = Address::parse("amqps://me:s%40cret@mq.example:5671/team%2Fa").unwrap();
        assert_eq!(address.uri.authority.userinfo.password, "s@cret");
        assert_eq!((address.user(), address.vhost.as_str()), ("me", "team/a"));
        assert_eq!(address.to_string(), "amqps://mq.example:5671/team/a");
        for url in ["amqp://mq", "amqp://mq/", "amqp://mq/%2f"] {
            assert_eq!(Address::parse(url).unwrap().to_string(), "amqp://mq:5672");
        }
        assert_eq!(Address::parse("amqp://[::1]:1").unwrap().to_string(), "amqp://[::1]:1");
    }

    #[test]
    fn a_heartbeat_is_asked_for_unless_the_url_says_which() {
        let heartbeat = |url| Address::parse(url).unwrap().uri.query.heartbeat;
        assert_eq!(heartbeat("amqp://mq"), Some(HEARTBEAT_S));
        assert_eq!(heartbeat("amqp://mq?heartbeat=2"), Some(2));
    }

    #[test]
    fn what_is_no_url_is_refused_without_being_shown() {
        for url in ["", "mq:5672", "http://mq", "amqp:mq", "amqp://me:secret@mq:port"] {
            let reason = Address::parse(url).unwrap_err();
            assert!(!reason.contains("secret"), "{reason}");
        }
    }
}
