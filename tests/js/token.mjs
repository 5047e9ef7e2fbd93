// Tokens: from the command line as an operator mints them, and signed by hand to be wrong on purpose.

import { execFile } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** A token of `leveret token` for the server whose data folder this is. */
export async function mintToken(dataDir, user, { username, rooms = ['*'], ttl } = {}) {
  const args = ['token', '--user', user, '--data-dir', dataDir];
  if (username !== undefined) args.push('--username', username);
  for (const room of rooms) args.push('--room', room);
  if (ttl !== undefined) args.push('--ttl', ttl);
  const { stdout } = await run(process.env.LEVERET_BIN, args, { timeout: 10_000 });
  return stdout.trim();
}

/** A JWT (RFC 7519) of these claims, signed with HS256 whatever `header` says. */
export function signToken(secret, claims, header = { alg: 'HS256', typ: 'JWT' }) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${part(header)}.${part(claims)}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

export function inSeconds(seconds) {
  return Math.floor(Date.now() / 1000) + seconds;
}
