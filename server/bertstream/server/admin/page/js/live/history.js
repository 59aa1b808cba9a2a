// The last ten minutes of some numbers, in a ring.

export const WINDOW_SECONDS = 600;
const GAP_SECONDS = 3; // a longer pause between two events is shown as one

export class History {
  #names;
  #times;
  #columns;
  #next = 0;
  #count = 0;

  /** `names` are those of the series. */
  constructor(names, capacity = WINDOW_SECONDS + 1) {
    this.#names = names;
    this.#times = new Float64Array(capacity);
    this.#columns = new Map(names.map((name) => [name, new Float64Array(capacity)]));
  }

  /** The time of the newest numbers, in seconds; 0 where there are none. */
  get latest() {
    return this.#count ? this.#times[(this.#next + this.#times.length - 1) % this.#times.length] : 0;
  }

  /** Adds the numbers of one time; those that are missing or null are gaps. */
  push(time, values) {
    if (this.#count && time - this.latest > GAP_SECONDS) this.#append(this.latest + 1, {});
    if (!this.#count || time > this.latest) this.#append(time, values);
  }

  #append(time, values) {
    this.#times[this.#next] = time;
    for (const name of this.#names) this.#columns.get(name)[this.#next] = values[name] ?? Number.NaN;
    this.#next = (this.#next + 1) % this.#times.length;
    this.#count = Math.min(this.#count + 1, this.#times.length);
  }

  /** Returns [seconds before the newest, value] of one series, the oldest first; gaps are NaN. */
  series(name) {
    const column = this.#columns.get(name);
    const length = this.#times.length;
    const points = [];
    for (let i = 0; i < this.#count; i += 1) {
      const place = (this.#next - this.#count + i + length) % length;
      const before = this.latest - this.#times[place];
      if (before <= WINDOW_SECONDS) points.push([before, column[place]]);
    }
    return points;
  }
}
