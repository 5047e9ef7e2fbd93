//! Where the back ends are, when they are servers of their own.

use super::Error;
use super::layer::{Layer, Text};

/// The URL of a server. It may hold a password, so it has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct BackEndUrl(String);

impl BackEndUrl {
    /// Credentials included.
    #[cfg(feature = "redis")]
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Without credentials.
    pub(super) fn shown(&self) -> String {
        let Some((scheme, rest)) = self.0.split_once("://") else { return String::new() };
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        format!("{scheme}://{host}")
    }
}

/// `None`: the cache of this process.
///
/// # Errors
/// [`Error::Usage`] when there is a URL and this build has no client for it, or it is none of Redis.
pub(super) fn cache_url(layer: &Layer) -> Result<Option<BackEndUrl>, Error> {
    let Some(Text { value, origin }) = &layer.cache_url else { return Ok(None) };
    let name = origin.name("cache-url");
    if !["redis://", "rediss://"].iter().any(|scheme| value.starts_with(scheme)) {
        return Err(Error::Usage(format!(
            "{name}: it begins with redis://, or with rediss:// for TLS"
        )));
    }
    if cfg!(feature = "redis") {
        return Ok(Some(BackEndUrl(value.clone())));
    }
    Err(Error::Usage(format!(
        "{name} names a Redis server, which this build has no client for: build with \
         --features redis, or unset it"
    )))
}

/// What the embedded cache gives alone is refused where the cache is a server.
pub(super) fn refuse_what_needs_the_embedded_cache(layer: &Layer) -> Result<(), Error> {
    let Some(url) = &layer.cache_url else { return Ok(()) };
    let url = url.origin.name("cache-url");
    let serves = |text: &&Text| text.value != "off";
    if let Some(resp) = layer.resp.as_ref().filter(serves) {
        return Err(Error::Usage(format!(
            "{} serves the embedded cache, but {url} has the cache on a server: its clients connect \
             there",
            resp.origin.name("resp")
        )));
    }
    if let Some(fsync) = &layer.appendfsync {
        return Err(Error::Usage(format!(
            "{} is of the embedded cache, but {url} has the cache on a server: it is set there",
            fsync.origin.name("appendfsync")
        )));
    }
    Ok(())
}

/// How durable servers are, they are told themselves: where both back ends are servers, this process keeps nothing.
pub(super) fn refuse_durability_of_servers(layer: &Layer) -> Result<(), Error> {
    let (Some(durability), Some(broker), Some(cache)) =
        (&layer.durability, &layer.broker_url, &layer.cache_url)
    else {
        return Ok(());
    };
    Err(Error::Usage(format!(
        "{} is of the embedded broker and cache, but {} and {} have both on servers: RabbitMQ confirms what is on \
         its disk, and Redis writes as its appendfsync says",
        durability.origin.name("durability"),
        broker.origin.name("broker-url"),
        cache.origin.name("cache-url"),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_credentials() {
        let shown = |url: &str| BackEndUrl(url.to_owned()).shown();
        assert_eq!(shown("redis://me:s3cret@host:7000/1"), "redis://host:7000/1");
        assert_eq!(shown("rediss://:p@ss@host"), "rediss://host");
        assert_eq!(shown("redis://host"), "redis://host");
    }
}
