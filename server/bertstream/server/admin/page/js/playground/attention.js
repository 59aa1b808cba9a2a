// Attention by layer and head: all at a glance, and one of them as a matrix and as lines from token to token.

import { h, roving, s } from "../dom.js";
import { decimal } from "../format.js";
import { drawn, paint, sequential } from "./colours.js";
import { heatMap } from "./heatmap.js";
import { layersRequest, readLayers, RPC } from "./layers.js";
import { hasOutput, needed } from "./parts.js";

const LINE_HEIGHT = 20;
const LINES_WIDTH = 150;
const LEAST_WEIGHT = 0.02; // of a line that is drawn

// Weights of many tokens are small: their square roots are told apart by eye.
const shown = (weight) => Math.sqrt(weight);

export const attention = {
  id: "attention",
  title: "Attention",
  about:
    "Which tokens each head of each layer looks at. A row is a token that attends, a column one that is attended to.",
  rpc: RPC,
  chosen: [1, 0], // the layer and head that were looked at last
  fits: hasOutput("ATTENTIONS"),
  fields: [
    {
      name: "text",
      kind: "area",
      label: "Text",
      rows: 2,
      value: "The animal did not cross the street because it was too tired.",
    },
    { name: "maxLength", kind: "number", label: "Most tokens", value: 48, min: 2, max: 256 },
  ],
  request: ({ text, maxLength }, model) => layersRequest(needed(text, "a text"), "ATTENTIONS", maxLength ?? 48, model),
  command({ text }, model) {
    const [layer, head] = within(model, attention.chosen);
    return [["attention", "--model", model.name, "--layer", String(layer), "--head", String(head)], [text]];
  },
  async run({ panel, message, model, signal }) {
    let view = null;
    return readLayers(
      message,
      signal,
      (tokens) => {
        view = new AttentionView(tokens, model, attention.chosen, (chosen) => {
          attention.chosen = chosen;
          panel.describe();
        });
        panel.result.replaceChildren(view.element);
      },
      (layer, weights) => view.add(layer, weights),
    );
  },
};

/** Returns a layer and a head that the model has: those, or the first. */
function within(model, [layer, head]) {
  return layer <= model.layers && head < model.attentionHeads ? [layer, head] : [1, 0];
}

class AttentionView {
  constructor(tokens, model, first, onChoose) {
    Object.assign(this, { tokens, onChoose, heads: model.attentionHeads, layers: model.layers, maps: new Map() });
    this.first = within(model, first);
    this.canvases = new Map();
    this.detail = h("div", { class: "attention-detail" });
    this.grid = this.#grid();
    const help = h("p", { class: "hint" }, "Rows are layers, columns heads. Click one, or walk by arrow keys.");
    this.element = h("div", { class: "stack" }, h("div", { class: "card stack" }, help, this.grid), this.detail);
  }

  #grid() {
    const rows = Array.from({ length: this.layers }, (_, i) => {
      const layer = i + 1;
      const cells = Array.from({ length: this.heads }, (__, head) => {
        const canvas = h("canvas", { class: "pixels", width: 1, height: 1 });
        this.canvases.set(`${layer}.${head}`, canvas);
        const label = `Layer ${layer}, head ${head}`;
        return h(
          "button",
          {
            type: "button",
            role: "gridcell",
            class: "thumb",
            "data-layer": layer,
            "data-head": head,
            "aria-label": label,
            title: label,
            "aria-selected": "false",
            disabled: true,
          },
          canvas,
        );
      });
      return h(
        "div",
        { role: "row", class: "thumb-row" },
        h("span", { role: "rowheader", class: "thumb-name" }, String(layer)),
        ...cells,
      );
    });
    const grid = h(
      "div",
      { role: "grid", class: "thumbs", "aria-label": "Attention by layer and head", "--heads": String(this.heads) },
      ...rows,
    );
    grid.addEventListener("focusin", (event) => this.#chosen(event));
    grid.addEventListener("click", (event) => this.#chosen(event));
    roving(grid, ".thumb:not([disabled])", () => this.heads);
    return grid;
  }

  #chosen(event) {
    const cell = event.target.closest(".thumb");
    if (cell) this.choose(Number(cell.dataset.layer), Number(cell.dataset.head));
  }

