// A matrix with names at its sides, as a picture that tells what is under the pointer.

import { h, setText } from "../dom.js";
import { drawn, paint, sequential } from "./colours.js";

const IDLE = "Point at a cell.";

/**
 * `rows` and `columns` are names (columns may be a number: then they have none); `share(row, column)` is what the palette
 * takes, and `tell(row, column)` a sentence on the number there. `cell` is [width, height] in pixels.
 */
export function heatMap({ title, rows, columns, share, tell, palette = sequential, cell = [18, 18], onPoint = null }) {
  const width = Array.isArray(columns) ? columns.length : columns;
  const canvas = h("canvas", { class: "pixels", role: "img", "aria-label": title });
  const readout = h("p", { class: "readout", "aria-live": "off" }, IDLE);
  const across = h("div", { class: "cross across", hidden: true });
  const down = h("div", { class: "cross down", hidden: true });
  const names = Array.isArray(columns)
    ? h(
        "div",
        { class: `column-names${columns.every((name) => name.length < 3) ? " upright" : ""}`, "aria-hidden": "true" },
        ...columns.map((name) => h("span", { title: name }, h("span", {}, name))),
      )
    : null;
  const field = h("div", { class: "pixel-field" }, canvas, across, down);
  const element = h(
    "figure",
    {
      class: "heat",
      "--columns": String(width),
      "--rows": String(rows.length),
      "--cell-width": `${cell[0]}px`,
      "--cell-height": `${cell[1]}px`,
    },
    h(
      "div",
      { class: "scroll" },
      h(
        "div",
        { class: "heat-grid" },
        names,
        h(
          "div",
          { class: "row-names", "aria-hidden": "true" },
          ...rows.map((name) => h("span", { title: name }, name)),
        ),
        field,
      ),
    ),
    readout,
  );
  drawn(element, () => paint(canvas, rows.length, width, share, palette()));

  const point = (row, column) => {
    const there = row !== null;
    across.hidden = down.hidden = !there;
    if (there) {
      across.style.setProperty("--at", String(row));
      down.style.setProperty("--at", String(column));
    }
    setText(readout, there ? tell(row, column) : IDLE);
    onPoint?.(row, column);
  };
  field.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const row = Math.floor(((event.clientY - box.top) / box.height) * rows.length);
    const column = Math.floor(((event.clientX - box.left) / box.width) * width);
    if (row >= 0 && row < rows.length && column >= 0 && column < width) point(row, column);
  });
  field.addEventListener("pointerleave", () => point(null, null));
  return element;
}
