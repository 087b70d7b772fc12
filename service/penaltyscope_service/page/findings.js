/** The non-finite findings of one rank, step by step: what the charts mark, as text. */

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

/** Draws the first steps with findings; hidden while there are none. */
export function drawFindings(series) {
  const steps = byStep(findingsOf(series));
  byId("findings").hidden = steps.length === 0;
  const shown = steps.slice(0, ROWS);
  const total = plural(series.nonfinite_steps, "non-finite evaluation");
  const part = shown.length < steps.length ? `; the first ${plural(shown.length, "step")}` : "";
  setText(byId("findings-title"), `${total} on rank ${series.rank}${part}`);
  reconcile(byId("finding-rows"), shown, ({ step }) => step, create, (row, { findings }) => {
    row.lastElementChild.replaceChildren(...findings.map(chip));
  });
}

const create = ({ step }) =>
  element("tr", "", element("td", "", count(step)), element("td", "name"));

const chip = (item) => element("span", "chip", name(item.term), ` ${finding(item)}`);