  /** Takes the weights [heads, tokens, tokens] of a layer. */
  add(layer, weights) {
    this.maps.set(layer, weights);
    for (let head = 0; head < this.heads; head += 1) {
      const weight = this.#weight(layer, head);
      const canvas = this.canvases.get(`${layer}.${head}`);
      const size = this.tokens.length;
      canvas.parentElement.disabled = false;
      drawn(canvas, () => paint(canvas, size, size, (from, to) => shown(weight(from, to)), sequential()));
    }
    const [first, head] = this.first;
    if (layer === first) {
      this.canvases.get(`${layer}.${head}`).parentElement.tabIndex = 0;
      this.choose(layer, head);
    }
  }

  #weight(layer, head) {
    const size = this.tokens.length;
    const weights = this.maps.get(layer);
    return (from, to) => weights[(head * size + from) * size + to];
  }

  /** Shows one head large. */
  choose(layer, head) {
    if (this.layer === layer && this.head === head) return;
    Object.assign(this, { layer, head });
    for (const cell of this.grid.querySelectorAll(".thumb")) {
      const chosen = cell.dataset.layer === String(layer) && cell.dataset.head === String(head);
      cell.setAttribute("aria-selected", String(chosen));
    }
    const weight = this.#weight(layer, head);
    const title = `Layer ${layer}, head ${head}`;
    const lines = new Lines(this.tokens, weight);
    const matrix = heatMap({
      title: `${title}: a matrix of attention weights`,
      rows: this.tokens,
      columns: this.tokens,
      share: (from, to) => shown(weight(from, to)),
      tell: (from, to) => `${this.tokens[from]} attends to ${this.tokens[to]}: ${decimal(weight(from, to), 3)}`,
      cell: this.tokens.length > 32 ? [14, 14] : [20, 20],
      onPoint: (from) => lines.only("from", from),
    });
    const card = (name, content) => h("div", { class: "card stack" }, h("h3", {}, name), content);
    this.detail.replaceChildren(card(`${title}: matrix`, matrix), card(`${title}: from token to token`, lines.element));
    this.onChoose([layer, head]);
  }
}

/** Lines from each token that attends, at the left, to those that it attends to. */
class Lines {
  constructor(tokens, weight) {
    const height = tokens.length * LINE_HEIGHT;
    const y = (place) => (place + 0.5) * LINE_HEIGHT;
    this.lines = [];
    tokens.forEach((_, from) =>
      tokens.forEach((__, to) => {
        if (weight(from, to) < LEAST_WEIGHT) return;
        const opacity = weight(from, to) ** 0.75;
        const line = s("line", {
          x1: 0,
          x2: LINES_WIDTH,
          y1: y(from),
          y2: y(to),
          "stroke-opacity": opacity.toFixed(3),
        });
        this.lines.push({ from, to, line });
      }),
    );
    const side = (name) =>
      h("ol", { class: `line-names ${name}` }, ...tokens.map((token) => h("li", { title: token }, token)));
    const label = "Lines from each token to those that it attends to; the stronger, the more";
    const svg = s(
      "svg",
      {
        viewBox: `0 0 ${LINES_WIDTH} ${height}`,
        height,
        preserveAspectRatio: "none",
        role: "img",
        "aria-label": label,
      },
      ...this.lines.map((each) => each.line),
    );
    this.sides = { from: side("from"), to: side("to") };
    this.element = h("div", { class: "lines" }, this.sides.from, svg, this.sides.to);
    for (const [name, list] of Object.entries(this.sides)) {
      list.addEventListener("pointerover", (event) =>
        this.only(name, [...list.children].indexOf(event.target.closest("li"))),
      );
      list.addEventListener("pointerleave", () => this.only(name, null));
    }
  }

  /** Shows the lines of one token alone; of all where there is none. */
  only(side, place) {
    const all = place === null || place < 0;
    for (const each of this.lines) each.line.classList.toggle("is-off", !all && each[side] !== place);
    for (const [name, list] of Object.entries(this.sides)) {
      [...list.children].forEach((item, i) => item.classList.toggle("is-chosen", !all && name === side && i === place));
    }
  }
}
