/** The table of terms: the last numbers of each, and how often it was non-finite at which stage. */

import { byId, element, name, reconcile, setText } from "./dom.js";
import { ABSENT, count, number, percent, setting } from "./format.js";

const STAGES = ["input", "value", "gradient"];
const LABELS = [
  "Value", "Weight", "Contribution", "Gradient norm", "Share of gradient",
  "Bad input", "Bad value", "Bad gradient", "Last bad step",
];

/**
 * Draws the terms of one pipeline and its sums.
 *
 * `colors` gives each term its colour; `first` is the run's first finding, or null.
 */
export function drawTerms(pipeline, colors, first) {
  const culprit = first?.pipeline === pipeline.pipeline ? first.term : null;
  reconcile(byId("term-rows"), pipeline.terms, (term) => term.term, createTerm, (row, term) => {
    row.style.setProperty("--term", colors.get(term.term) ?? "transparent");
    row.classList.toggle("first", term.term === culprit);
    fill(row, termCells(term));
  });
  drawSums(pipeline);
  const { ranks } = pipeline;
  const whose = ranks.length > 1 ? ` of rank ${Math.min(...ranks)}; counts of all ranks` : "";
  setText(byId("terms-note"), `at step ${count(pipeline.last_step)}${whose}`);
}

function drawSums({ base, total, loss, total_gradient_norm: norm }) {
  fill(byId("total-row"), [plain(total), plain(norm)]);
  const sum = `base ${number(base)} + penalty ${number(total)} = loss ${number(loss)}`;
  setText(byId("loss-sum"), base === null ? "" : sum);
}

function termCells(term) {
  return [
    plain(term.value),
    { text: setting(term.weight) },
    plain(term.contribution),
    plain(term.gradient_norm),
    { text: percent(term.gradient_share), share: term.gradient_share },
    ...STAGES.map((stage) => found(term.nonfinite[stage])),
    { text: count(term.last_nonfinite_step), bad: term.last_nonfinite_step !== null },
  ];
}

const plain = (x) => ({ text: number(x), bad: typeof x === "number" && !Number.isFinite(x) });

function found({ nan, inf }) {
  const parts = [];
  // Breaks between the two kinds only, where the column is narrow.
  if (nan) parts.push(`${count(nan)}\u00a0NaN`);
  if (inf) parts.push(`${count(inf)}\u00a0Inf`);
  return { text: parts.join(", ") || "0", bad: parts.length > 0 };
}

function createTerm(term) {
  const header = element("th", "name", element("span", "swatch"), name(term.term));
  header.title = term.term;
  header.scope = "row";
  header.setAttribute("role", "rowheader");
  const cells = LABELS.map((label) => {
    const cell = element("td", "", element("span"));
    cell.dataset.label = label;
    cell.setAttribute("role", "cell");
    return cell;
  });
  const row = element("tr", "", header, ...cells);
  row.setAttribute("role", "row");
  return row;
}

function fill(row, cells) {
  const places = row.querySelectorAll("td[data-label]");
  cells.forEach(({ text, bad = false, share }, index) => {
    const cell = places[index];
    setText(cell.firstElementChild, text);
    cell.classList.toggle("bad", bad);
    cell.classList.toggle("none", text === "0" || text === ABSENT);
    if (share === undefined) return;
    cell.classList.add("share");
    cell.style.setProperty("--share", Number.isFinite(share) ? Math.min(1, Math.max(0, share)) : 0);
  });
}
