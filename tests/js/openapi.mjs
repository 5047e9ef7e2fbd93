// The server API, each of whose answers is held against the schema that /api/v1/openapi.json gives for it.

import assert from "node:assert/strict";
import http from "node:http";
import { createInterface } from "node:readline";

import Ajv2020 from "ajv/dist/2020.js";

import { within } from "./deadline.mjs";
import { request } from "./request.mjs";

const WAIT_MS = 5_000;

/** The place in the document of what `parts` name, as a JSON pointer. */
const pointer = (...parts) =>
  parts.map((part) => encodeURIComponent(part.replaceAll("~", "~0").replaceAll("/", "~1"))).join("/");

/** The document of the server at `url`, and what calls its operations. */
export async function describedApi(url) {
  const document = (await request(`${url}/api/v1/openapi.json`)).json();
  const schemas = new Ajv2020({ strict: false, allErrors: true });
  schemas.addSchema(document, "openapi");

  function fits(what, value, ...place) {
    const valid = schemas.validate(`openapi#/${pointer(...place)}`, value);
    assert.ok(valid, `${what}: ${schemas.errorsText()} in ${JSON.stringify(value)}`);
  }

  /** Its path in the document, its method, itself, and its address. */
  function found(operationId, names, query) {
    const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
    );
    const it = operations.find(({ operation }) => operation.operationId === operationId);
    const concrete = it.path.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(names[name]));
    return { ...it, address: `${url}/api/v1${concrete}?${new URLSearchParams(query)}` };
  }

  /** Calls the operation; its body and its answer must be as the document describes them. */
  async function call(operationId, { path: names = {}, query = {}, body, status = 200 } = {}) {
    const { path, method, operation, address } = found(operationId, names, query);
    const headers = {};
    let text;
    if (body !== undefined) {
      text = JSON.stringify(body);
      headers["content-type"] = "application/json";
      headers["content-length"] = Buffer.byteLength(text);
      const place = [path, method, "requestBody", "content", "application/json", "schema"];
      const valid = schemas.validate(`openapi#/${pointer("paths", ...place)}`, body);
      // What a schema cannot say may be refused too.
      assert.ok(valid || status >= 400, `the body of ${operationId}: ${schemas.errorsText()}`);
    }
    const answer = await request(address, { method: method.toUpperCase(), headers, body: text });
    assert.equal(answer.status, status, answer.text);
    const described = operation.responses[status];
    assert.ok(described !== undefined || status >= 400, `${operationId} is not said to answer ${status}`);
    const place =
      described === undefined || described.$ref
        ? ["components", "responses", "Problem", "content", "application/problem+json", "schema"]
        : ["paths", path, method, "responses", `${status}`, "content", "application/json", "schema"];
    fits(operationId, answer.json(), ...place);
    return answer.json();
  }

  /** Begins to consume; each line of the answer must be as the document describes it. */
  async function consume(queue, query = {}) {
    const { path, method, address } = found("consume", { queue }, query);
    const outgoing = http.request(address, { method: method.toUpperCase(), agent: false });
    const answered = new Promise((resolve, reject) => {
      outgoing.on("response", resolve).on("error", reject);
    });
    outgoing.end();
    const incoming = await within(WAIT_MS, "the stream", answered);
    assert.equal(incoming.statusCode, 200);
    assert.equal(incoming.headers["content-type"], "application/x-ndjson");
    const lines = createInterface(incoming)[Symbol.asyncIterator]();
    const schema = ["responses", "200", "content", "application/x-ndjson", "schema"];
    /** The next line that says something; `undefined` at the end. */
    async function next() {
      const { value, done } = await within(WAIT_MS, "a line", lines.next());
      if (done) return undefined;
      if (value === "") return next();
      const line = JSON.parse(value);
      fits("a line", line, "paths", path, method, ...schema);
      return line;
    }
    return { next, ...(await next()) };
  }

  return { document, call, consume };
}
