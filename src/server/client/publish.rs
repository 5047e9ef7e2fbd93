//! `leveret publish`.

use std::io::Read;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::arguments::PublishArgs;
use super::connection::Client;
use super::understood;
use crate::model::names::{ExchangeName, NameError, RoutingKey};
use crate::server::{Error, print_line};

/// Bytes of a body on standard input.
const BODY_BYTES_MAX: u64 = 16 * 1024 * 1024;

#[derive(Deserialize)]
struct Published {
    routed: bool,
}

pub(super) async fn run(mut client: Client, arguments: PublishArgs) -> Result<(), Error> {
    let wrong = |error: NameError| Error::Usage(error.to_string());
    let exchange = ExchangeName::new(&arguments.exchange).map_err(wrong)?;
    let key = RoutingKey::new(&arguments.key).map_err(wrong)?;
    let headers = headers(&arguments.headers)?;
    let mut request = json!({
        "exchange": exchange.as_str(),
        "routingKey": key.as_str(),
        "headers": headers,
        "properties": {
            "persistent": arguments.persistent,
            "contentType": arguments.content_type,
            "messageId": arguments.message_id,
            "type": arguments.kind,
            "priority": arguments.priority,
            "expiration": arguments.expiration,
        },
    });
    if let (Some(body), Some(members)) = (arguments.body, request.as_object_mut()) {
        members.extend(body_members(body)?);
    }
    let answer = client.call(Method::POST, "/api/v1/publish", Some(&request)).await?;
    if arguments.server.json {
        print_line(&answer.to_string())?;
    }
    match understood(answer)? {
        Published { routed: true } => Ok(()),
        Published { routed: false } => Err(Error::Refused(format!(
            "the message is unroutable: exchange '{exchange}' takes '{key}' to no queue"
        ))),
    }
}

/// The members of a request that carry a body: the text itself, or with `-` standard input.
pub(super) fn body_members(body: String) -> Result<Map<String, Value>, Error> {
    let bytes = match body.as_str() {
        "-" => read_input()?,
        _ => body.into_bytes(),
    };
    let (encoding, body) = match String::from_utf8(bytes) {
        Ok(text) => ("utf8", text),
        Err(error) => ("base64", BASE64.encode(error.as_bytes())),
    };
    Ok(Map::from_iter([
        ("body".to_owned(), Value::from(body)),
        ("bodyEncoding".to_owned(), Value::from(encoding)),
    ]))
}

fn read_input() -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(BODY_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::Refused(format!("can't read standard input: {error}")))?;
    if bytes.len() as u64 > BODY_BYTES_MAX {
        return Err(Error::Refused(format!("the body has more than {BODY_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

fn headers(given: &[String]) -> Result<Map<String, Value>, Error> {
    let header = |text: &String| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), Value::from(value))),
        _ => Err(Error::Usage(format!("--header: '{text}' is not NAME=VALUE"))),
    };
    given.iter().map(header).collect()
}
