/** What was found to be non-finite on one rank, and in which order: the charts' marks as text. */

import { byId, element, name, reconcile, setText } from "./dom.js";
import { count, finding, plural } from "./format.js";

const ROWS = 50;
const STAGES = ["input", "value", "gradient"];
const STAGE_OF = { value: "value", gradient_norm: "gradient" };

/**
 * Every finding of a series that a chart can show.
 *
 * The service lists a limited number; past those, the numbers of the lines say it themselves: they
 * are thinned out so that every stretch of steps with a NaN or an infinity keeps one.
 */
export function findingsOf({ nonfinite, series }) {
  const listed = nonfinite.at(-1)?.step ?? Infinity;
  const rest = series
    .filter(({ term, quantity }) => quantity in STAGE_OF && term !== "total")
    .flatMap(({ term, quantity, step, value }) =>
      value
        .map((x, i) => ({ step: step[i], term, stage: STAGE_OF[quantity], kind: kindOf(x) }))
        .filter((item) => item.kind !== null && item.step > listed),
    );
  return [...nonfinite, ...rest];
}

function kindOf(x) {
  if (Number.isFinite(x)) return null;
  return Number.isNaN(x) ? "nan" : "inf";
}

/** Groups findings by step, each step's in causal order: `[{step, findings}]`, earliest first. */
export function byStep(findings) {
  const steps = new Map();
  for (const item of findings) {
    if (!steps.has(item.step)) steps.set(item.step, []);
    steps.get(item.step).push(item);
  }
  return [...steps]
    .sort(([a], [b]) => a - b)
    .map(([step, list]) => ({
      step,
      findings: list.sort((a, b) => STAGES.indexOf(a.stage) - STAGES.indexOf(b.stage)),
    }));
}

/** Draws what became non-finite, each only when it first did; hidden while nothing has. */
export function drawFindings(series) {
  const steps = byStep(onlyNew(findingsOf(series)));
  const often = plural(series.nonfinite_steps, "evaluation");
  byId("findings").hidden = steps.length === 0;
  setText(byId("findings-note"), `${often} non-finite on rank ${series.rank}`);
  reconcile(byId("finding-rows"), steps.slice(0, ROWS), ({ step }) => step, create, update);
}

const keyOf = (item) => JSON.stringify([item.term, finding(item)]);

function onlyNew(findings) {
  const seen = new Set();
  return findings.filter((item) => !seen.has(keyOf(item)) && seen.add(keyOf(item)));
}

const create = ({ step }) =>
  element("tr", "", element("td", "", count(step)), element("td", "name"));

function update(row, { findings }) {
  reconcile(row.lastElementChild, findings, keyOf, createChip, () => {});
}

function createChip(item) {
  const chip = element("span", "chip", name(item.term), ` ${finding(item)}`);
  chip.title = item.term;
  return chip;
}
