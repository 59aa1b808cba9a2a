// Curves of the last ten minutes, as SVG: colours follow the appearance, and a new width needs no drawing.

import { h, s, setText } from "../dom.js";
import { WINDOW_SECONDS } from "./history.js";

const WIDTH = WINDOW_SECONDS; // a unit a second
const HEIGHT = 100;
const HEADROOM = 1.05; // for the number at the top

/** Returns the least round number that is not below a value, so that a scale seldom changes; round in this base. */
export function roundTop(value, base = 10) {
  if (!(value > 0)) return 1;
  const power = base ** Math.floor(Math.log(value) / Math.log(base) + 1e-9);
  const steps =
    base === 10
      ? [1, 1.5, 2, 3, 4, 5, 6, 8, 10]
      : [1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024];
  return steps.map((step) => step * power).find((step) => step >= value * 0.9999);
}

/** Returns the path of a curve, [seconds before now, value] a point, broken at gaps. */
export function curve(points, top) {
  let path = "";
  let pen = "M";
  for (const [before, value] of points) {
    if (Number.isNaN(value)) pen = "M";
    else {
      path += `${pen}${x(before)} ${y(value, top)}`;
      pen = "L";
    }
  }
  return path;
}

/** Returns the path of the area below a curve. */
export function area(points, top) {
  const runs = [[]];
  for (const point of points) {
    if (Number.isNaN(point[1])) runs.push([]);
    else runs.at(-1).push(point);
  }
  return runs
    .filter((run) => run.length > 1)
    .map((run) => `${curve(run, top)}L${x(run.at(-1)[0])} ${HEIGHT}L${x(run[0][0])} ${HEIGHT}Z`)
    .join("");
}

const x = (before) => round(WIDTH - before);
const y = (value, top) => round(HEIGHT * (1 - Math.min(value / top, 1)));
const round = (value) => Math.round(value * 10) / 10;

/** The drawing alone: curves of a history's series on one scale. */
export class Plot {
  /** `series` are { name, label, filled }; `format(value)` writes a number; `top` fixes the scale, else it is round in `base`. */
  constructor(series, { format = null, top = null, base = 10, crossed = false } = {}) {
    this.series = series;
    this.format = format;
    this.topOf = top ? () => top : (largest) => roundTop(largest * HEADROOM, base);
    this.curves = series.map((each, place) => ({
      ...each,
      line: s("path", { class: `curve series-${place + 1}` }),
      fill: each.filled ? s("path", { class: `area series-${place + 1}` }) : null,
    }));
    this.topLabel = format ? h("span", { class: "top" }) : null;
    this.svg = s(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
      ...(format ? [0, 50, 100].map((at) => s("path", { class: "grid", d: `M0 ${at}H${WIDTH}` })) : []),
      ...this.curves.map((each) => each.fill),
      ...this.curves.map((each) => each.line),
    );
    this.element = h("div", { class: "plot" }, this.svg, this.topLabel);
    if (crossed) this.#cross();
  }

  draw(history) {
    const all = this.series.map(({ name }) => history.series(name));
    const largest = Math.max(0, ...all.flat().map(([, value]) => value || 0));
    const top = this.topOf(largest);
    this.curves.forEach(({ line, fill }, place) => {
      line.setAttribute("d", curve(all[place], top));
      fill?.setAttribute("d", area(all[place], top));
    });
    if (this.topLabel) setText(this.topLabel, this.format(top));
    this.drawn = all;
    this.onDraw?.();
  }

  /** Shows the numbers at the time under the pointer, by `onPoint(before, values)`, and (null) where there is none. */
  #cross() {
    const line = s("path", { class: "cross" });
    this.svg.append(line);
    let place = null;
    const show = () => {
      line.setAttribute("d", place === null ? "" : `M${x(place)} 0V${HEIGHT}`);
      this.onPoint?.(place, place === null ? null : this.#at(place));
    };
    this.element.addEventListener("pointermove", (event) => {
      const box = this.svg.getBoundingClientRect();
      place = Math.max(0, Math.min(1, 1 - (event.clientX - box.left) / box.width)) * WINDOW_SECONDS;
      show();
    });
    this.element.addEventListener("pointerleave", () => {
      place = null;
      show();
    });
    this.onDraw = () => place !== null && show();
  }

  #at(before) {
    return (this.drawn ?? []).map((points) => {
      const near = points.filter(([at]) => Math.abs(at - before) < 3);
      near.sort((one, other) => Math.abs(one[0] - before) - Math.abs(other[0] - before));
      return near[0]?.[1] ?? Number.NaN;
    });
  }
}

/** A card with a title, a legend that has the newest numbers, and a plot. */
export class Chart {
  constructor(title, series, options) {
    this.plot = new Plot(series, { ...options, crossed: true });
    this.numbers = series.map(() => h("b", {}, "–"));
    const legend = series.map((each, place) =>
      h("li", { class: `series-${place + 1}` }, each.label, this.numbers[place]),
    );
    this.when = h("span", {}, "now");
    this.element = h(
      "figure",
      { class: "card chart", role: "group", "aria-label": title },
      h("header", {}, h("h3", {}, title), h("ul", { class: "legend" }, ...legend)),
      this.plot.element,
      h("div", { class: "axis" }, h("span", {}, "10 min ago"), this.when),
    );
    this.plot.onPoint = (before, values) => {
      this.point = values;
      setText(this.when, before === null ? "now" : ago(before));
      this.#write();
    };
  }

  update(history, values) {
    this.newest = this.plot.series.map(({ name }) => values[name] ?? Number.NaN);
    this.plot.draw(history);
    this.#write();
  }

  #write() {
    (this.point ?? this.newest ?? []).forEach((value, place) => setText(this.numbers[place], this.plot.format(value)));
  }
}

function ago(before) {
  const whole = Math.round(before);
  return whole < 60 ? `${whole} s ago` : `${Math.floor(whole / 60)} min ${whole % 60} s ago`;
}
