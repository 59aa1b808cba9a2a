// Hidden states by layer: how long they are, how far each layer turns them, and the numbers themselves.

import { h, setText } from "../dom.js";
import { decimal } from "../format.js";
import { diverging } from "./colours.js";
import { heatMap } from "./heatmap.js";
import { layersRequest, readLayers, RPC } from "./layers.js";
import { hasOutput, needed } from "./parts.js";
import { cosine, norm } from "./tensors.js";

const STRIP_WIDTH = 640;
const NARROW = [15, 18];
const card = (title, about, content) =>
  h("div", { class: "card stack" }, h("div", {}, h("h3", {}, title), h("p", { class: "hint" }, about)), content);

export const hidden = {
  id: "hidden-states",
  title: "Hidden states",
  about: "The state of each token after each layer. Layer 0 is the output of the embeddings.",
  rpc: RPC,
  layer: Infinity, // that was looked at last
  fits: hasOutput("HIDDEN_STATES"),
  fields: [
    {
      name: "text",
      kind: "area",
      label: "Text",
      rows: 2,
      value: "The animal did not cross the street because it was too tired.",
    },
    { name: "maxLength", kind: "number", label: "Most tokens", value: 32, min: 2, max: 128 },
  ],
  request: ({ text, maxLength }, model) =>
    layersRequest(needed(text, "a text"), "HIDDEN_STATES", maxLength ?? 32, model),
  command: ({ text }, model) => [["layers", "--model", model.name], [text]],
  async run({ panel, message, model, signal }) {
    let tokens = [];
    const layers = [];
    const take = (_, numbers) => {
      const width = model.hiddenSize;
      layers.push(tokens.map((__, token) => numbers.subarray(token * width, (token + 1) * width)));
    };
    const completed = await readLayers(message, signal, (given) => (tokens = given), take);
    panel.result.replaceChildren(view(tokens, layers));
    return completed;
  },
};

/** `layers[k][token]` is a state. */
function view(tokens, layers) {
  const names = layers.map((_, layer) => `${layer}`);
  return h(
    "div",
    { class: "stack" },
    strips(tokens, layers),
    h("div", { class: "three" }, lengths(tokens, layers, names), turns(tokens, layers, names), between(layers, names)),
  );
}

function lengths(tokens, layers, names) {
  const norms = layers.map((states) => states.map(norm));
  const most = Math.max(...norms.flat());
  const map = heatMap({
    title: "Lengths of states by layer and token",
    rows: names,
    columns: tokens,
    share: (layer, token) => norms[layer][token] / most,
    tell: (layer, token) => `${tokens[token]} after layer ${layer}: ${decimal(norms[layer][token], 2)}`,
    cell: NARROW,
  });
  return card("Length", `The norm of each state, up to ${decimal(most, 1)}.`, map);
}

function turns(tokens, layers, names) {
  const cosines = layers.slice(1).map((states, k) => states.map((state, token) => cosine(state, layers[k][token])));
  const most = Math.max(1e-9, ...cosines.flat().map((value) => 1 - value));
  const map = heatMap({
    title: "How far each layer turns each state",
    rows: names.slice(1),
    columns: tokens,
    share: (row, token) => Math.max(0, 1 - cosines[row][token]) / most,
    tell: (row, token) => `${tokens[token]}, layer ${row} to ${row + 1}: cosine ${decimal(cosines[row][token], 3)}`,
    cell: NARROW,
  });
  return card("Turn", "One minus the cosine between a token's states before and after a layer.", map);
}

function between(layers, names) {
  const mean = (one, other) => one.reduce((sum, state, token) => sum + cosine(state, other[token]), 0) / one.length;
  const means = layers.map((one) => layers.map((other) => mean(one, other)));
  const least = Math.min(0, ...means.flat());
  const map = heatMap({
    title: "Cosine between layers",
    rows: names,
    columns: names,
    share: (one, other) => (means[one][other] - least) / (1 - least),
    tell: (one, other) => `Layers ${one} and ${other}: ${decimal(means[one][other], 3)}`,
    cell: [22, 22],
  });
  return card("Between layers", "The cosine between a token's states in two layers, as the mean of all tokens.", map);
}

/** The numbers of one layer: a strip for each token, and a slider for the layer. */
function strips(tokens, layers) {
  const width = layers[0][0].length;
  const place = h("div");
  const name = h("output", { for: "strip-layer" });
  const slider = h("input", {
    type: "range",
    id: "strip-layer",
    min: 0,
    max: layers.length - 1,
    value: Math.min(hidden.layer, layers.length - 1),
  });
  const show = () => {
    const layer = Number(slider.value);
    const states = layers[layer];
    // Two and a half times the root of the mean square has the full colour.
    const spread = (2.5 * Math.hypot(...states.map(norm))) / Math.sqrt(states.length * width);
    hidden.layer = layer;
    setText(name, String(layer));
    const map = heatMap({
      title: `States after layer ${layer}`,
      rows: tokens,
      columns: width,
      share: (token, dimension) => Math.max(-1, Math.min(1, states[token][dimension] / spread)),
      tell: (token, dimension) => `${tokens[token]}, dimension ${dimension}: ${decimal(states[token][dimension], 3)}`,
      palette: diverging,
      cell: [Math.max(1, STRIP_WIDTH / width), 16],
    });
    place.replaceChildren(map);
  };
  slider.addEventListener("input", show);
  show();
  const control = h("div", { class: "slider" }, h("label", { for: "strip-layer" }, "Layer"), slider, name);
  return card(
    "States",
    "A row is a token, a column a dimension; one colour below zero, the other above.",
    h("div", { class: "stack" }, control, place),
  );
}
