//! The program on a Redis server, as it is started.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::server::{RedisServer, free_port};

const SOON: Duration = Duration::from_secs(20);

fn serve(url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.args(["serve", "--in-memory", "--demo", "--http", "127.0.0.1:0"]);
    command.env_remove("RABBITMQ_URL").env("REDIS_URL", url);
    command
}

struct Served {
    child: Child,
    address: String,
    cache: String,
}

impl Served {
    fn start(command: &mut Command) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let lines: Vec<String> = stdout.lines().take(4).map(|line| line.expect("a line")).collect();
        let line = |name: &str| {
            let found = lines.iter().find_map(|line| line.strip_prefix(name));
            found.unwrap_or_else(|| panic!("no {name} in {lines:?}")).trim().to_owned()
        };
        let address = line("http").trim_start_matches("http://").to_owned();
        Self { child, address, cache: line("cache") }
    }

    /// The status and the body.
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )
        .expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.expect("a status"), body.to_owned())
    }

    /// Asks until the answer is as it should be.
    fn until(&self, path: &str, holds: impl Fn(u16, &str) -> bool) {
        let deadline = Instant::now() + SOON;
        loop {
            let (status, body) = self.ask("GET", path, "");
            if holds(status, &body) {
                return;
            }
            assert!(Instant::now() < deadline, "{path} still gives {status} {body}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_demo_runs_unchanged_and_ready_says_when_the_server_is_away() {
    let mut redis = RedisServer::start();
    let served = Served::start(&mut serve(&redis.url()));
    assert_eq!(served.cache, redis.url());
    served.until("/ready", |status, _| status == 200);
    let order =
        r#"{"userId":"ada","items":[{"productId":"tea","quantity":2,"price":3.5}],"total":7}"#;
    let (status, body) = served.ask("POST", "/api/orders", order);
    assert_eq!(status, 201, "{body}");
    let answer: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let path = format!("/api/orders/{}", answer["orderId"].as_str().expect("an id"));
    served.until(&path, |status, body| status == 200 && body.contains("completed"));

    redis.kill();
    served.until("/ready", |status, body| {
        status == 503 && body.contains("cache: the cache can't be reached")
    });
    let (status, body) = served.ask("POST", "/api/orders", order);
    assert_eq!(status, 503, "{body}");
    assert_eq!(served.ask("GET", "/health", "").0, 200);
    redis.start_again();
    served.until("/ready", |status, _| status == 200);
    served.until(&path, |status, body| status == 200 && body.contains("completed"));
}

#[test]
fn a_server_that_refuses_the_password_is_one_line_at_the_start() {
    let redis = RedisServer::start_with(&["--requirepass", "s3cret"]);
    let url = format!("redis://:wr0ng@127.0.0.1:{}", redis.port());
    let output = serve(&url).output().expect("it ends");
    let line = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{line}");
    assert!(line.starts_with("leveret: the cache can't be used: Redis refused"), "{line}");
    assert!(line.lines().count() == 1 && !line.contains("wr0ng"), "{line}");
}

fn openssl(folder: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").current_dir(folder).args(arguments).output();
    let output = output.expect("openssl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn rediss_is_tls_whose_certificate_is_verified() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let authority = ["req", "-x509", "-subj", "/CN=test authority", "-days", "2"];
    openssl(
        folder.path(),
        &[&authority[..], &key, &["-keyout", "ca.key", "-out", "ca.pem"]].concat(),
    );
    let request = ["req", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
    openssl(
        folder.path(),
        &[&request[..], &key, &["-keyout", "key.pem", "-out", "csr.pem"]].concat(),
    );
    let sign =
        ["x509", "-req", "-in", "csr.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2"];
    let out = ["-copy_extensions", "copy", "-out", "cert.pem"];
    openssl(folder.path(), &[&sign[..], &out].concat());
    let file = |name: &str| folder.path().join(name).to_str().expect("a path").to_owned();
    let port = free_port();
    let _redis = RedisServer::start_with(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &file("cert.pem"),
        "--tls-key-file",
        &file("key.pem"),
        "--tls-auth-clients",
        "no",
        "--requirepass",
        "s3@cret/%",
    ]);
    let url = format!("rediss://default:s3%40cret%2F%25@localhost:{port}/3");
    let trusting = Served::start(serve(&url).env("SSL_CERT_FILE", file("ca.pem")));
    trusting.until("/ready", |status, _| status == 200);
    // Another authority's, none at all, or a name that the certificate does not have.
    let other = ["req", "-x509", "-subj", "/CN=another authority", "-days", "2"];
    openssl(
        folder.path(),
        &[&other[..], &key, &["-keyout", "other.key", "-out", "other.pem"]].concat(),
    );
    let elsewhere = url.replace("localhost", "127.0.0.1");
    for (url, trusted) in
        [(&url, file("other.pem")), (&url, "/dev/null".to_owned()), (&elsewhere, file("ca.pem"))]
    {
        let output = serve(url).env("SSL_CERT_FILE", &trusted).output().expect("it ends");
        let line = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(1), "{trusted}: {line}");
        assert!(line.starts_with("leveret: the cache can't be used"), "{trusted}: {line}");
        assert!(trusted == "/dev/null" || line.contains("certificate"), "{trusted}: {line}");
        assert!(line.lines().count() == 1 && !line.contains("s3"), "{line}");
    }
}
