/** Numbers, times and findings as people read them. */

const GROUPED = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const CLOCK = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const DATED = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

export const ABSENT = "–";

/** Four significant digits; "NaN", "Inf" and an en dash for what was not measured. */
export function number(x) {
  if (x === null || x === undefined) return ABSENT;
  if (Number.isNaN(x)) return "NaN";
  if (!Number.isFinite(x)) return x > 0 ? "Inf" : "−Inf";
  const size = Math.abs(x);
  if (x === 0) return "0";
  if (size >= 1e6 || size < 1e-3) return minus(x.toExponential(3).replace("e+", "e"));
  return minus(size >= 1e4 ? GROUPED.format(x) : x.toPrecision(4));
}

/** A number that someone chose: without the zeros that precision adds. */
export const setting = (x) =>
  Number.isFinite(x) && x !== 0 && Math.abs(x) >= 1e-3 && Math.abs(x) < 1e6
    ? minus(String(Number(x.toPrecision(4))))
    : number(x).replace(/\.?0+e/, "e");

export const count = (x) => (x === null ? ABSENT : minus(GROUPED.format(x)));

export const plural = (n, noun) => `${count(n)} ${noun}${n === 1 ? "" : "s"}`;

/** A ratio in 0..1 as a percentage. */
export function percent(ratio) {
  if (!Number.isFinite(ratio)) return number(ratio);
  if (ratio > 0 && ratio < 0.0005) return "< 0.1%";
  return `${(100 * ratio).toFixed(ratio < 0.0995 ? 1 : 0)}%`;
}

/** Local time of day of Unix seconds, with the date when that is not today. */
export function clock(seconds) {
  const date = new Date(1000 * seconds);
  const today = date.toDateString() === new Date().toDateString();
  return (today ? CLOCK : DATED).format(date);
}

/** A length of time in its two largest units. */
export function span(seconds) {
  const s = Math.max(0, seconds);
  if (s < 60) return `${Math.floor(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

/** How long ago, in one unit. */
export function ago(seconds) {
  const s = Date.now() / 1000 - seconds;
  if (s < 2) return "now";
  const [size, unit] = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]].find(([n]) => s >= n);
  return `${Math.floor(s / size)} ${unit} ago`;
}

/** Speed from the seconds between steps: the way round that gives a number above one. */
export function speed(interval) {
  if (!(interval > 0)) return ABSENT;
  return interval > 1
    ? `${interval.toPrecision(3)} s/step`
    : `${interval > 1e-3 ? (1 / interval).toPrecision(3) : count(1 / interval)} steps/s`;
}

/** The short form of a finding's nature: "gradient NaN". */
export const finding = ({ stage, kind }) => `${stage} ${kind === "nan" ? "NaN" : "Inf"}`;

/** Rank numbers with runs of neighbours joined: "0–7, 9". */
export function ranges(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const parts = [];
  for (const n of sorted) {
    const last = parts.at(-1);
    if (last && n === last[1] + 1) last[1] = n;
    else parts.push([n, n]);
  }
  return parts.map(([a, b]) => (a === b ? `${a}` : `${a}–${b}`)).join(", ");
}

/** At most `limit` characters, the middle cut out: names that differ do so at their ends. */
export function shorten(text, limit) {
  const characters = [...text];
  if (characters.length <= limit) return text;
  const tail = Math.floor((limit - 1) / 3);
  return `${characters.slice(0, limit - 1 - tail).join("")}…${characters.slice(-tail).join("")}`;
}

/** Text for Plotly, which reads a subset of HTML in every label. */
export const escapeMarkup = (text) =>
  text.replace(/[&<>]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[c]);

const minus = (text) => text.replaceAll("-", "−");
