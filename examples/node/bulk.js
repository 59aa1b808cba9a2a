// Encode any number of lines from standard input, with their numbers as ids, in bounded memory: node bulk.js [ADDRESS] < FILE
// Prints a line of JSON for each, as it is ready: {"id": 7, "vector": [...]}, or {"id": 7, "error": "INVALID_TEXT_LENGTH"}.

import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { opened, rows, run } from "./bertstream.js";

const BATCH = 64; // texts in a message

async function* requests(lines) {
  yield { options: { truncation: { strategy: "TRUNCATION_STRATEGY_REFUSE" } } };
  const message = (first_id, texts) => ({ items: { first_id, inputs: { texts: { texts } } } });
  let texts = [];
  let first = 0;
  for await (const line of lines) {
    if (texts.push(line) < BATCH) continue;
    yield message(first, texts);
    [first, texts] = [first + texts.length, []];
  }
  if (texts.length) yield message(first, texts);
}

async function* answers(stream) {
  for await (const { items } of stream) {
    if (!items) continue; // the first message says how the stream will be
    const vectors = items.ids.length ? rows(items.encodings.pooled) : [];
    for (const [row, id] of items.ids.entries()) yield `${JSON.stringify({ id, vector: [...vectors[row]] })}\n`;
    for (const { id, status } of items.errors) yield `${JSON.stringify({ id, error: opened(status).ErrorInfo.reason })}\n`;
  }
}

// A pipeline goes on only as fast as its slowest part: where nobody reads, the server reads no further, and neither do we.
await run("EncodingService", async (client) => {
  const lines = createInterface({ input: process.stdin });
  await pipeline(Readable.from(requests(lines)), client.StreamEncodings(), answers, process.stdout);
});
