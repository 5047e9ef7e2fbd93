// The stock server, in a worker: it keeps timers that would hold the test's process for half a minute.

import { createServer } from "node:http";
import { parentPort, workerData } from "node:worker_threads";

import { Server } from "socket.io";

const http = createServer();
new Server(http, workerData);
http.listen(0, "127.0.0.1", () => parentPort.postMessage(http.address().port));
