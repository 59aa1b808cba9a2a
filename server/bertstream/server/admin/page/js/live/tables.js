// Models, methods and processes: each row is made once, and only its texts change.

import { h, keyed, setText } from "../dom.js";
import { age, amount, bytes, decimal, percent, seconds } from "../format.js";

/** Sets the text of each part of an element, which is found by its data-part. */
function fill(element, texts) {
  for (const [part, text] of Object.entries(texts)) setText(element.querySelector(`[data-part="${part}"]`), text);
}

const part = (name, tag = "span", attributes = {}) => h(tag, { "data-part": name, ...attributes });

const MODEL_NUMBERS = [
  ["texts", "Texts/s"],
  ["tokens", "Tokens/s"],
  ["workers", "Workers"],
  ["queue", "Tokens waiting"],
  ["p50", "Compute p50"],
  ["p99", "Compute p99"],
];

function makeModel() {
  return h(
    "article",
    { class: "card model" },
    h("header", { class: "model-head" }, part("name", "h4"), part("state", "span", { class: "chip" })),
    part("facts", "p", { class: "facts" }),
    part("tasks", "p", { class: "facts" }),
    h("dl", {}, ...MODEL_NUMBERS.map(([name, label]) => h("div", {}, h("dt", {}, label), part(name, "dd")))),
    h("div", { class: "bars" }, meter("fill", "Batch fill"), meter("cache", "Generation cache")),
  );
}

function meter(name, label) {
  return h(
    "div",
    { class: "bar-row", "data-meter": name },
    h("span", { class: "name muted" }, label),
    h("div", { class: "bar" }, h("div", { class: "bar-fill" })),
    part(name, "span", { class: "number" }),
  );
}

function setMeter(element, name, share) {
  const row = element.querySelector(`[data-meter="${name}"]`);
  row.hidden = share === null || share === undefined;
  row.querySelector(".bar-fill").style.setProperty("--share", String(Math.min(share ?? 0, 1)));
  fill(element, { [name]: percent(share) });
}

const tasksOf = (model) => model.tasks.map((task) => task.replaceAll("_", " ")).join(", ") || "no task heads";

function updateModel(element, model) {
  const shape = [
    model.dtype,
    model.device,
    model.layers && `${model.layers} layers`,
    model.heads && `${model.heads} heads`,
  ];
  element.querySelector('[data-part="state"]').dataset.state = model.state;
  fill(element, {
    name: model.name,
    state: model.state,
    facts: shape.filter(Boolean).join(" · "),
    tasks: model.generating > 0 ? `writes ${model.generating} texts` : tasksOf(model),
    texts: amount(model.texts_per_second),
    tokens: amount(model.tokens_per_second),
    workers: `${model.workers_alive} of ${model.workers}`,
    queue: amount((model.queue_tokens?.interactive ?? 0) + (model.queue_tokens?.bulk ?? 0)),
    p50: seconds(model.compute_seconds?.p50),
    p99: seconds(model.compute_seconds?.p99),
  });
  setMeter(element, "fill", model.batch_fill ?? 0);
  setMeter(element, "cache", model.cache_fill);
}

export function showModels(container, models) {
  keyed(container, models, (model) => model.name, makeModel, updateModel);
}

/** Shows [name, value] as bars, the largest of which is full. */
export function showBars(container, entries, format) {
  const largest = Math.max(...entries.map(([, value]) => value), Number.MIN_VALUE);
  const make = () =>
    h(
      "div",
      { class: "bar-row" },
      part("name", "span", { class: "name" }),
      h("div", { class: "bar" }, h("div", { class: "bar-fill" })),
      part("value", "span", { class: "number" }),
    );
  keyed(
    container,
    entries,
    ([name]) => name,
    make,
    (row, [name, value]) => {
      fill(row, { name: name.slice(name.indexOf("/") + 1), value: format(value) });
      row.querySelector(".name").title = name;
      row.querySelector(".bar-fill").style.setProperty("--share", String(value / largest));
    },
  );
}

const COLUMNS = [
  ["name", "Process"],
  ["model", "Model", "model-of"],
  ["state", "State"],
  ["cpu", "Cores", "number"],
  ["memory", "Memory", "number"],
  ["restarts", "Restarts", "number"],
  ["uptime", "Up for", "number uptime"],
  ["pid", "Process id", "number pid"],
];

export function processTable() {
  const body = h("tbody");
  const head = COLUMNS.map(([, title, kind]) => h("th", { scope: "col", class: kind }, title));
  return {
    body,
    element: h(
      "div",
      { class: "scroll" },
      h("table", { class: "processes" }, h("thead", {}, h("tr", {}, ...head)), body),
    ),
  };
}

export function showProcesses(body, processes) {
  const make = () =>
    h(
      "tr",
      {},
      ...COLUMNS.map(([name, , kind]) =>
        h("td", { class: kind }, part(name, "span", name === "state" ? { class: "chip" } : {})),
      ),
    );
  keyed(
    body,
    processes,
    (process) => process.name,
    make,
    (row, process) => {
      row.querySelector('[data-part="state"]').dataset.state = process.state;
      fill(row, {
        name: process.name,
        model: process.model,
        state: process.state,
        cpu: decimal(process.cpu_cores, 2),
        memory: bytes(process.resident_bytes) + (process.gpu_bytes ? ` + ${bytes(process.gpu_bytes)} GPU` : ""),
        restarts: decimal(process.restarts),
        uptime: age(process.uptime_seconds),
        pid: String(process.pid),
      });
    },
  );
}
