//! HTTP/1.1 to one server, on a connection that is kept.

use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::ServerArgs;
use super::table::harmless;
use crate::http::ApiKey;
use crate::server::{Environment, Error, settings};

const DEFAULT_URL: &str = "http://127.0.0.1:3001";
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Longer than the server lets any request wait.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A server to call.
pub(super) struct Client {
    host: String,
    port: u16,
    authority: HeaderValue,
    key: Option<HeaderValue>,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// # Errors
    /// [`Error::Usage`]: a URL or a key that is none.
    pub(super) fn new(server: &ServerArgs, environment: Environment<'_>) -> Result<Self, Error> {
        let given = |flag: &Option<String>, name: &str, variable: &str| match flag {
            Some(value) => Ok(Some((value.clone(), format!("--{name}")))),
            None => match environment(variable).map(|value| value.into_string()) {
                Some(Ok(value)) if value.is_empty() => Ok(None),
                Some(Ok(value)) => Ok(Some((value, variable.to_owned()))),
                Some(Err(_)) => Err(Error::Usage(format!("{variable} is not valid UTF-8"))),
                None => Ok(None),
            },
        };
        let (url, origin) = given(&server.url, "url", "LEVERET_URL")?
            .unwrap_or_else(|| (DEFAULT_URL.to_owned(), String::new()));
        let wrong = |reason: &str| Error::Usage(format!("{origin}: '{url}' {reason}"));
        let uri: Uri = url.parse().map_err(|_| wrong("is no URL"))?;
        match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => {}
            Some(_) => return Err(wrong("is no http:// URL: no other scheme is spoken here")),
            None => return Err(wrong("does not begin with http://")),
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong("has a path: the server's address is enough"));
        }
        let authority = uri.authority().ok_or_else(|| wrong("names no host"))?;
        let key = given(&server.api_key, "api-key", "LEVERET_API_KEY")?;
        let key = key.map(|(key, origin)| match settings::api_key(&key) {
            Ok(key) => Ok(key),
            Err(reason) => Err(Error::Usage(format!("{origin}: {reason}"))),
        });
        Ok(Self {
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(80),
            authority: HeaderValue::from_str(authority.as_str()).map_err(|_| wrong("is no URL"))?,
            key: key.transpose()?.as_ref().and_then(bearer),
            sender: None,
        })
    }

    /// Another connection to the same server.
    pub(super) fn another(&self) -> Self {
        Self {
            host: self.host.clone(),
            port: self.port,
            authority: self.authority.clone(),
            key: self.key.clone(),
            sender: None,
        }
    }

    /// Sends a request and reads the JSON of its answer.
    ///
    /// # Errors
    /// [`Error::Refused`] with the server's reason, or what became of the connection.
    pub(super) async fn call(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Error> {
        let exchange = async {
            let answer = self.send(method, path, body).await?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| self.lost(&error.to_string()))?.to_bytes();
            read(status, &body)
        };
        match tokio::time::timeout(ANSWER_WITHIN, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(self.silent()),
        }
    }

    /// The connection is given up: an answer may come that nobody waits for.
    fn silent(&mut self) -> Error {
        self.sender = None;
        self.lost(&format!("no answer within {} s", ANSWER_WITHIN.as_secs()))
    }

    /// Sends a request whose answer begins soon and goes on and on.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub(super) async fn stream(&mut self, method: Method, path: &str) -> Result<Incoming, Error> {
        let begun = async {
            let answer = self.send(method, path, None).await?;
            let status = answer.status();
            if status.is_success() {
                return Ok(answer.into_body());
            }
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| self.lost(&error.to_string()))?.to_bytes();
            read(status, &body).and_then(|_| Err(self.lost("the answer is no stream")))
        };
        match tokio::time::timeout(ANSWER_WITHIN, begun).await {
            Ok(answer) => answer,
            Err(_) => Err(self.silent()),
        }
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.authority.clone());
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, key.clone());
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request =
            request.body(Full::new(body)).map_err(|error| self.lost(&error.to_string()))?;
        let sender = self.connected().await?;
        let answer = sender.send_request(request).await;
        answer.map_err(|error| self.lost(&error.to_string()))
    }

    /// The connection, made again if the server closed it for being idle.
    async fn connected(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, Error> {
        let kept = match self.sender.take() {
            Some(mut sender) => sender.ready().await.is_ok().then_some(sender),
            None => None,
        };
        let sender = match kept {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        Ok(self.sender.insert(sender))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Error> {
        let unreachable = |reason: String| {
            Error::Refused(format!("there is no server at {}: {reason}", self.url()))
        };
        let stream = TcpStream::connect((self.host.as_str(), self.port));
        let stream = tokio::time::timeout(CONNECT_WITHIN, stream)
            .await
            .map_err(|_| unreachable("it does not answer".to_owned()))?
            .map_err(|error| unreachable(error.to_string()))?;
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        // Its errors come back through the request that they end.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn url(&self) -> String {
        format!("http://{}", self.authority.to_str().unwrap_or(&self.host))
    }

    fn lost(&self, reason: &str) -> Error {
        Error::Refused(format!("the connection to {} failed: {reason}", self.url()))
    }
}

fn bearer(key: &ApiKey) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", key.as_str())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn read(status: StatusCode, body: &[u8]) -> Result<Value, Error> {
    let document = serde_json::from_slice::<Value>(body);
    if status.is_success() {
        let none =
            |_| Error::Refused("the answer is no JSON: is this a Leveret server?".to_owned());
        return document.map_err(none);
    }
    let reason = document.ok().and_then(|document| Some(harmless(&said(&document)?)));
    Err(Error::Refused(match (status, reason) {
        (StatusCode::UNAUTHORIZED, Some(reason)) => {
            format!("{reason} (--api-key or LEVERET_API_KEY)")
        }
        (_, Some(reason)) => reason,
        (status, None) => format!("the server answered {status}: is this a Leveret server?"),
    }))
}

/// The `error` of the API, or the `reasons` of `/ready`.
fn said(document: &Value) -> Option<String> {
    if let Some(error) = document.get("error") {
        return error.as_str().map(str::to_owned);
    }
    let reasons = document.get("reasons")?.as_array()?;
    let reasons: Vec<&str> = reasons.iter().filter_map(Value::as_str).collect();
    Some(format!("not ready: {}", reasons.join("; ")))
}

/// One segment of a path (RFC 3986, section 2.3: only unreserved characters stay).
pub(super) fn encoded(segment: &str) -> String {
    let mut path = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                path.push(char::from(byte));
            }
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(url: &str, key: Option<&str>) -> Result<Client, String> {
        let server =
            ServerArgs { url: Some(url.to_owned()), api_key: key.map(str::to_owned), json: false };
        Client::new(&server, &|_| None).map_err(|error| error.line())
    }

    #[test]
    fn a_server_is_an_http_address() {
        let found = client("http://localhost:3001/", None).unwrap();
        assert_eq!((found.host.as_str(), found.port), ("localhost", 3001));
        let found = client("http://[::1]:80", Some("k")).unwrap();
        assert_eq!((found.host.as_str(), found.port), ("::1", 80));
        for (wrong, reason) in [
            ("https://localhost", "no http:// URL"),
            ("localhost:3001", "http://"),
            ("http://localhost/api", "has a path"),
            ("http://", "is no URL"),
            ("", "is no URL"),
        ] {
            let line = client(wrong, None).err().unwrap();
            assert!(line.starts_with("--url: ") && line.contains(reason), "{line}");
        }
        let line = client("http://h", Some("a b")).err().unwrap();
        assert!(line.starts_with("--api-key: a key consists of"), "{line}");
    }

    #[test]
    fn the_environment_names_the_server_where_no_flag_does() {
        let server = ServerArgs { url: None, api_key: None, json: false };
        let environment = |name: &str| match name {
            "LEVERET_URL" => Some("http://h:9".into()),
            _ => None,
        };
        assert_eq!(Client::new(&server, &environment).map(|client| client.port).ok(), Some(9));
        assert_eq!(Client::new(&server, &|_| None).map(|client| client.port).ok(), Some(3001));
    }

    #[test]
    fn a_segment_keeps_to_itself() {
        assert_eq!(encoded("a/b?c#d e.ü~"), "a%2Fb%3Fc%23d%20e.%C3%BC~");
    }
}
