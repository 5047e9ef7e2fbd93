// Samples of a Prometheus text (exposition format 0.0.4), read from a running server.

import { request } from './request.mjs';

/** The sum of the samples of `name` that carry all of `labels`; undefined when there is none. */
export async function sample(server, name, labels = {}) {
  const { text } = await request(`${server.url}/metrics`);
  return samplesOf(text)
    .filter((sample) => sample.name === name)
    .filter((sample) => Object.entries(labels).every(([key, value]) => sample.labels[key] === value))
    .reduce((sum, { value }) => (sum ?? 0) + value, undefined);
}

export function samplesOf(text) {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return lines.map((line) => {
    const parts = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (parts === null) throw new Error(`not a sample: ${line}`);
    const [, name, inner = '', value] = parts;
    const labels = Object.fromEntries(
      [...inner.matchAll(/(\w+)="((?:[^"\\]|\\.)*)",?/g)].map(([, key, text]) => [key, text]),
    );
    return { name, labels, value: Number(value) };
  });
}
