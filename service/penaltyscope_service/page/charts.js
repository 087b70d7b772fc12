/** The charts, drawn by Plotly. Nothing else knows it. */

import { byId, element, reconcile, setText } from "./dom.js";
import { findingsOf } from "./findings.js";
import { escapeMarkup, plural, shorten } from "./format.js";
import { CHARTS, linesOf } from "./lines.js";
import { firstAnnotation, markTraces } from "./marks.js";
import { scaleFor } from "./scale.js";

const CONFIG = { displayModeBar: false, responsive: true, doubleClick: false, showTips: false };

const wanted = new Map();
let held = false;
let postponed = null;

/** Loads Plotly once; the numbers on the page do not wait for its megabytes. */
const plotly = new Promise((resolve, reject) => {
  const script = element("script");
  script.src = "assets/plotly.min.js";
  script.onload = () => resolve(window.Plotly);
  script.onerror = () => reject(new Error("assets/plotly.min.js did not load"));
  document.head.append(script);
});
plotly.catch((error) => setText(byId("charts"), `No charts: ${error.message}.`));

/** How many points per line the charts have room for. */
export function chartPoints() {
  const width = byId("charts").firstElementChild?.clientWidth || 600;
  return Math.min(1000, Math.max(200, Math.round(width)));
}

/**
 * Draws every chart.
 *
 * `shown` is `{series, terms, looks, hidden, view}`; `setView` is called with `{from, to}` when
 * someone zooms and with null when they ask for every step again.
 */
export async function drawCharts(shown, setView) {
  const Plotly = await plotly.catch(() => null);
  // Redrawing under a pressed pointer would end the zoom that someone is dragging.
  postponed = held ? () => drawCharts(shown, setView) : null;
  if (!Plotly || held) return;
  reconcile(byId("charts"), CHARTS, ({ id }) => id, create, () => {});
  const marked = { ...shown, findings: findingsOf(shown.series) };
  for (const chart of CHARTS) drawChart(Plotly, chart, marked, setView);
  const { rank, steps } = shown.series;
  setText(byId("charts-note"), `rank ${rank}, ${plural(steps, "evaluation")}`);
}

function drawChart(Plotly, chart, shown, setView) {
  const figure = byId(`figure-${chart.id}`);
  const plot = byId(`chart-${chart.id}`);
  const lines = linesOf(chart, shown.series.series, shown.terms);
  const visible = lines.filter(({ key }) => !shown.hidden.has(key));
  const scale = scaleFor(wanted.get(chart.id) ?? "auto", visible.flatMap(({ value }) => value));
  setText(figure.querySelector("small"), [chart.note, scale.note].filter(Boolean).join("; "));
  for (const button of figure.querySelectorAll("button")) {
    const pressed = button.value === (scale.kind === "linear" ? "linear" : "log");
    button.setAttribute("aria-pressed", String(pressed));
    button.onclick = () => {
      wanted.set(chart.id, button.value);
      drawChart(Plotly, chart, shown, setView);
    };
  }
  const first = plot.data === undefined;
  const theme = themeOf(plot);
  const range = rangeOf(shown);
  const traces = lines.map((line) => trace(line, shown, scale));
  Plotly.react(
    plot,
    [...traces, ...markTraces(shown.findings, theme.red)],
    layout(scale, range, theme, firstAnnotation(shown.findings, range, theme.red)),
    CONFIG,
  );
  if (first) listen(plot, setView);
}

function trace({ key, step, value }, { looks, hidden }, scale) {
  const look = looks.get(key);
  const finite = value.map((y) => (Number.isFinite(y) ? y : null));
  return {
    x: step,
    y: finite.map((y) => (y === null ? null : scale.height(y))),
    customdata: finite,
    // The name goes in as data: inside the template a term called "%{x}" would be filled in.
    name: escapeMarkup(shorten(look.label, 28)),
    hovertemplate: "%{customdata:.4~g}  %{fullData.name}<extra></extra>",
    visible: hidden.has(key) ? "legendonly" : true,
    mode: finite.some((y, i) => isolated(finite, i)) ? "lines+markers" : "lines",
    line: { color: look.color, dash: look.dash, width: 1.75 },
    marker: { color: look.color, size: finite.map((y, i) => (isolated(finite, i) ? 5 : 0)) },
  };
}

