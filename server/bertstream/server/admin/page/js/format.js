// Numbers as people read them.

const plain = [0, 1, 2, 3].map(
  (digits) =>
    new Intl.NumberFormat("en", {
      minimumFractionDigits: digits,
      maximumFractionDigits: digits,
      signDisplay: "negative",
    }),
);

/** Returns a number with so many digits behind the point, "–" where there is none. */
export function decimal(value, digits = 0) {
  return value === null || value === undefined || Number.isNaN(value) ? "–" : plain[digits].format(value);
}

/** Returns a count or a rate: about three digits that matter. */
export function amount(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value >= 1e7) return `${decimal(value / 1e6, value < 1e8 ? 1 : 0)}M`;
  if (value >= 1e5) return `${decimal(value / 1e3)}k`;
  return decimal(value, value >= 100 || Number.isInteger(value) ? 0 : 1);
}

/** Returns a time in the unit that fits. */
export function seconds(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value === 0) return "0 ms";
  if (value < 1e-3) return `${decimal(value * 1e6)} µs`;
  if (value < 1) return `${decimal(value * 1e3, value < 0.1 ? 1 : 0)} ms`;
  return value < 60 ? `${decimal(value, 2)} s` : age(value);
}

/** Returns how long something has been there. */
export function age(value) {
  const minutes = Math.floor(value / 60);
  if (minutes < 1) return `${Math.floor(value)} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 1) return `${minutes} min`;
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** Returns a size of memory. */
export function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = value < 1024 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(value) / 10));
  const scaled = value / 2 ** (10 * power);
  return `${decimal(scaled, power && scaled < 10 ? 1 : 0)} ${units[power]}`;
}

/** Returns a share as a percentage. */
export function percent(value, digits = 0) {
  return value === null || value === undefined ? "–" : `${decimal(value * 100, digits)}%`;
}

/** Returns seconds of a google.protobuf.Duration in JSON, such as "0.0031s". */
export function durationSeconds(text) {
  return text ? Number.parseFloat(text) : 0;
}
