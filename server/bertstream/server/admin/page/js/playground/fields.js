// The fields of a panel's form.

import { h } from "../dom.js";

/**
 * Makes a labelled field. `field` has name, label, kind ("text", "area", "lines", "number", "select" or "check"), value,
 * and for some kinds rows, min, max, step, options, hint.
 */
export function makeField(panel, field) {
  const id = `${panel}-${field.name}`;
  const control = CONTROLS[field.kind](id, field);
  const hint = field.hint ? h("span", { class: "hint", id: `${id}-hint` }, field.hint) : null;
  if (hint) control.setAttribute("aria-describedby", hint.id);
  const label = h("label", { for: id }, field.label);
  const parts = field.kind === "check" ? [control, label] : [label, control];
  const element = h("div", { class: `field field-${field.kind}`, "data-field": field.name }, ...parts, hint);
  return { ...field, element, control, read: () => READERS[field.kind](control) };
}

const text = (id, { value = "", rows }) => h("textarea", { id, rows, spellcheck: "false", autocomplete: "off" }, value);

const CONTROLS = {
  text: (id, field) => text(id, { rows: 1, ...field }),
  area: (id, field) => text(id, { rows: 4, ...field }),
  lines: (id, field) => text(id, { rows: 4, ...field, value: field.value.join("\n") }),
  number: (id, { value, min, max, step }) =>
    h("input", { id, type: "number", value, min, max, step: step ?? 1, inputmode: "decimal" }),
  select: (id, { options, value }) =>
    h("select", { id }, ...options.map(([key, title]) => h("option", { value: key, selected: key === value }, title))),
  check: (id, { value }) => h("input", { id, type: "checkbox", checked: value }),
};

const READERS = {
  text: (control) => control.value,
  area: (control) => control.value,
  lines: (control) => control.value.split("\n").filter((line) => line.trim() !== ""),
  number: (control) => (control.value === "" ? null : Number(control.value)),
  select: (control) => control.value,
  check: (control) => control.checked,
};
