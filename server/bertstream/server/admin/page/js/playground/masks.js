// Candidates for masked tokens.

import { h, setText } from "../dom.js";
import { bars, hasHead, needed, texts } from "./parts.js";

export const masks = {
  id: "fill-mask",
  title: "Fill mask",
  about: "What could stand in place of each [MASK], and how probable the model holds it.",
  rpc: "TaskService/FillMasks",
  fits: hasHead("fill_mask"),
  fields: [
    {
      name: "text",
      kind: "area",
      label: "Text with [MASK]",
      rows: 2,
      value: "The quick brown [MASK] jumps over the [MASK] dog.",
    },
    { name: "topK", kind: "number", label: "Candidates", value: 6, min: 1, max: 50 },
  ],
  request: ({ text, topK }, model) => ({
    options: { model: model.name, topK: topK ?? 6 },
    inputs: texts(needed(text, "a text with [MASK]")),
  }),
  command: ({ text, topK }, model) => [["fill-mask", "--model", model.name, "--top-k", String(topK ?? 6)], [text]],
  show({ candidates }) {
    const sentence = h("p", { class: "passage readout" }, candidates.sequences?.[0] ?? "");
    let first = 0;
    const groups = (candidates.candidateCounts ?? []).map((count, mask) => {
      const from = first;
      first += count;
      const places = Array.from({ length: count }, (_, i) => from + i);
      const entries = places.map((place) => [candidates.tokens[place], candidates.scores[place]]);
      const choose = (i) => ({
        click: () => setText(sentence, candidates.sequences[places[i]]),
        focus: () => setText(sentence, candidates.sequences[places[i]]),
      });
      return h("div", { class: "card stack" }, h("h3", {}, `Mask ${mask + 1}`), bars(entries, choose));
    });
    return h("div", { class: "stack" }, h("div", { class: "two" }, ...groups), h("div", { class: "card" }, sentence));
  },
};
