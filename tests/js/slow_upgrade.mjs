// A network on which WebSockets open slowly, so that a stock client talks over polling for a while
// before its connection is upgraded.

import { once } from 'node:events';
import net from 'node:net';

import { elapse } from './deadline.mjs';

/** Forwards to `url`, and holds back what opens a WebSocket for `ms`. */
export async function slowUpgrades(url, ms) {
  const { hostname, port } = new URL(url);
  const sockets = new Set();
  const relay = net.createServer(async (client) => {
    const server = net.connect(Number(port), hostname);
    for (const [socket, other] of [[client, server], [server, client]]) {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on('error', () => other.destroy());
      socket.on('close', () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
    server.pipe(client);
    client.once('data', async (head) => {
      client.pause();
      if (head.includes('transport=websocket')) await elapse(ms);
      server.write(head);
      client.pipe(server);
    });
  });
  relay.listen(0, '127.0.0.1');
  await once(relay, 'listening');
  return {
    url: `http://127.0.0.1:${relay.address().port}`,
    close() {
      relay.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
