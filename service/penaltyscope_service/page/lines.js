/** Which lines each chart has, in which colour, and the legend that all charts share. */

import { byId, element, name, reconcile } from "./dom.js";

const HUES = 8;
const DASHES = ["solid", "dash", "dot", "dashdot"];

/** The charts, most telling first; `sum` is the pseudo-term drawn beside the terms. */
export const CHARTS = [
  { id: "value", title: "Value", note: "unweighted" },
  { id: "gradient_norm", title: "Gradient norm", note: "unweighted; total weighted", sum: true },
  { id: "contribution", title: "Contribution", note: "weight × value" },
  { id: "loss", title: "Loss", note: "task loss and total penalty" },
];

/** A key that no name from outside can be: terms may be called anything. */
const BASE = Symbol("base");
const TOTAL = Symbol("total");

/** Every line's label and look, by key: terms in order, then task loss and total penalty. */
export function looks(terms) {
  const style = getComputedStyle(document.documentElement);
  const color = (variable) => style.getPropertyValue(variable).trim();
  const all = new Map(
    terms.map((term, index) => [
      term,
      {
        label: term,
        color: color(`--line-${index % HUES}`),
        dash: DASHES[Math.floor(index / HUES) % DASHES.length],
      },
    ]),
  );
  all.set(BASE, { label: "base (task loss)", color: color("--text"), dash: "solid" });
  all.set(TOTAL, { label: "total penalty", color: color("--muted"), dash: "dash" });
  return all;
}

/** The lines of one chart: `[{key, step, value}]`. */
export function linesOf(chart, series, terms) {
  const line = (key, found) => ({ key, step: found?.step ?? [], value: found?.value ?? [] });
  // A term of that name hides the pseudo-term: what is there is the term's, not the pipeline's.
  const sum = (term, quantity) =>
    terms.includes(term) ? null : series.find((s) => s.term === term && s.quantity === quantity);
  if (chart.id === "loss") {
    return [line(BASE, sum("base", "value")), line(TOTAL, sum("total", "value"))];
  }
  const lines = terms.map((term) =>
    line(term, series.find((s) => s.term === term && s.quantity === chart.id)),
  );
  return chart.sum ? [...lines, line(TOTAL, sum("total", chart.id))] : lines;
}

/** Draws the legend: one toggle per line; `hidden` is the set of keys switched off. */
export function drawLegend(all, hidden, change) {
  reconcile(byId("legend"), [...all], ([key]) => key, create, (button, [key, look]) => {
    button.style.setProperty("--term", look.color);
    button.dataset.dash = look.dash;
    button.setAttribute("aria-pressed", String(!hidden.has(key)));
    button.onclick = () => {
      if (!hidden.delete(key)) hidden.add(key);
      change();
    };
    button.ondblclick = () => {
      const alone = [...all.keys()].every((other) => (other === key) !== hidden.has(other));
      hidden.clear();
      if (!alone) for (const other of all.keys()) if (other !== key) hidden.add(other);
      change();
    };
  });
}

function create([, look]) {
  const button = element("button", "", element("span", "swatch"), name(look.label));
  button.type = "button";
  button.title = `${look.label}\nclick: show or hide; double click: this one alone, or all`;
  return button;
}
