//! Replies, piece by piece: the caller says what comes, this writes it in the client's version.

use super::double::format_double;

/// Which RESP a client speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Version {
    #[default]
    Resp2,
    Resp3,
}

/// Writes replies behind each other into one buffer. Where RESP2 lacks a kind, it writes what Redis
/// does: a map is an array of twice its length, a double a bulk, a boolean an integer.
pub struct Writer<'a> {
    pub out: &'a mut Vec<u8>,
    pub version: Version,
}

impl Writer<'_> {
    /// A simple string, such as `OK`.
    pub fn status(&mut self, text: impl AsRef<[u8]>) {
        self.line(b'+', text.as_ref());
    }

    /// An error, its code word first.
    pub fn error(&mut self, text: impl AsRef<[u8]>) {
        self.line(b'-', text.as_ref());
    }

    pub fn integer(&mut self, value: i64) {
        self.out.push(b':');
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    /// A string of any bytes.
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.head(b'$', bytes.len());
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// No value.
    pub fn nil(&mut self) {
        self.out.extend_from_slice(match self.version {
            Version::Resp2 => b"$-1\r\n",
            Version::Resp3 => b"_\r\n",
        });
    }

    /// No array: RESP2 tells it from no value.
    pub fn nil_array(&mut self) {
        self.out.extend_from_slice(match self.version {
            Version::Resp2 => b"*-1\r\n",
            Version::Resp3 => b"_\r\n",
        });
    }

    /// The head of an array; its `len` items follow.
    pub fn array(&mut self, len: usize) {
        self.head(b'*', len);
    }

    /// The head of a map; `len` pairs follow, each a key and a value.
    pub fn map(&mut self, len: usize) {
        match self.version {
            Version::Resp2 => self.head(b'*', len.saturating_mul(2)),
            Version::Resp3 => self.head(b'%', len),
        }
    }

    /// The head of an array of pairs; `len` of them follow, each behind a [`Writer::pair`].
    pub fn pairs(&mut self, len: usize) {
        self.head(
            b'*',
            match self.version {
                Version::Resp2 => len.saturating_mul(2),
                Version::Resp3 => len,
            },
        );
    }

    /// The head of a pair, which RESP2 has not: its pairs lie side by side.
    pub fn pair(&mut self) {
        if self.version == Version::Resp3 {
            self.head(b'*', 2);
        }
    }

    /// The head of a set; its `len` members follow.
    pub fn set(&mut self, len: usize) {
        match self.version {
            Version::Resp2 => self.head(b'*', len),
            Version::Resp3 => self.head(b'~', len),
        }
    }

    /// The head of a push: what comes without having been asked for. RESP2 has arrays for it.
    pub fn push(&mut self, len: usize) {
        match self.version {
            Version::Resp2 => self.head(b'*', len),
            Version::Resp3 => self.head(b'>', len),
        }
    }

    pub fn boolean(&mut self, value: bool) {
        match self.version {
            Version::Resp2 => self.integer(i64::from(value)),
            Version::Resp3 => {
                self.out.extend_from_slice(if value { b"#t\r\n" } else { b"#f\r\n" });
            }
        }
    }

    /// With 17 significant digits: see [`format_double`].
    pub fn double(&mut self, value: f64) {
        match self.version {
            Version::Resp2 => {
                let mut text = Vec::with_capacity(32);
                format_double(value, &mut text);
                self.bulk(&text);
            }
            Version::Resp3 => {
                self.out.push(b',');
                format_double(value, self.out);
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// A decimal number of any length, such as `(3492890328409238509324850943850943825024385`.
    pub fn big_number(&mut self, digits: impl AsRef<[u8]>) {
        match self.version {
            Version::Resp2 => self.bulk(digits.as_ref()),
            Version::Resp3 => self.line(b'(', digits.as_ref()),
        }
    }

    /// A text and its format, three letters such as `txt`. RESP2 has only the text.
    pub fn verbatim(&mut self, format: [u8; 3], text: &[u8]) {
        match self.version {
            Version::Resp2 => self.bulk(text),
            Version::Resp3 => {
                self.head(b'=', text.len().saturating_add(4));
                self.out.extend_from_slice(&format);
                self.out.push(b':');
                self.out.extend_from_slice(text);
                self.out.extend_from_slice(b"\r\n");
            }
        }
    }

    fn head(&mut self, kind: u8, len: usize) {
        self.out.push(kind);
        self.out.extend_from_slice(itoa::Buffer::new().format(len).as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    /// Line breaks become blanks, since they would end it.
    fn line(&mut self, kind: u8, text: &[u8]) {
        self.out.push(kind);
        let from = self.out.len();
        self.out.extend_from_slice(text);
        for byte in self.out.iter_mut().skip(from) {
            if matches!(byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
        self.out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(version: Version, write: impl Fn(&mut Writer<'_>)) -> String {
        let mut out = Vec::new();
        write(&mut Writer { out: &mut out, version });
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_kind_has_its_form_in_both_versions() {
        type Write = fn(&mut Writer<'_>);
        let cases: [(Write, &str, &str); 16] = [
            (|w| w.status("OK"), "+OK\r\n", "+OK\r\n"),
            (|w| w.error("ERR a\r\nb"), "-ERR a  b\r\n", "-ERR a  b\r\n"),
            (|w| w.integer(-7), ":-7\r\n", ":-7\r\n"),
            (|w| w.bulk(b"a\r\n"), "$3\r\na\r\n\r\n", "$3\r\na\r\n\r\n"),
            (|w| w.nil(), "$-1\r\n", "_\r\n"),
            (|w| w.nil_array(), "*-1\r\n", "_\r\n"),
            (|w| w.array(2), "*2\r\n", "*2\r\n"),
            (|w| w.map(2), "*4\r\n", "%2\r\n"),
            (|w| w.set(2), "*2\r\n", "~2\r\n"),
            (|w| w.push(3), "*3\r\n", ">3\r\n"),
            (|w| w.boolean(true), ":1\r\n", "#t\r\n"),
            (|w| w.boolean(false), ":0\r\n", "#f\r\n"),
            (|w| w.double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n"),
            (|w| w.double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n"),
            (|w| w.big_number("12"), "$2\r\n12\r\n", "(12\r\n"),
            (|w| w.verbatim(*b"txt", b"hi"), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"),
        ];
        for (write, resp2, resp3) in cases {
            assert_eq!(written(Version::Resp2, write), resp2);
            assert_eq!(written(Version::Resp3, write), resp3);
        }
    }
}
