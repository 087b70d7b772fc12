/** How numbers become heights: linear, logarithmic, or logarithmic on both sides of 0. */

import { setting } from "./format.js";

const WIDE = 1e3;
const MOST_DECADES = 30;
const SMALLEST_DECADE = -300;
const MOST_TICKS = 7;

const LINEAR = { kind: "linear", note: "", height: (y) => y, axis: { type: "linear" } };

/**
 * Chooses the scale for `values`; `wanted` is "linear", "log" or "auto".
 *
 * "auto" turns to log where linear would press most of the numbers flat. Plotly's log axis drops
 * what is not positive, so where there is such a number "log" is symmetric about 0 instead.
 */
export function scaleFor(wanted, values) {
  const finite = values.filter(Number.isFinite);
  const sizes = Float64Array.from(finite.filter((y) => y !== 0), Math.abs).sort();
  if (wanted === "linear" || sizes.length === 0) return LINEAR;
  const positive = finite.every((y) => y > 0);
  const median = sizes[sizes.length >> 1];
  const largest = sizes.at(-1);
  if (wanted === "auto" && largest / (positive ? sizes[0] : median) < WIDE) return LINEAR;
  if (positive) return logarithmic(sizes[0], largest);
  const lowest = Math.max(SMALLEST_DECADE, Math.floor(Math.log10(largest)) - MOST_DECADES);
  return symmetric(Math.max(lowest, Math.floor(Math.log10(median)) - 1), largest, finite);
}

function logarithmic(smallest, largest) {
  const ticks = decades(Math.ceil(Math.log10(smallest)), Math.floor(Math.log10(largest)), 1);
  // Within two decades the ticks between powers of ten are needed, and Plotly's own are good.
  const own = ticks.length > 2 ? { tickvals: ticks, ticktext: ticks.map(powerOfTen) } : {};
  return { kind: "log", note: "", height: (y) => y, axis: { type: "log", ...own } };
}

/**
 * The height `sign(y) log10(1 + |y| / threshold)`, with a threshold of 10 to the power `lowest`:
 * linear near 0, and one unit of height for each decade far from it.
 */
function symmetric(lowest, largest, values) {
  const threshold = 10 ** lowest;
  const height = (y) => Math.sign(y) * Math.log10(1 + Math.abs(y) / threshold);
  const signs = [1, -1].filter((sign) => values.some((y) => y * sign > 0));
  // The first is the threshold itself, too near to the tick at 0.
  const sizes = decades(lowest, Math.ceil(Math.log10(largest)), signs.length).slice(1);
  const ticks = [0, ...signs.flatMap((sign) => sizes.map((size) => sign * size))];
  return {
    kind: "symlog",
    note: `log beyond ±${setting(threshold)}`,
    height,
    axis: {
      type: "linear",
      zeroline: true,
      tickvals: ticks.map(height),
      ticktext: ticks.map(powerOfTen),
    },
  };
}

/** Powers of ten from one exponent to another, as many as an axis has room for on each side. */
function decades(from, to, sides) {
  const stride = Math.max(1, Math.ceil(((to - from + 1) * sides) / MOST_TICKS));
  const exponents = [];
  for (let exponent = from; exponent <= to; exponent += stride) exponents.push(exponent);
  return exponents.map((exponent) => 10 ** exponent);
}

/** `10³` as Plotly reads it; plain where that is short. */
function powerOfTen(y) {
  const exponent = Math.round(Math.log10(Math.abs(y)));
  const plain = y === 0 || Math.abs(exponent) < 4;
  const size = plain ? Number(Math.abs(y).toPrecision(1)) : `10<sup>${exponent}</sup>`;
  return `${y < 0 ? "−" : ""}${size}`;
}
