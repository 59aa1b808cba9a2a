// The playground: which models there are, and a panel for each thing that the chosen one can do.

import { h, setText } from "../dom.js";
import { attention } from "./attention.js";
import { generate } from "./generate.js";
import { hidden } from "./hidden.js";
import { choices, classify, nextSentence, rerank, zeroShot } from "./labels.js";
import { masks } from "./masks.js";
import { Panel } from "./panel.js";
import { call } from "./rpc.js";
import { similarity } from "./similarity.js";
import { answers, entities, namedEntities } from "./spans.js";
import { tokens } from "./tokens.js";

const SPECS = [
  tokens,
  similarity,
  masks,
  entities,
  namedEntities,
  answers,
  classify,
  zeroShot,
  rerank,
  choices,
  nextSentence,
  generate,
  attention,
  hidden,
];

export class Playground {
  /** `onModel(ids)` is told the panels that fit the model, whenever it changes. */
  constructor(onModel) {
    this.onModel = onModel;
    this.server = { address: "" };
    this.models = [];
    this.panels = new Map(SPECS.map((spec) => [spec.id, new Panel(spec, this.server)]));
    this.select = h("select", { id: "model", change: () => this.choose(this.select.value) });
    this.trouble = h("span", { class: "hint", role: "status" });
    this.picker = h("div", { class: "model-picker" }, h("label", { for: "model" }, "Model"), this.select, this.trouble);
  }

  /** Asks which models there are. */
  async load() {
    try {
      const { models } = await call("ModelService/ListModels", {});
      this.models = models ?? [];
      setText(this.trouble, "");
    } catch (error) {
      setText(this.trouble, `The models are not known: ${error.message}`);
      return;
    }
    this.select.replaceChildren(...this.models.map(({ name }) => h("option", { value: name }, name)));
    const kept = this.models.some(({ name }) => name === this.model?.name) ? this.model.name : this.models[0]?.name;
    if (kept) this.choose(kept);
  }

  /** Takes a model, if it is there. */
  choose(name) {
    const model = this.models.find((each) => each.name === name);
    if (!model) return;
    this.model = model;
    this.select.value = name;
    const fitting = SPECS.filter((spec) => spec.fits(model));
    for (const { id } of fitting) this.panels.get(id).use(model);
    this.onModel(fitting.map(({ id }) => id));
  }

  /** Is called when a panel is shown: the choice of the model goes there. */
  shown(id) {
    const panel = this.panels.get(id);
    panel.pickers.append(this.picker);
    panel.shown();
  }
}