/** A number without a neighbour to draw a line to. */
const isolated = (values, i) =>
  values[i] !== null && (values[i - 1] ?? null) === null && (values[i + 1] ?? null) === null;

/** The steps across the chart: the zoom, or all there are. */
function rangeOf({ view, series }) {
  const { from, to } = view ?? { from: series.first_step ?? 0, to: series.last_step ?? 1 };
  return from < to ? [from, to] : [from - 0.5, to + 0.5];
}

function layout(scale, range, theme, annotations) {
  const axis = {
    gridcolor: theme.line,
    zeroline: false,
    color: theme.muted,
    fixedrange: true,
    exponentformat: "e",
  };
  return {
    autosize: true,
    height: 250,
    margin: { l: 58, r: 14, t: 26, b: 36 },
    paper_bgcolor: theme.surface,
    plot_bgcolor: theme.surface,
    font: { family: theme.font, size: 12, color: theme.text },
    showlegend: false,
    // A finger on a chart scrolls the page; zooming needs a mouse.
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    hovermode: "x unified",
    hoverlabel: {
      bgcolor: theme.surface,
      bordercolor: theme.line,
      font: { size: 12, color: theme.text },
    },
    xaxis: {
      ...axis,
      fixedrange: false,
      range,
      showgrid: false,
      nticks: 8,
      ticks: "outside",
      ticklen: 4,
      tickcolor: theme.line,
      tickformat: ",d",
      title: { text: "step", standoff: 4, font: { size: 11 } },
      unifiedhovertitle: { text: "step %{x:,d}" },
      spikecolor: theme.muted,
      spikedash: "solid",
      spikethickness: 1,
    },
    yaxis: { ...axis, zerolinecolor: theme.muted, nticks: 6, ...scale.axis },
    yaxis2: { overlaying: "y", range: [0, 1], visible: false, fixedrange: true },
    annotations,
  };
}

function themeOf(node) {
  const style = getComputedStyle(node);
  const color = (variable) => style.getPropertyValue(variable).trim();
  return {
    font: style.fontFamily,
    text: color("--text"),
    muted: color("--muted"),
    line: color("--rule"),
    surface: color("--surface"),
    red: color("--bad"),
  };
}

function listen(plot, setView) {
  plot.on("plotly_relayout", (change) => {
    const [from, to] = [change["xaxis.range[0]"], change["xaxis.range[1]"]];
    if (from === undefined) return;
    setView({ from: Math.max(0, Math.floor(from)), to: Math.max(1, Math.ceil(to)) });
  });
  plot.on("plotly_doubleclick", () => setView(null));
}

function create({ id, title }) {
  const scales = ["linear", "log"].map((value) => {
    const button = element("button", "", value);
    Object.assign(button, { type: "button", value });
    return button;
  });
  const choice = element("div", "choice", ...scales);
  choice.setAttribute("role", "group");
  choice.setAttribute("aria-label", `Scale of ${title.toLowerCase()}`);
  const plot = element("div", "plot");
  plot.id = `chart-${id}`;
  const heading = element("h4", "", title, " ", element("small"));
  const figure = element("figure", "chart", element("div", "bar", heading, choice), plot);
  figure.id = `figure-${id}`;
  return figure;
}

function press(event) {
  held = byId("charts").contains(event.target);
}

function release() {
  held = false;
  // Plotly must see the end of the drag first.
  setTimeout(() => postponed?.());
}

addEventListener("pointerdown", press, true);
for (const end of ["pointerup", "pointercancel", "blur"]) addEventListener(end, release, true);
