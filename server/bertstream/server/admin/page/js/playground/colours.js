// The colours of heat maps, as the style sheet has them for the present appearance.

const probe = document.createElement("span");
probe.hidden = true;

function colour(name) {
  if (!probe.isConnected) document.body.append(probe);
  probe.style.color = `var(--${name})`;
  const [red, green, blue] = getComputedStyle(probe)
    .color.match(/[\d.]+/g)
    .map(Number);
  return [red, green, blue];
}

const mix = (one, other, share) => one.map((value, i) => value + (other[i] - value) * share);

/** Returns a function from 0 (nothing) to 1 (much) to [red, green, blue]. */
export function sequential() {
  const [none, some, much] = ["heat-0", "heat-1", "heat-2"].map(colour);
  return (share) => (share < 0.5 ? mix(none, some, share * 2) : mix(some, much, share * 2 - 1));
}

/** Returns a function from -1 to 1 to [red, green, blue]. */
export function diverging() {
  const [negative, none, positive] = ["negative", "heat-0", "positive"].map(colour);
  return (share) => mix(none, share < 0 ? negative : positive, Math.abs(share));
}

/** Draws a matrix into a canvas, a pixel a number. `share(row, column)` is what the palette takes. */
export function paint(canvas, rows, columns, share, palette) {
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      image.data.set([...palette(share(row, column)), 255], 4 * (row * columns + column));
    }
  }
  context.putImageData(image, 0, 0);
}

/** Calls `draw` now, and again when light becomes dark, for as long as the element is part of the page. */
export function drawn(element, draw) {
  draw();
  const again = () => {
    if (element.isConnected) draw();
    else document.removeEventListener("appearance", again);
  };
  document.addEventListener("appearance", again);
}
