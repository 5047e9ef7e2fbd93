//! What Leveret's own metrics say is left of sockets that are gone.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::servers::Server;

/// Waits until no socket, no session and no task of one is counted, and every session that began has ended.
pub fn all_gone(server: &Server) {
    const PATIENCE: Duration = Duration::from_secs(30);
    let began = Instant::now();
    loop {
        let left = left(server);
        if left == [0.0; 4] {
            return println!("after all left: no socket, no session and no task in the metrics");
        }
        assert!(began.elapsed() < PATIENCE, "sockets, sessions, tasks, not ended: {left:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Sessions that ended so far.
pub fn closed(server: &Server) -> f64 {
    sum(&metrics(server), CLOSED)
}

const CLOSED: &str = "leveret_gateway_sessions_closed_total";

fn left(server: &Server) -> [f64; 4] {
    let page = metrics(server);
    let opened = sum(&page, "leveret_gateway_sessions_total");
    assert!(opened > 0.0, "no metrics: {page}");
    [
        sum(&page, "websocket_connections"),
        sum(&page, "leveret_gateway_sessions"),
        sum(&page, "leveret_gateway_tasks"),
        opened - sum(&page, CLOSED),
    ]
}

/// Over all labels.
fn sum(page: &str, name: &str) -> f64 {
    let lines = page
        .lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn metrics(server: &Server) -> String {
    let mut stream = TcpStream::connect(server.address).expect("a connection");
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        .expect("a request");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("an answer");
    page
}
