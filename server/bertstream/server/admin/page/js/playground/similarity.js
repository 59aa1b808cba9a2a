// Cosines between the vectors of several texts.

import { h } from "../dom.js";
import { cellTable, hasOutput, needed, texts } from "./parts.js";
import { cosine, rowsOf } from "./tensors.js";

const MOST = 16;

export const similarity = {
  id: "similarity",
  title: "Similarity",
  about: "How close texts are to each other: the cosine between their vectors, as the checkpoint pools them.",
  rpc: "EncodingService/EncodeTexts",
  fits: hasOutput("POOLED"),
  fields: [
    {
      name: "texts",
      kind: "lines",
      label: "Texts, one a line",
      rows: 6,
      value: [
        "A cat sleeps on the sofa.",
        "The kitten is napping on the couch.",
        "Interest rates rose again in spring.",
        "The central bank has raised its rates.",
        "Two dogs chase a ball in the park.",
      ],
    },
  ],
  request: (values, model) => ({ options: { model: model.name }, inputs: texts(...chosen(values)) }),
  command: (values, model) => [["similarity", "--model", model.name], chosen(values)],
  show(answer, { values }) {
    const names = chosen(values);
    const vectors = rowsOf(answer.encodings.pooled);
    const between = (row, column) => cosine(vectors[row], vectors[column]);
    const least = Math.min(0, ...names.flatMap((_, row) => names.map((__, column) => between(row, column))));
    const table = cellTable(
      "Cosine of each pair of texts",
      names,
      names,
      between,
      (value) => (value - least) / (1 - least),
    );
    return h("div", { class: "card" }, table);
  },
};

function chosen({ texts: lines }) {
  if (lines.length > MOST) throw new Error(`Take at most ${MOST} texts, so that the map can be read.`);
  return needed(lines.length > 1 && lines, "two texts or more, one a line,");
}
