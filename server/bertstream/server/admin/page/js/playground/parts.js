// Parts that several panels show: bars, texts with marked spans, tables of cells.

import { h } from "../dom.js";
import { decimal, percent } from "../format.js";

/** Draws [name, share from 0 to 1, text] as bars; `attributes(place)` adds to a row, and makes it a button with `click`. */
export function bars(entries, attributes = () => ({})) {
  const rows = entries.map(([name, share, text], place) => {
    const more = attributes(place);
    return h(
      more.click ? "button" : "div",
      { class: "bar-row", type: more.click ? "button" : null, ...more },
      h("span", { class: "name", title: name }, name),
      h("div", { class: "bar" }, h("div", { class: "bar-fill", "--share": String(Math.max(0, Math.min(1, share))) })),
      h("span", { class: "number" }, text ?? percent(share, 1)),
    );
  });
  return h("div", { class: "bars" }, ...rows);
}

/** Returns a text with parts of it marked: `spans` are { start, end, make(text) }, in UTF-16 units, and do not overlap. */
export function marked(text, spans) {
  const sorted = [...spans].filter(({ start, end }) => end > start).sort((one, other) => one.start - other.start);
  const parts = [];
  let place = 0;
  for (const { start, end, make } of sorted) {
    if (start < place) continue;
    parts.push(text.slice(place, start), make(text.slice(start, end)));
    place = end;
  }
  return h("p", { class: "passage" }, ...parts, text.slice(place));
}

/** Draws a square or oblong table of numbers, with the numbers in the cells. `share(value)` is from 0 to 1. */
export function cellTable(caption, rowNames, columnNames, value, share) {
  const head = columnNames.map((name, place) => h("th", { scope: "col", title: name }, h("span", {}, `${place + 1}`)));
  const rows = rowNames.map((name, row) =>
    h(
      "tr",
      {},
      h("th", { scope: "row", title: name }, h("span", { class: "place" }, `${row + 1}`), name),
      ...columnNames.map((_, column) => {
        const number = value(row, column);
        const part = share(number) ** 2; // so that what is close stands out
        return h(
          "td",
          { "--share": String(part), class: part > 0.7 ? "full" : part > 0.62 ? "half" : null },
          decimal(number, 2),
        );
      }),
    ),
  );
  const table = h(
    "table",
    { class: "cells" },
    h("caption", { class: "visually-hidden" }, caption),
    h("thead", {}, h("tr", {}, h("td"), ...head)),
    h("tbody", {}, ...rows),
  );
  return h("div", { class: "scroll" }, table);
}

/** The inputs of a call: whole texts. */
export const texts = (...given) => ({ texts: { texts: given } });

/** Raises an Error where nothing is given. */
export function needed(value, what) {
  if (!value || (Array.isArray(value) && !value.length) || (typeof value === "string" && !value.trim()))
    throw new Error(`Write ${what} first.`);
  return value;
}

export const hasHead = (head) => (model) => (model.heads ?? []).includes(head);
export const hasOutput = (output) => (model) => (model.outputs ?? []).includes(`ENCODING_OUTPUT_${output}`);
