//! Compression of polling answers, as the stock server's `httpCompression` (RFC 9110 section 12.5.3).

use std::io::{self, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

/// An answer above this many bytes would keep a worker from its other sessions for too long.
const INLINE_BYTES_MAX: usize = 32 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    Gzip,
    /// The zlib format, which is what HTTP calls deflate.
    Deflate,
}

impl Coding {
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// What the client takes most gladly; gzip when it takes both alike. `None`: neither.
    pub fn accepted(headers: &HeaderMap) -> Option<Self> {
        let (mut gzip, mut deflate, mut others) = (None, None, None);
        let lines = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
        for entry in lines.flat_map(|line| line.split(',')) {
            let mut parts = entry.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
            // A weight that is none counts as a refusal: plain text is never wrong.
            let weight = weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
            let slot = match name {
                "*" => &mut others,
                _ if name.eq_ignore_ascii_case("gzip") => &mut gzip,
                _ if name.eq_ignore_ascii_case("deflate") => &mut deflate,
                _ => continue,
            };
            *slot = Some(weight);
        }
        let gzip = gzip.or(others).unwrap_or(0.0);
        let deflate = deflate.or(others).unwrap_or(0.0);
        match () {
            () if gzip > 0.0 && gzip >= deflate => Some(Self::Gzip),
            () if deflate > 0.0 => Some(Self::Deflate),
            () => None,
        }
    }

    /// # Errors
    /// When the runtime ends meanwhile.
    pub async fn compress(self, payload: Bytes) -> io::Result<Bytes> {
        if payload.len() <= INLINE_BYTES_MAX {
            return self.compress_now(&payload);
        }
        let compressed = tokio::task::spawn_blocking(move || self.compress_now(&payload));
        compressed.await.map_err(io::Error::other)?
    }

    fn compress_now(self, payload: &[u8]) -> io::Result<Bytes> {
        let out = Vec::with_capacity(payload.len() / 4 + 64);
        let compressed = match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(out, Compression::default());
                encoder.write_all(payload)?;
                encoder.finish()?
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(out, Compression::default());
                encoder.write_all(payload)?;
                encoder.finish()?
            }
        };
        Ok(Bytes::from(compressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_preference_decides() {
        for (given, expected) in [
            ("gzip, deflate, br", Some(Coding::Gzip)),
            ("deflate", Some(Coding::Deflate)),
            ("GZIP;q=0.5, deflate;q=0.8", Some(Coding::Deflate)),
            ("gzip;q=0, deflate", Some(Coding::Deflate)),
            ("gzip; q=0", None),
            ("*", Some(Coding::Gzip)),
            ("gzip;q=0, *;q=0.1", Some(Coding::Deflate)),
            ("gzip;q=much", None),
            ("br, identity", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, given.parse().unwrap());
            assert_eq!(Coding::accepted(&headers), expected, "{given}");
        }
        assert_eq!(Coding::accepted(&HeaderMap::new()), None);
    }
}
