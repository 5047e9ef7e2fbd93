// One HTTP request on a connection of its own, with every header under the test's control.

import http from 'node:http';

import { within } from './deadline.mjs';

/** Sends a request; the answer is {status, headers, text, json()}. */
export function request(url, { method = 'GET', headers = {}, body, deadlineMs = 10_000 } = {}) {
  let outgoing;
  const answered = new Promise((resolve, reject) => {
    outgoing = http.request(url, { method, headers, agent: false }, (incoming) => {
      const chunks = [];
      incoming.on('data', (chunk) => chunks.push(chunk));
      incoming.on('error', reject);
      incoming.on('end', () => {
        const text = Buffer.concat(chunks).toString();
        const json = () => {
          try {
            return JSON.parse(text);
          } catch {
            throw new Error(`${method} ${url}: ${incoming.statusCode} is not JSON: ${text}`);
          }
        };
        resolve({ status: incoming.statusCode, headers: incoming.headers, text, json });
      });
    });
    outgoing.on('error', reject);
    outgoing.end(body);
  });
  return within(deadlineMs, `the answer to ${method} ${url}`, answered).finally(() =>
    outgoing.destroy(),
  );
}

/** Posts `value` as JSON; a string is sent as it is. */
export function post(url, value, headers = {}) {
  const body = typeof value === 'string' ? value : JSON.stringify(value);
  const length = Buffer.byteLength(body);
  return request(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'content-length': length, ...headers },
    body,
  });
}
