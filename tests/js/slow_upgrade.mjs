// A network on which WebSockets open slowly, so that a stock client talks over polling for a while
// before its connection is upgraded.

import { once } from "node:events";
import net from "node:net";

/** Forwards to `url`, and holds back what opens a WebSocket until it is told to `release` it. */
export async function slowUpgrades(url) {
  const { hostname, port } = new URL(url);
  const sockets = new Set();
  let release;
  const released = new Promise((resolve) => (release = resolve));
  const relay = net.createServer(async (client) => {
    const server = net.connect(Number(port), hostname);
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ]) {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on("error", () => other.destroy());
      socket.on("close", () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
    server.pipe(client);
    client.once("data", async (head) => {
      client.pause();
      if (head.includes("transport=websocket")) await released;
      server.write(head);
      client.pipe(server);
    });
  });
  relay.listen(0, "127.0.0.1");
  await once(relay, "listening");
  return {
    url: `http://127.0.0.1:${relay.address().port}`,
    release,
    close() {
      relay.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
