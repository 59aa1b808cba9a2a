// Text as it is written, piece by piece.

import { h } from "../dom.js";
import { decimal } from "../format.js";
import { needed, texts } from "./parts.js";
import { stream } from "./rpc.js";

const CONTINUES = "causal_lm";
const REWRITES = "sequence_to_sequence";
const REASONS = {
  FINISH_REASON_END_OF_SEQUENCE: "The text ended.",
  FINISH_REASON_LENGTH: "It was as long as allowed.",
  FINISH_REASON_STOP_STRING: "A stop string came.",
};

export const generate = {
  id: "generate",
  title: "Generate",
  about: "What the model writes, as it comes. Stopping frees at once what it holds on the server.",
  verb: "Write",
  rpc: "GenerationService/StreamGeneration",
  fits: (model) => (model.heads ?? []).some((head) => [CONTINUES, REWRITES].includes(head)),
  fields: [
    { name: "prompt", kind: "area", label: "Prompt", rows: 3, value: "The quick brown fox" },
    { name: "tokens", kind: "number", label: "Most tokens", value: 60, min: 1, max: 4096 },
    { name: "sample", kind: "check", label: "By chance", value: true },
    { name: "temperature", kind: "number", label: "Temperature", value: 0.8, min: 0.05, max: 5, step: 0.05 },
    { name: "topP", kind: "number", label: "Top p", value: 0.95, min: 0.01, max: 1, step: 0.01 },
    { name: "seed", kind: "number", label: "Seed", value: 7, min: 0 },
  ],
  request: (values, model) => ({
    options: { model: model.name, ...options(values) },
    inputs: texts(needed(values.prompt, "a prompt")),
  }),
  command(values, model) {
    const { maxNewTokens, doSample, temperature, topP, seed } = options(values);
    const chance = { "--temperature": temperature, "--top-p": topP, "--seed": seed };
    const given = Object.entries(chance).flatMap(([name, value]) => (value === undefined ? [] : [name, String(value)]));
    return [
      [
        "generate",
        "--model",
        model.name,
        "--max-new-tokens",
        String(maxNewTokens),
        doSample ? "--do-sample" : "--no-do-sample",
        ...given,
      ],
      [values.prompt],
    ];
  },
  adapt(panel, model) {
    const continues = model.heads.includes(CONTINUES);
    panel.fields[0].element.querySelector("label").textContent = continues
      ? "Prompt, which is continued"
      : "Text, which is rewritten";
  },
  async run({ panel, message, values, model, signal }) {
    const prompt = model.heads.includes(CONTINUES) ? h("span", { class: "muted" }, values.prompt) : "";
    const written = document.createTextNode("");
    const cursor = h("span", { class: "cursor", "aria-hidden": "true" });
    const passage = h("p", { class: "passage", "aria-live": "off" }, prompt, written, cursor);
    const note = h("p", { class: "hint", role: "status" }, "\u00a0");
    panel.result.replaceChildren(h("div", { class: "card stack written" }, passage, note));
    let [count, first, completed] = [0, 0, {}];
    const pace = () =>
      `${decimal(count)} tokens${count > 1 ? `, ${decimal((count - 1) / ((performance.now() - first) / 1000))} a second` : ""}`;
    try {
      for await (const event of stream(generate.rpc, message, signal)) {
        if (event.piece) {
          first ||= performance.now();
          count += event.piece.tokenIds?.length ?? 0;
          written.data += event.piece.text ?? "";
          note.textContent = `${pace()}.`;
        }
        completed = event.completed ?? completed;
      }
      note.textContent = `${pace()}. ${REASONS[completed.output?.texts?.[0]?.finishReason] ?? ""}`;
      return completed;
    } finally {
      cursor.remove();
    }
  },
};

function options({ tokens, sample, temperature, topP, seed }) {
  const chance = { temperature: temperature ?? undefined, topP: topP ?? undefined, seed: seed ?? undefined };
  return { maxNewTokens: tokens ?? 60, doSample: sample, ...(sample ? chance : {}) };
}
