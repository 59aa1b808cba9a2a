// A text and its tokens: each shows where the other is.

import { h, roving, setText } from "../dom.js";
import { marked, texts } from "./parts.js";

const HUES = 5; // neighbours differ

export const tokens = {
  id: "tokens",
  title: "Tokens",
  about: "What the model sees of a text: tokens of its vocabulary, their ids, and the characters that each is made of.",
  rpc: "TokenizationService/TokenizeTexts",
  live: true,
  fits: () => true,
  fields: [
    {
      name: "text",
      kind: "area",
      label: "Text",
      rows: 3,
      value: "Größere Straßen lead to unbelievable places 🚀, and tokenizers know them all.",
    },
    { name: "special", kind: "check", label: "Add special tokens", value: true },
  ],
  request: ({ text, special }, model) => ({
    options: { model: model.name, addSpecialTokens: special, offsetUnit: "OFFSET_UNIT_UTF16_UNITS" },
    inputs: texts(text),
  }),
  command: ({ text, special }, model) => [
    ["tokenize", "--model", model.name, ...(special ? [] : ["--no-special-tokens"])],
    [text],
  ],
  show(answer, { values }) {
    const rows = rowsOf(answer.tokenizations);
    const passage = marked(
      values.text,
      rows.map((row) => ({ ...row, make: (part) => mark(part, row.index) })),
    );
    const chips = h(
      "div",
      { class: "tokens", role: "group", "aria-label": "Tokens; arrow keys walk" },
      ...rows.map(chip),
    );
    const detail = h(
      "p",
      { class: "readout", role: "status" },
      `${rows.length} tokens. Point at one, or walk by arrow keys.`,
    );
    const view = h(
      "div",
      { class: "stack" },
      h("div", { class: "card" }, passage),
      h("div", { class: "card stack" }, chips, detail),
    );
    link(view, rows, detail);
    roving(chips, ".token");
    return view;
  },
};

/** Returns a row for each token: { index, token, id, start, end, word, special }. */
export function rowsOf(columns) {
  const at = (column, place, otherwise) => columns[column]?.[place] ?? otherwise;
  return (columns.tokenIds ?? []).map((id, index) => ({
    index,
    id,
    token: at("tokens", index, ""),
    start: at("starts", index, 0),
    end: at("ends", index, 0),
    word: at("wordIds", index, -1),
    special: at("specialTokensMask", index, false),
  }));
}

const mark = (part, index) => h("mark", { class: `span hue-${index % HUES}`, "data-token": index }, part);

function chip({ index, token, id, special }) {
  const kind = special ? "token special" : `token hue-${index % HUES}`;
  return h(
    "button",
    { type: "button", class: kind, "data-token": index, tabindex: -1 },
    h("span", { class: "spelling" }, token),
    h("span", { class: "id" }, String(id)),
  );
}

function link(view, rows, detail) {
  const show = (target) => {
    const index = target.closest?.("[data-token]")?.dataset.token;
    for (const element of view.querySelectorAll(".is-chosen")) element.classList.remove("is-chosen");
    if (index === undefined) return;
    for (const element of view.querySelectorAll(`[data-token="${index}"]`)) element.classList.add("is-chosen");
    setText(detail, described(rows[Number(index)]));
  };
  view.addEventListener("pointerover", (event) => show(event.target));
  view.addEventListener("focusin", (event) => show(event.target));
}

function described({ index, token, id, start, end, word, special }) {
  if (special) return `Token ${index}: ${token}, id ${id}, a special token`;
  const characters = end - start === 1 ? `character ${start}` : `characters ${start} to ${end - 1}`;
  return `Token ${index}: ${token}, id ${id}, ${characters}${word >= 0 ? `, word ${word}` : ""}`;
}
