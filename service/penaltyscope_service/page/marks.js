/** Non-finite steps on a chart: a red line and a marker each, the first of them named. */

import { byStep } from "./findings.js";
import { count, escapeMarkup, finding, shorten } from "./format.js";

const NAMED_PER_STEP = 4;
const FEW = 20;

/** Two traces on the chart's second y axis (0..1): one path for all lines, one marker per step. */
export function markTraces(findings, red) {
  const steps = byStep(findings);
  const lines = {
    // One path, not a shape per step: where lines touch they merge into a band of even colour.
    x: steps.flatMap(({ step }) => [step, step, null]),
    y: steps.flatMap(() => [0, 1, null]),
    mode: "lines",
    // Where there are many they are thinned out: wider, so that what is a stretch looks like one.
    line: { color: red, width: steps.length <= FEW ? 1.5 : 3 },
    opacity: steps.length <= FEW ? 0.6 : 0.3,
    hoverinfo: "skip",
  };
  const markers = {
    x: steps.map(({ step }) => step),
    y: steps.map(() => 1),
    text: steps.map(({ findings: list }) => describe(list)),
    mode: "markers",
    marker: { color: red, symbol: "triangle-down", size: 8 },
    cliponaxis: false,
    hovertemplate: "%{text}<extra></extra>",
    hoverlabel: { font: { color: red } },
  };
  const shared = { name: "non-finite", yaxis: "y2" };
  return [lines, markers].map((trace) => ({ ...trace, ...shared }));
}

/** The label of the first marked step, kept inside the chart's width. */
export function firstAnnotation(findings, [from, to], red) {
  const [first] = byStep(findings);
  if (!first || first.step < from || first.step > to) return [];
  const [earliest] = first.findings;
  const text = `${count(first.step)}: ${shorten(earliest.term, 24)} ${finding(earliest)}`;
  return [
    {
      x: first.step,
      y: 1,
      yref: "paper",
      yanchor: "bottom",
      yshift: 4,
      xanchor: ["left", "center", "right"][Math.floor((2.999 * (first.step - from)) / (to - from))],
      text: escapeMarkup(text),
      showarrow: false,
      font: { color: red, size: 12 },
    },
  ];
}

function describe(findings) {
  const named = findings
    .slice(0, NAMED_PER_STEP)
    .map((item) => escapeMarkup(`${shorten(item.term, 24)} ${finding(item)}`));
  const more = findings.length - named.length;
  return named.join("<br>") + (more > 0 ? `<br>and ${more} more` : "");
}
