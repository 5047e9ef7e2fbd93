//! A polling answer is compressed for a client that takes it, and above a size.

use std::io::Read;

use flate2::read::{GzDecoder, ZlibDecoder};
use serde_json::json;

use crate::http::{Answer, Polling, request};
use crate::stand::{Stand, token};

/// One notification of about so many bytes, polled by a client that accepts this.
async fn polled(stand: &Stand, bytes: usize, accepts: &[(&str, &str)]) -> Answer {
    let client = Polling::connect(stand.address, &token("ada")).await;
    stand.gateway.emit_to_user(
        &"ada".try_into().unwrap(),
        "notification",
        &json!({ "filler": "x".repeat(bytes) }),
    );
    let answer = request(stand.address, "GET", &client.query(), accepts, "").await;
    assert_eq!(client.post("1").await.body, "ok");
    answer
}

fn expected(bytes: usize) -> String {
    format!(r#"42["notification",{{"filler":"{}"}}]"#, "x".repeat(bytes))
}

#[tokio::test]
async fn a_long_answer_is_compressed_as_the_client_likes_it() {
    let stand = Stand::start().await;
    // The second is compressed beside the workers.
    for bytes in [2_000, 200_000] {
        let gzip = polled(&stand, bytes, &[("Accept-Encoding", "gzip, deflate")]).await;
        assert_eq!(gzip.header("content-encoding"), Some("gzip"));
        assert!(gzip.bytes.len() < bytes / 4, "{}", gzip.bytes.len());
        assert_eq!(gzip.header("content-length"), Some(gzip.bytes.len().to_string().as_str()));
        let mut text = String::new();
        GzDecoder::new(&gzip.bytes[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, expected(bytes));

        let deflate = polled(&stand, bytes, &[("Accept-Encoding", "deflate")]).await;
        assert_eq!(deflate.header("content-encoding"), Some("deflate"));
        let mut text = String::new();
        ZlibDecoder::new(&deflate.bytes[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, expected(bytes));
    }
}

#[tokio::test]
async fn others_get_plain_text() {
    let stand = Stand::start().await;
    let refuses: &[(&str, &str)] = &[("Accept-Encoding", "br, gzip;q=0")];
    for (bytes, accepts) in
        [(2_000, &[][..]), (2_000, refuses), (500, &[("Accept-Encoding", "gzip")])]
    {
        let plain = polled(&stand, bytes, accepts).await;
        assert_eq!(plain.header("content-encoding"), None);
        assert_eq!(plain.body, expected(bytes));
    }
    let stand = Stand::with(|options| options.compression_bytes_min = None).await;
    let plain = polled(&stand, 2_000, &[("Accept-Encoding", "gzip")]).await;
    assert_eq!(plain.body, expected(2_000));
}
