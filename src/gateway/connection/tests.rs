use std::convert::Infallible;

use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::*;
use crate::gateway::websocket;

const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// What hyper gives for `server` once `client` has asked for a WebSocket, with `more` in one write, and was told.
pub(in crate::gateway) async fn upgrade(
    client: &mut (impl AsyncRead + AsyncWrite + Unpin),
    more: &[u8],
    server: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Upgraded {
    let (tell, mut told) = mpsc::channel(1);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (tell, upgrade) = (tell.clone(), hyper::upgrade::on(&mut request));
        tokio::spawn(async move { tell.send(upgrade.await.unwrap()).await.unwrap() });
        let response = websocket::accept(&request).unwrap().map(|()| Body::empty());
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(server), service);
    tokio::spawn(async move { connection.with_upgrades().await.unwrap() });
    client.write_all(&[HEAD, more].concat()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    told.recv().await.unwrap()
}

/// A client over TCP that sent `more` with its request, the halves at the server, and what counts the
/// connection.
async fn upgraded(more: &[u8]) -> (TcpStream, ReadHalf, WriteHalf, Arc<Semaphore>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let connections = Arc::new(Semaphore::new(1));
    let permit = Arc::clone(&connections).try_acquire_owned().unwrap();
    let connection = Connection::new(stream, permit);
    let (read, write) = split(upgrade(&mut client, more, connection).await);
    (client, read, write, connections)
}

#[tokio::test]
async fn the_halves_of_an_accepted_connection_are_its_own() {
    let (mut client, mut read, mut write, connections) = upgraded(b"").await;
    assert!(matches!((&read, &write), (ReadHalf::Tcp(_), WriteHalf::Tcp(_))));
    client.write_all(b"there").await.unwrap();
    let mut there = [0; 5];
    read.read_exact(&mut there).await.unwrap();
    assert_eq!(&there, b"there");
    write.write_all(b"and back").await.unwrap();

    drop(read);
    assert_eq!(connections.available_permits(), 0);
    drop(write);
    assert_eq!(connections.available_permits(), 1);
    let mut back = String::new();
    client.read_to_string(&mut back).await.unwrap();
    assert_eq!(back, "and back");
}

#[tokio::test]
async fn what_came_with_the_request_is_read_first() {
    let ahead = [b'a'; 500];
    let (mut client, mut read, _write, _) = upgraded(&ahead).await;
    client.write_all(b"then").await.unwrap();
    client.shutdown().await.unwrap();
    // In parts that are smaller than what came.
    let (mut got, mut part) = (Vec::new(), [0; 112]);
    while let bytes @ 1.. = read.read(&mut part).await.unwrap() {
        got.extend_from_slice(&part[..bytes]);
    }
    assert_eq!(got, [&ahead[..], b"then"].concat());
}

#[tokio::test]
async fn the_end_waits_for_the_peer_s_and_forgets_what_it_still_sends() {
    let (mut client, _read, mut write, _) = upgraded(b"").await;
    write.write_all(b"the last").await.unwrap();
    let began = Instant::now();
    let ends = tokio::spawn(async move { write.shutdown().await });
    let mut last = String::new();
    client.read_to_string(&mut last).await.unwrap();
    assert_eq!(last, "the last");
    client.write_all(&[0; 4096]).await.unwrap();
    assert!(!ends.is_finished() || began.elapsed() >= LINGER_MAX);
    drop(client);
    ends.await.unwrap().unwrap();
}
