//! Socket.IO in an axum program's own router, beside its other routes.
//!
//! `cargo run --example axum [ADDRESS [SOCKETS]]` prints the address that it serves; one client's address may
//! have so many sockets. Every corner of the library is used once, which is what the tests with stock clients
//! talk to.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use leveret::gateway::{
    Ack, Binary, ConnectError, DisconnectReason, GatewayOptions, Io, Namespace, Socket,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What the namespace `/private` wants to know.
#[derive(Deserialize)]
struct Credentials {
    name: Option<String>,
}

/// Who a socket of `/private` is.
struct Name(String);

#[derive(Serialize, Deserialize)]
struct Upload {
    name: String,
    parts: Vec<Binary>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let mut options = GatewayOptions::default();
    options.limits.loopback_sockets_max = arguments.next().map(|most| most.parse()).transpose()?;
    let io = Io::new(options);
    everything(io.root());
    private(&io.of("/private")?);

    let routes = Router::new().route("/hello", get(async || "hello")).merge(io.router());
    let listener = TcpListener::bind(address).await?;
    println!("http http://{}", listener.local_addr()?);
    // With the addresses of the clients, which the limits are about.
    axum::serve(listener, routes.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

fn everything(root: &Namespace) {
    root.on_connect(|socket: Socket| async move {
        socket.emit("welcome", (socket.id().to_string(), socket.namespace())).ok();
    });
    root.on_disconnect(|socket: Socket, reason: DisconnectReason| async move {
        let rooms: Vec<String> = socket.rooms().iter().map(|room| room.to_string()).collect();
        socket.broadcast().emit("left", (socket.id().to_string(), reason.as_str(), rooms)).ok();
    });
    root.on("echo", |first: Value, second: Value, ack: Ack| async move {
        ack.send((first, second)).ok();
    });
    root.on("upload", |socket: Socket, bytes: Binary, upload: Upload, ack: Ack| async move {
        socket.emit("uploaded", (&bytes, &upload)).ok();
        ack.send((bytes.0.len(), bytes)).ok();
    });
    root.on("join", |socket: Socket, room: String, ack: Ack| async move {
        ack.send(&socket.join(&room).is_ok()).ok();
    });
    root.on("leave", |socket: Socket, room: String, ack: Ack| async move {
        socket.leave(&room);
        ack.send(()).ok();
    });
    root.on("say", |socket: Socket, to: String, except: Option<String>, text: String| async move {
        let mut others = socket.to(&to).local();
        if let Some(except) = &except {
            others = others.except(except);
        }
        others.emit("said", (text, socket.id().to_string())).ok();
    });
    root.on("say to two", |socket: Socket, one: String, other: String, text: String| async move {
        socket.everybody().to(&one).to(&other).volatile().emit("said", &text).ok();
    });
    root.on("say to all", |socket: Socket, text: String| async move {
        socket.everybody().emit("said", &text).ok();
    });
    root.on("ask me", |socket: Socket, within_ms: u64, ack: Ack| async move {
        let timeout = Duration::from_millis(within_ms);
        match socket.emit_with_ack("question", ("how", "much"), timeout).await {
            Ok(reply) => ack.send(reply.arg::<Value>(0).unwrap_or_default()).ok(),
            Err(error) => ack.send(json!({ "error": error.to_string() })).ok(),
        };
    });
    root.on("ask room", |socket: Socket, room: String, ack: Ack| async move {
        let timeout = Duration::from_secs(2);
        let Ok(replies) = socket.to(&room).emit_with_ack("question", (), timeout).await else {
            return;
        };
        let mut answers: Vec<String> =
            replies.replies.iter().filter_map(|(_, reply)| reply.arg(0).ok()).collect();
        answers.sort();
        ack.send((answers, replies.missing.len())).ok();
    });
    root.on("members", |socket: Socket, room: String, ack: Ack| async move {
        let members = socket.everybody().to(&room).fetch_sockets();
        let mut ids: Vec<String> = members.iter().map(|member| member.id().to_string()).collect();
        ids.sort();
        ack.send(&ids).ok();
    });
    root.on("move", |socket: Socket, from: String, to: String, ack: Ack| async move {
        let members = socket.everybody().to(&from);
        let moved = members.join(&to).is_ok();
        members.leave(&from);
        ack.send(&moved).ok();
    });
    root.on("leave me", |socket: Socket| async move { socket.disconnect() });
    root.on("end me", |socket: Socket| async move { socket.close() });
    root.on("cut me", |socket: Socket| async move { socket.cut() });
}

fn private(private: &Namespace) {
    private.middleware(|socket: Socket, credentials: Credentials| async move {
        let Some(name) = credentials.name else {
            return Err(ConnectError::new("who are you?").with_data(json!({ "code": 7 })));
        };
        socket.insert(Name(name));
        Ok(())
    });
    private.on("who am I", |socket: Socket, ack: Ack| async move {
        let name = socket.get::<Name>();
        ack.send(&name.as_deref().map(|name| &name.0)).ok();
    });
}
