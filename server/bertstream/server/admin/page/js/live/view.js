// The view of live numbers: tiles, charts, models, methods and processes.

import { h, setText } from "../dom.js";
import { amount, bytes, decimal, percent, seconds } from "../format.js";
import { Chart, Plot } from "./chart.js";
import { History } from "./history.js";
import { ranked, seriesOf, SERIES } from "./numbers.js";
import { processTable, showBars, showModels, showProcesses } from "./tables.js";

class Tile {
  constructor(label, name, format, note) {
    Object.assign(this, { name, format, note });
    this.value = h("div", { class: "value" }, "–");
    this.noteLine = h("div", { class: "note" });
    this.plot = new Plot([{ name, filled: true }]);
    this.element = h(
      "div",
      { class: "card tile", role: "group", "aria-label": label },
      h("div", { class: "label" }, label),
      this.value,
      this.noteLine,
      this.plot.element,
    );
  }

  update(history, values) {
    setText(this.value, this.format(values[this.name]));
    setText(this.noteLine, this.note(values));
    this.plot.draw(history);
  }
}

function makeTiles() {
  return [
    new Tile("Calls a second", "calls", amount, (now) =>
      now.failed > 0 ? `${amount(now.failed)} of them failed` : "none failed",
    ),
    new Tile("Texts a second", "texts", amount, (now) =>
      now.calls > 0 ? `${amount(now.texts / now.calls)} a call` : "",
    ),
    new Tile("Tokens a second", "tokens", amount, (now) =>
      now.texts > 0 ? `${amount(now.tokens / now.texts)} a text` : "",
    ),
    new Tile("Median latency", "p50", seconds, (now) => `p99 ${seconds(now.p99)}`),
    new Tile("Calls under way", "under_way", decimal, (now) => `${now.streams} of them streams`),
    new Tile("Refused a second", "refused", amount, (now) => now.refusals),
  ];
}

function makeCharts() {
  const percentiles = ["p50", "p90", "p99"].map((name) => ({ name, label: name }));
  const waiting = [
    { name: "interactive", label: "interactive", filled: true },
    { name: "bulk", label: "bulk", filled: true },
  ];
  return [
    new Chart("Latency of calls", percentiles, { format: seconds }),
    new Chart("Tokens that wait", waiting, { format: amount }),
    new Chart("Batch fill", [{ name: "fill", label: "of the token budget", filled: true }], {
      format: percent,
      top: 1,
    }),
    new Chart("Memory of all processes", [{ name: "memory", label: "resident", filled: true }], {
      format: bytes,
      base: 1024,
    }),
  ];
}

export class LiveView {
  constructor() {
    this.history = new History(SERIES);
    this.tiles = makeTiles();
    this.charts = makeCharts();
    this.models = h("div", { class: "models" });
    this.methods = h("div", { class: "bars" });
    this.statuses = h("div", { class: "bars" });
    this.noMethods = h("p", { class: "muted" }, "No calls in the last second.");
    this.processes = processTable();
    this.summary = h("p");
    const fades = [
      h("div", { class: "tiles" }, ...this.tiles.map((tile) => tile.element)),
      h("div", { class: "charts" }, ...this.charts.map((chart) => chart.element)),
      h("div", { class: "stack" }, h("h3", {}, "Models"), this.models),
      h(
        "div",
        { class: "two" },
        h("div", { class: "card stack" }, h("h3", {}, "Calls a second by method"), this.noMethods, this.methods),
        h("div", { class: "card stack" }, h("h3", {}, "Calls a second by status"), this.statuses),
      ),
      h("div", { class: "card stack" }, h("h3", {}, "Processes"), this.processes.element),
    ];
    this.body = h("div", { class: "stack fades" }, ...fades);
    this.body.style.gap = "20px";
    this.element = h(
      "section",
      {},
      h("div", { class: "view-head" }, h("div", {}, h("h2", {}, "Live"), this.summary)),
      this.body,
    );
  }

  /** Takes one event of /api/live. */
  take(numbers) {
    const values = seriesOf(numbers);
    this.history.push(numbers.time, values);
    this.numbers = numbers;
    this.values = { ...values, streams: numbers.streams, refusals: refusals(numbers.refused_per_second) };
    // Once a frame, however many events come at once; not at all while nobody can see it.
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      if (!this.element.hidden) this.draw();
    });
  }

  /** Brings everything that is seen up to date. */
  draw() {
    if (!this.numbers) return;
    const { server, calls, models, processes } = this.numbers;
    setText(this.summary, `${this.#summary(server, models)}${server.draining ? " The server drains." : ""}`);
    for (const each of [...this.tiles, ...this.charts]) each.update(this.history, this.values);
    showModels(this.models, models);
    const methods = ranked(calls.by_method);
    this.noMethods.hidden = methods.length > 0;
    showBars(this.methods, methods, amount);
    showBars(this.statuses, ranked(calls.by_status), amount);
    showProcesses(this.processes.body, processes);
  }

  #summary(server, models) {
    const busy = decimal(this.values.cores, 1);
    return `${counted(models.length, "model")} on ${counted(server.cores, "core")}, of which ${busy} are busy.`;
  }

  /** Numbers that no longer come are shown as old ones. */
  setLive(live) {
    this.body.classList.toggle("is-stale", !live && this.numbers !== undefined);
  }
}

const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

function refusals(counts) {
  const [first] = ranked(counts);
  return first ? `most: ${first[0].toLowerCase().replaceAll("_", " ")}` : "none";
}
