// The README's quick start for JavaScript, word for word, against a server as the README starts it.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { closeClients, connect } from "./client.mjs";
import { startServer } from "./server.mjs";
import { mintToken } from "./token.mjs";

const README = new URL("../../README.md", import.meta.url);
const MARKER = "<!-- test: quickstart.mjs -->";

/** The JavaScript block that follows the marker. */
function quickStart(readme) {
  const [, ...marked] = readme.split(MARKER);
  assert.equal(marked.length, 1, `README.md must hold ${MARKER} once`);
  const block = /^\s*```js\n(.*?)^```$/ms.exec(marked[0]);
  assert.ok(block?.index === 0, `README.md must have a block of \`\`\`js right after ${MARKER}`);
  return block[1];
}

test("the quick start runs as it stands", async () => {
  const program = quickStart(await readFile(README, "utf8"));
  const server = await startServer();
  try {
    const token = await mintToken(server.dataDir, "ada", { username: "Ada" });
    // From the command line, imports are looked up from the working directory.
    const { stdout, stderr } = await promisify(execFile)(
      process.execPath,
      ["--input-type=module", "--eval", program],
      {
        cwd: fileURLToPath(new URL(".", import.meta.url)),
        env: { ...process.env, LEVERET_URL: server.url, TOKEN: token },
        timeout: 15_000,
      },
    );
    assert.equal(stderr, "");
    const [, id] = /^durable (\S+) \S+$/m.exec(stdout) ?? assert.fail(`it printed ${stdout}`);
    assert.match(stdout, /^Ada: hello$/m);

    const reader = await connect(server.url, { token });
    const { messages } = await reader.join("general");
    assert.deepEqual(
      messages.map((message) => message.id),
      [id],
    );
  } finally {
    closeClients();
    await server.stop();
  }
});

test("a README without the quick start is not passed over", () => {
  assert.throws(() => quickStart("# Leveret\n"), /must hold/);
  assert.throws(() => quickStart(`${MARKER}\n\ntext\n\`\`\`js\n1;\n\`\`\`\n`), /must have a block/);
  assert.equal(quickStart(`${MARKER}\n\`\`\`js\n1;\n2;\n\`\`\`\nmore`), "1;\n2;\n");
});
