// What examples/axum.rs does, on Socket.IO's own server: the tests of the library hold for both.

import { createServer } from "node:http";

import { Server } from "socket.io";

/** Starts it on a free port of the loopback; `parser` as Socket.IO takes it. */
export async function startStockServer(parser) {
  const http = createServer();
  const io = new Server(http, { parser, transports: ["polling", "websocket"] });
  const ids = async (chosen) => (await chosen.fetchSockets()).map(({ id }) => id).sort();

  io.on("connection", (socket) => {
    socket.emit("welcome", socket.id, socket.nsp.name);
    socket.on("disconnecting", (reason) => {
      const rooms = [...socket.rooms].filter((room) => room !== socket.id);
      socket.broadcast.emit("left", socket.id, reason, rooms);
    });
    socket.on("echo", (first, second, ack) => ack(first, second));
    socket.on("upload", (bytes, upload, ack) => {
      socket.emit("uploaded", bytes, upload);
      ack(bytes.byteLength ?? bytes.length, bytes);
    });
    socket.on("join", (room, ack) => (socket.join(room), ack(true)));
    socket.on("leave", (room, ack) => (socket.leave(room), ack()));
    socket.on("say", (to, except, text) => {
      let others = socket.local.to(to);
      if (except) others = others.except(except);
      others.emit("said", text, socket.id);
    });
    socket.on("say to two", (one, other, text) => io.to(one).to(other).volatile.emit("said", text));
    socket.on("say to all", (text) => io.emit("said", text));
    socket.on("ask me", async (ms, ack) => {
      try {
        ack(await socket.timeout(ms).emitWithAck("question", "how", "much"));
      } catch (error) {
        ack({ error: error.message });
      }
    });
    socket.on("ask room", (room, ack) => {
      const count = io.sockets.adapter.rooms.get(room).size - 1;
      socket.to(room).timeout(2_000).emit("question", (_, answers) => {
        ack(answers.sort(), count - answers.length);
      });
    });
    socket.on("members", async (room, ack) => ack(await ids(io.in(room))));
    socket.on("move", (from, to, ack) => {
      io.in(from).socketsJoin(to);
      io.in(from).socketsLeave(from);
      ack(true);
    });
    socket.on("leave me", () => socket.disconnect());
    socket.on("end me", () => socket.disconnect(true));
    socket.on("cut me", () => socket.conn.close());
  });

  const privateOnes = io.of("/private");
  privateOnes.use((socket, next) => {
    const { name } = socket.handshake.auth;
    if (name) return (socket.data.name = name), next();
    next(Object.assign(new Error("who are you?"), { data: { code: 7 } }));
  });
  privateOnes.on("connection", (socket) => {
    socket.on("who am I", (ack) => ack(socket.data.name));
  });

  await new Promise((resolve) => http.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${http.address().port}`, stop: () => io.close() };
}
