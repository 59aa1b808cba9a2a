// Tabs with panels: by mouse, by arrows, and by digits from anywhere outside a field.

import { h, roving } from "./dom.js";

const FIELDS = "input, textarea, select, [contenteditable]";

export class Tabs {
  /** `onSelect(id)` is called when a tab is chosen, by whatever means. */
  constructor(list, onSelect) {
    this.list = list;
    this.onSelect = onSelect;
    this.panels = new Map();
    this.selected = null;
    roving(list, '[role="tab"]:not([hidden])');
    // Focus and selection go together, as the panels are there already.
    list.addEventListener("focusin", (event) => this.select(event.target.closest('[role="tab"]').dataset.id));
    list.addEventListener("click", (event) => {
      const tab = event.target.closest('[role="tab"]');
      if (tab) this.select(tab.dataset.id);
    });
    document.addEventListener("keydown", (event) => this.#digit(event));
    const narrow = matchMedia("(max-width: 820px)");
    const turn = () => list.setAttribute("aria-orientation", narrow.matches ? "horizontal" : "vertical");
    narrow.addEventListener("change", turn);
    turn();
  }

  /** Adds a heading between tabs, for eyes alone. */
  addGroup(title) {
    this.list.append(h("span", { class: "tab-group", "aria-hidden": "true" }, title));
  }

  add(id, title, panel) {
    panel.id = `panel-${id}`;
    panel.setAttribute("role", "tabpanel");
    panel.setAttribute("aria-labelledby", `tab-${id}`);
    panel.hidden = true;
    this.panels.set(id, panel);
    this.list.append(
      h(
        "button",
        {
          type: "button",
          role: "tab",
          id: `tab-${id}`,
          "data-id": id,
          "aria-controls": panel.id,
          "aria-selected": "false",
          tabindex: -1,
        },
        title,
      ),
    );
  }

  #tabs() {
    return [...this.list.querySelectorAll('[role="tab"]:not([hidden])')];
  }

  /** Shows these tabs alone. One that is chosen and not among them gives way to the first. */
  show(ids) {
    for (const tab of this.list.querySelectorAll('[role="tab"]')) tab.hidden = !ids.includes(tab.dataset.id);
    if (!ids.includes(this.selected)) this.select(ids[0]);
  }

  select(id) {
    const chosen = this.list.querySelector(`[data-id="${CSS.escape(id)}"]`);
    if (!chosen || chosen.hidden || id === this.selected) return;
    this.selected = id;
    for (const tab of this.list.querySelectorAll('[role="tab"]')) {
      tab.setAttribute("aria-selected", String(tab === chosen));
      tab.tabIndex = tab === chosen ? 0 : -1;
    }
    for (const [each, panel] of this.panels) panel.hidden = each !== id;
    this.#bringIntoView(chosen);
    this.onSelect(id);
  }

  /** Scrolls tabs that stand side by side. (scrollIntoView also moves the place from which Tab goes on.) */
  #bringIntoView(tab) {
    const hidden =
      tab.offsetLeft < this.list.scrollLeft ||
      tab.offsetLeft + tab.offsetWidth > this.list.scrollLeft + this.list.clientWidth;
    if (hidden) this.list.scrollLeft = tab.offsetLeft - (this.list.clientWidth - tab.offsetWidth) / 2;
  }

  #digit(event) {
    if (!/^[1-9]$/.test(event.key) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest?.(FIELDS) || document.querySelector("dialog[open]")) return;
    const tab = this.#tabs()[Number(event.key) - 1];
    if (!tab) return;
    event.preventDefault();
    this.select(tab.dataset.id);
    tab.focus();
  }
}
