// Encode texts, compare them, and read a refusal: node encode.js [ADDRESS]

import { call, explain, rows, run } from "./bertstream.js";

await run("EncodingService", async (client) => {
  const texts = ["A cat sleeps on the warm roof.", "A kitten naps up there in the sun.", "The stock exchange opens at nine."];
  const { encodings, usage } = await call(client, "EncodeTexts", {
    options: { pooling: { mode: "POOLING_MODE_MEAN", normalize: true } },
    inputs: { texts: { texts } },
  });
  const vectors = rows(encodings.pooled);
  const dot = (a, b) => a.reduce((sum, number, place) => sum + number * b[place], 0);
  console.log(`${vectors.length} vectors of ${vectors[0].length} numbers, from ${usage.tokens} tokens`);
  for (const [place, text] of texts.entries()) console.log(dot(vectors[0], vectors[place]).toFixed(2), text);

  try {
    await call(client, "EncodeTexts", {
      options: { truncation: { strategy: "TRUNCATION_STRATEGY_REFUSE" } },
      inputs: { texts: { texts: ["short", "too long ".repeat(300)] } },
    });
  } catch (error) {
    const { code, ErrorInfo, BadRequest } = explain(error);
    if (!BadRequest) throw error;
    console.log(code, ErrorInfo.reason);
    for (const { field, description } of BadRequest.field_violations) console.log(`  ${field}: ${description}`);
  }
});
