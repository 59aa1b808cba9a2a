// What StreamLayers sends, put together: each layer's states and attentions, as they come.

import { stream } from "./rpc.js";
import { floats } from "./tensors.js";

export const RPC = "EncodingService/StreamLayers";

/** Returns the request for some outputs of all layers of a text of at most so many tokens. */
export function layersRequest(text, output, maxLength, model) {
  return {
    options: {
      model: model.name,
      outputs: [`ENCODING_OUTPUT_${output}`],
      truncation: { maxLength: Math.min(maxLength, model.maxTokens) },
      tokenOutputs: ["TOKENIZATION_OUTPUT_TOKENS"],
    },
    inputs: { texts: { texts: [text] } },
  };
}

/**
 * Reads the stream. `onStart(tokens)` is called with the tokens' spellings, `onLayer(layer, numbers)` with the rows of a
 * layer, end to end, when all have come: states [tokens, width], or attentions [heads, tokens, tokens].
 * Returns the last answer.
 */
export async function readLayers(message, signal, onStart, onLayer) {
  let [completed, gathered, layer] = [{}, [], null];
  const flush = () => {
    if (layer !== null) onLayer(layer, joined(gathered));
    gathered = [];
  };
  for await (const event of stream(RPC, message, signal)) {
    if (event.started) onStart(event.started.tokens?.tokens ?? []);
    if (event.rows) {
      const next = event.rows.layer ?? 0;
      if (next !== layer) flush();
      layer = next;
      gathered.push(floats(event.rows.rows));
    }
    completed = event.completed ?? completed;
  }
  flush();
  return completed;
}

function joined(parts) {
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let place = 0;
  for (const part of parts) {
    whole.set(part, place);
    place += part.length;
  }
  return whole;
}
