// The measured application on Node's socket.io: rooms, an event with an acknowledgement, a broadcast.
// WebSocket only, no compression, recovery if `--recovery` asks for it: the defaults of the server where it
// has a choice.
import { createServer } from "node:http";
import { Server } from "socket.io";

const http = createServer();
const recovery = process.argv.includes("--recovery") ? { connectionStateRecovery: {} } : {};
const io = new Server(http, { transports: ["websocket"], ...recovery });

io.on("connection", (socket) => {
  socket.on("join:room", (roomId, ack) => {
    socket.join(roomId);
    ack({ ok: true, roomId });
  });
  socket.on("typing:stop", (roomId, ack) => {
    socket.to(roomId).emit("typing:stop", roomId);
    ack({ ok: true, roomId });
  });
  socket.on("broadcast", (roomId, text) => {
    io.to(roomId).emit("news", text);
  });
});

http.listen({ host: "127.0.0.1", port: 0, backlog: 4096 }, () => {
  console.log(`http://127.0.0.1:${http.address().port}`);
});
