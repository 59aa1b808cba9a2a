// What all panels of the playground have: a form, the call, its result or its error, and how to make it elsewhere.

import { h, setText } from "../dom.js";
import { decimal, durationSeconds, seconds } from "../format.js";
import { bertstreamCommand, grpcurlCommand } from "./commands.js";
import { makeField } from "./fields.js";
import { call } from "./rpc.js";

const TYPING_MS = 250; // after the last key, where a panel runs by itself
const DIMMED_AFTER_MS = 200; // a result that is replaced sooner does not flicker

/**
 * A panel is { id, title, about, fits(model), fields, rpc, request(values, model), command(values, model), show(answer,
 * result, context) }, and besides: `live` to run while somebody types, `run(context)` in place of one unary call.
 * `request` may throw an Error that says what is missing.
 */
export class Panel {
  constructor(spec, server) {
    this.spec = spec;
    this.server = server; // { address }, which may become known later
    this.model = null;
    this.fields = spec.fields.map((field) => makeField(spec.id, field));
    this.result = h("div", { class: "result fades" });
    this.status = h("span", { class: "status muted", role: "status" });
    this.error = h("div", { class: "error", role: "alert", hidden: true });
    this.button = h(
      "button",
      { type: "submit", class: "primary", "aria-keyshortcuts": "Control+Enter Meta+Enter" },
      spec.verb ?? "Run",
    );
    this.stop = h("button", { type: "button", class: "plain", click: () => this.abort?.abort() }, "Stop");
    this.stop.hidden = true;
    this.pickers = h("div", { class: "picker" });
    this.element = this.#frame();
  }

  #frame() {
    const form = h(
      "form",
      {
        class: "form card",
        submit: (event) => this.#submitted(event),
        input: () => this.#typed(),
        keydown: (event) => this.#key(event),
      },
      h("div", { class: "fields" }, ...this.fields.map((field) => field.element)),
      h(
        "div",
        { class: "actions" },
        this.button,
        this.stop,
        h("span", { class: "shortcut" }, h("kbd", {}, "Ctrl"), " ", h("kbd", {}, "Enter")),
        this.status,
      ),
    );
    const head = h(
      "div",
      { class: "view-head" },
      h("div", {}, h("h2", {}, this.spec.title), h("p", {}, this.spec.about)),
      this.pickers,
    );
    return h("section", { class: `panel panel-${this.spec.id}` }, head, form, this.error, this.result, this.#calls());
  }

  #calls() {
    const part = (title) => {
      const code = h("code");
      const copy = h(
        "button",
        { type: "button", class: "copy plain", click: () => copied(copy, code.textContent) },
        "Copy",
      );
      return {
        code,
        element: h("div", { class: "call-part" }, h("h3", {}, title), copy, h("pre", { tabindex: "0" }, code)),
      };
    };
    this.parts = {
      method: part("Method"),
      request: part("Request"),
      bertstream: part("From a terminal"),
      grpcurl: part("With grpcurl"),
    };
    this.details = h(
      "details",
      { class: "calls card", toggle: () => this.describe() },
      h("summary", {}, "Show the call"),
      ...Object.values(this.parts).map((each) => each.element),
    );
    return this.details;
  }

  get values() {
    return Object.fromEntries(this.fields.map((field) => [field.name, field.read()]));
  }

  /** Takes another model; what was computed by the one before goes. */
  use(model) {
    const same = this.model?.name === model.name && this.model?.revision === model.revision;
    this.model = model;
    this.spec.adapt?.(this, model);
    if (same) return;
    this.abort?.abort();
    this.result.replaceChildren();
    this.#fail(null);
    setText(this.status, "");
    this.describe();
  }

  /** Is called when the panel is shown. */
  shown() {
    this.describe();
    if (this.spec.live && !this.result.hasChildNodes()) this.run();
  }

  /** Sets a field, as a person would. */
  set(name, value) {
    const { control } = this.fields.find((field) => field.name === name);
    control.value = value;
    this.describe();
  }

  #typed() {
    this.describe();
    if (!this.spec.live) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.run(), TYPING_MS);
  }

  #key(event) {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    this.run();
  }

  #submitted(event) {
    event.preventDefault();
    this.run();
  }

  /** Makes the call and shows what comes of it. One that is under way is given up. */
  async run() {
    this.abort?.abort();
    clearTimeout(this.timer);
    const abort = new AbortController();
    this.abort = abort;
    this.element.setAttribute("aria-busy", "true");
    const dim = setTimeout(() => this.result.classList.add("is-stale"), DIMMED_AFTER_MS);
    this.stop.hidden = !this.spec.run;
    const started = performance.now();
    try {
      const message = this.spec.request(this.values, this.model);
      const context = { panel: this, message, values: this.values, model: this.model, signal: abort.signal };
      const answer = await (this.spec.run ?? oneCall)(context);
      if (this.abort !== abort) return;
      this.#fail(null);
      setText(this.status, summary(answer, (performance.now() - started) / 1000));
    } catch (error) {
      if (this.abort !== abort) return;
      if (error.name === "AbortError") setText(this.status, "Stopped");
      else this.#fail(error);
    } finally {
      clearTimeout(dim);
      if (this.abort === abort) {
        this.result.classList.remove("is-stale");
        this.stop.hidden = true;
        this.element.setAttribute("aria-busy", "false");
      }
    }
  }

  #fail(error) {
    this.error.hidden = error === null;
    if (error === null) return;
    setText(this.status, "");
    this.result.replaceChildren();
    const names = [error.code, error.reason].filter(Boolean).join(" · ");
    const id = error.requestId ? h("p", { class: "hint" }, `Request ${error.requestId}`) : null;
    this.error.replaceChildren(names ? h("strong", {}, names) : "", h("p", {}, error.message), id ?? "");
  }

  /** Writes the call as it would be made now. */
  describe() {
    if (!this.model || !this.details.open) return;
    const { rpc } = this.spec;
    let message;
    try {
      message = this.spec.request(this.values, this.model);
    } catch {
      return; // something is missing still
    }
    const [words, texts] = this.spec.command(this.values, this.model);
    const { address } = this.server;
    setText(this.parts.method.code, `bertstream.v1.${rpc}`);
    setText(this.parts.request.code, JSON.stringify(message, null, 2));
    setText(this.parts.bertstream.code, bertstreamCommand(address, words, texts));
    setText(this.parts.grpcurl.code, grpcurlCommand(address, rpc, message));
  }
}

async function oneCall({ panel, message, values, model, signal }) {
  const { spec, result } = panel;
  const answer = await call(spec.rpc, message, signal);
  if (!signal.aborted) result.replaceChildren(...[spec.show(answer, { values, model, panel })].flat());
  return answer;
}

/** Returns what a call cost, by its answer. */
function summary(answer, elapsed) {
  const usage = answer?.usage ?? {};
  const tokens = Number(usage.tokens ?? usage.generatedTokens ?? 0);
  const compute = durationSeconds(answer?.timings?.compute);
  const cut = Number(usage.truncatedTexts ?? usage.truncatedInputs ?? 0);
  return [
    tokens && `${decimal(tokens)} tokens`,
    compute && `${seconds(compute)} of computing`,
    `${seconds(elapsed)} in all`,
    cut && "the text was cut to the most tokens that fit here",
  ]
    .filter(Boolean)
    .join(" · ");
}

async function copied(button, text) {
  try {
    await navigator.clipboard.writeText(text);
    setText(button, "Copied");
  } catch {
    setText(button, "Select it");
  }
  setTimeout(() => setText(button, "Copy"), 1500);
}
