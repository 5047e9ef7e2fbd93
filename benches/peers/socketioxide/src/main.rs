//! The measured application on socketioxide: the events of `server.mjs` beside it. Built with what
//! Leveret is built with: the same profile, allocator and number of threads.

use serde::Serialize;
use socketioxide::SocketIo;
use socketioxide::extract::{AckSender, Data, SocketRef};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Done {
    ok: bool,
    room_id: String,
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    // A slow reader loses events past this; Leveret's bound in bytes holds at least as many.
    let (layer, io) = SocketIo::builder().max_buffer_size(4096).build_layer();
    io.ns("/", async |socket: SocketRef| {
        socket.on(
            "join:room",
            async |socket: SocketRef, Data::<String>(room_id), ack: AckSender| {
                socket.join(room_id.clone());
                let _ = ack.send(&Done { ok: true, room_id });
            },
        );
        socket.on(
            "typing:stop",
            async |socket: SocketRef, Data::<String>(room_id), ack: AckSender| {
                let _ = socket.to(room_id.clone()).emit("typing:stop", &room_id).await;
                let _ = ack.send(&Done { ok: true, room_id });
            },
        );
        socket.on(
            "broadcast",
            async |socket: SocketRef, Data::<(String, String)>((room_id, text))| {
                let _ = socket.within(room_id).emit("news", &text).await;
            },
        );
        // An event that comes in before its handler is there is lost: clients wait for this.
        let _ = socket.emit("ready", &());
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, axum::Router::new().layer(layer)).await
}
