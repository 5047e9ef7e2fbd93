//! `leveret consume`.

use std::io::{IsTerminal, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::BytesMut;
use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::arguments::ConsumeArgs;
use super::connection::{Client, encoded};
use super::table::harmless;
use super::{queue_path, understood};
use crate::server::{Error, print_line};

/// Deliveries that are out at once, and acknowledged together at most.
const BATCH_MAX: usize = 100;
/// What `--requeue` can hold: the server's bound on deliveries that are out at once.
const HELD_MAX: u64 = 1_000;
/// A message with its envelope: the server sends none that is larger.
const LINE_BYTES_MAX: usize = 128 * 1024 * 1024;

pub(super) async fn run(mut client: Client, arguments: ConsumeArgs) -> Result<(), Error> {
    let count = arguments.count.unwrap_or(u64::MAX);
    if arguments.requeue && count > HELD_MAX {
        return Err(Error::Usage(format!("--requeue takes a --count of at most {HELD_MAX}")));
    }
    let prefetch = if arguments.requeue { count } else { count.min(BATCH_MAX as u64) };
    let limit = arguments.count.map(|count| format!("&limit={count}")).unwrap_or_default();
    let rest = format!("/consume?prefetch={prefetch}&noAck={}{limit}", arguments.no_ack);
    let path = queue_path(&arguments.queue, &rest)?;
    let mut lines = Lines {
        body: client.stream(Method::POST, &path).await?,
        read: BytesMut::new(),
        searched: 0,
    };
    let Some(Line::Opened { consumer }) = lines.next().await? else {
        return Err(Error::Refused("the answer is no stream of deliveries".to_owned()));
    };
    let path = format!("/api/v1/consumers/{}", encoded(&consumer));
    let (printed, to_acknowledge) = mpsc::channel(BATCH_MAX);
    tokio::try_join!(
        receive(&mut lines, count, &arguments, printed),
        acknowledge(client.another(), format!("{path}/settle"), to_acknowledge),
    )?;
    client.another().call(Method::DELETE, &path, None).await.map(|_| ())
}

/// Prints `count` messages, and says of each that it may be acknowledged.
async fn receive(
    lines: &mut Lines,
    count: u64,
    arguments: &ConsumeArgs,
    printed: mpsc::Sender<u64>,
) -> Result<(), Error> {
    let settles = !arguments.no_ack && !arguments.requeue;
    let mut left = count;
    while left > 0 {
        let ended = match lines.next().await? {
            Some(Line::Delivered(delivery)) => {
                let tag = delivery.tag;
                print(*delivery, arguments.server.json)?;
                left -= 1;
                if settles && printed.send(tag).await.is_err() {
                    // The acknowledgements failed, and say why.
                    return Ok(());
                }
                continue;
            }
            Some(Line::Opened { .. }) => continue,
            Some(Line::Ended { ended }) => ended,
            None => "the connection is gone".to_owned(),
        };
        return Err(Error::Refused(format!("the consumer ended: {}", harmless(&ended))));
    }
    Ok(())
}

/// While one request is answered the next batch grows: an answer waits for the server's disk.
async fn acknowledge(
    mut client: Client,
    path: String,
    mut printed: mpsc::Receiver<u64>,
) -> Result<(), Error> {
    let mut tags = Vec::with_capacity(BATCH_MAX);
    while printed.recv_many(&mut tags, BATCH_MAX).await > 0 {
        client.call(Method::POST, &path, Some(&json!({ "ack": tags }))).await?;
        tags.clear();
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Delivered(Box<Delivery>),
    Opened { consumer: String },
    Ended { ended: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Delivery {
    tag: u64,
    body: String,
    body_encoding: String,
    #[serde(flatten)]
    message: serde_json::Map<String, Value>,
}

/// A body a line: as it is where a program reads it, harmless on a terminal.
fn print(delivery: Delivery, json: bool) -> Result<(), Error> {
    let Delivery { tag: _, body, body_encoding, mut message } = delivery;
    if json {
        message.insert("body".to_owned(), body.into());
        message.insert("bodyEncoding".to_owned(), body_encoding.into());
        return print_line(&Value::Object(message).to_string());
    }
    let bytes = match body_encoding.as_str() {
        "base64" => BASE64.decode(&body).unwrap_or_default(),
        _ => body.into_bytes(),
    };
    let mut stdout = std::io::stdout().lock();
    if stdout.is_terminal() {
        drop(stdout);
        return print_line(&harmless(&String::from_utf8_lossy(&bytes)));
    }
    // Acknowledged after this: so it must have left the process.
    let written = stdout.write_all(&bytes).and_then(|()| stdout.write_all(b"\n"));
    written.and_then(|()| stdout.flush()).map_err(Error::Output)
}

/// The stream, cut at line ends.
struct Lines {
    body: Incoming,
    read: BytesMut,
    /// Bytes of `read` that hold no line end: a long line is not searched again with every part of it.
    searched: usize,
}

impl Lines {
    /// `None`: the stream is over.
    async fn next(&mut self) -> Result<Option<Line>, Error> {
        loop {
            if let Some(end) = self.line_end() {
                let line = self.read.split_to(end + 1);
                self.searched = 0;
                if line.len() == 1 {
                    continue;
                }
                let document = serde_json::from_slice(&line).map_err(|error| {
                    Error::Refused(format!("a delivery can't be read: {error}"))
                })?;
                return understood(document).map(Some);
            }
            if self.read.len() > LINE_BYTES_MAX {
                return Err(Error::Refused("a delivery is too large".to_owned()));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    self.searched = self.read.len();
                    self.read.extend_from_slice(&frame.into_data().unwrap_or_default());
                }
                Some(Err(_)) | None => return Ok(None),
            }
        }
    }

    fn line_end(&self) -> Option<usize> {
        let unsearched = self.read.get(self.searched..)?;
        Some(self.searched + memchr::memchr(b'\n', unsearched)?)
    }
}
