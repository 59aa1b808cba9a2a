// See a text go through the model, layer by layer, each sent while the next is computed: node layers.js [ADDRESS]

import { rows, run } from "./bertstream.js";

await run("EncodingService", async (client) => {
  const stream = client.StreamLayers(
    {
      options: { outputs: ["ENCODING_OUTPUT_HIDDEN_STATES"], token_outputs: ["TOKENIZATION_OUTPUT_TOKENS"] },
      inputs: { texts: { texts: ["The bank of the river was wet."] } },
    },
    { deadline: Date.now() + 30_000 },
  );

  for await (const message of stream) {
    if (message.event === "started") console.log(message.started.tokens.tokens.join(" "));
    if (message.event === "rows") {
      const states = rows(message.rows.rows); // a row a token; a long text's layer comes in several messages
      const norms = states.map((state) => Math.hypot(...state).toFixed(1));
      console.log(`layer ${message.rows.layer}:`, norms.join(" "));
    }
    if (message.event === "completed") console.log(`${message.completed.usage.tokens} tokens`);
  }
});
