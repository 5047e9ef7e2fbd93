// A TCP proxy whose connections can be cut, as a network does it, or stalled, as one that is half open.

import net from "node:net";

/** Forwards to the port of the loopback that `target` (a URL) names. */
export async function startProxy(target) {
  const port = Number(new URL(target).port);
  const pairs = new Set();
  let refuses = false;
  const server = net.createServer((client) => {
    if (refuses) return client.destroy();
    const upstream = net.connect(port, "127.0.0.1");
    const pair = { client, upstream };
    pairs.add(pair);
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ]) {
      from.on("data", (data) => to.write(data));
      from.on("error", () => {});
      from.on("close", () => {
        if (!pair.stalled) to.destroy();
        pairs.delete(pair);
      });
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const stalled = [];
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    /** Cuts every connection, and refuses others until `mend`. */
    cut() {
      refuses = true;
      for (const { client, upstream } of pairs) (client.destroy(), upstream.destroy());
    },
    /** Cuts the clients off, of which the server notices nothing. */
    halfOpen() {
      for (const pair of pairs) {
        pair.stalled = true;
        pair.upstream.removeAllListeners("data");
        pair.upstream.pause();
        stalled.push(pair.upstream);
        pair.client.destroy();
      }
    },
    mend() {
      refuses = false;
    },
    close() {
      for (const { client, upstream } of pairs) (client.destroy(), upstream.destroy());
      for (const upstream of stalled) upstream.destroy();
      server.close();
    },
  };
}
