/** The page's state, and the one place that connects its parts. */

import { readAddress, writeAddress } from "./address.js";
import { fetchRun, fetchRuns, fetchSeries, Refused } from "./api.js";
import { chartPoints, drawCharts } from "./charts.js";
import { byId, element, reconcile, say, setText } from "./dom.js";
import { drawFindings } from "./findings.js";
import { clock } from "./format.js";
import { drawBanner, drawHeadline } from "./headline.js";
import { drawLegend, looks } from "./lines.js";
import { poll } from "./poll.js";
import { alarmTitle, drawRuns } from "./runs.js";
import { drawTerms } from "./terms.js";

const STEPS_BEFORE = 50;
const STEPS_AFTER = 10;

const state = {
  /** The list of runs, or null before its first arrival. */
  runs: null,
  /** What the address asks for, `{run, pipeline, rank}`; nulls are chosen by the page. */
  selection: readAddress(location.hash),
  /** The steps zoomed to, `{from, to}`, or null for all. */
  view: null,
  /** Lines switched off. */
  hidden: new Set(),
  /** What is shown of the run: `{version, first, pipelines, pipeline, series}`, or null. */
  loaded: null,
};

const selectedRun = () => state.runs?.find(({ run }) => run === state.selection.run);

async function refresh() {
  state.runs = await fetchRuns();
  if (state.selection.run === null && state.runs.length > 0) {
    select({ run: state.runs[0].run, pipeline: null, rank: null }, { replace: true });
  }
  drawSummary();
  const run = selectedRun();
  if (!run || run.pipelines.length === 0) return;
  try {
    await load(run);
    say(byId("refusal"), "");
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    say(byId("refusal"), error.message);
  }
}

/** Fetches what is shown of a run unless it is unchanged: a run that has ended is left alone. */
async function load(run) {
  const { selection, view } = state;
  const version = JSON.stringify([run.state, run.steps, run.nonfinite_steps, selection, view]);
  if (state.loaded?.version === version) return;
  const { pipelines } = await fetchRun(run.run);
  const pipeline = choosePipeline(run, pipelines, selection.pipeline);
  const series = await fetchSeries({
    run: run.run,
    pipeline: pipeline.pipeline,
    rank: chooseRank(run, pipeline, selection.rank),
    view,
    points: chartPoints(),
  });
  if (state.selection !== selection || state.view !== view) return;
  state.loaded = { version, first: run.first_nonfinite, pipelines, pipeline, series };
  drawLoaded();
}

/** The pipeline that is asked for, else the one where the trouble began, else the first. */
function choosePipeline(run, pipelines, asked) {
  const named = (wanted) => pipelines.find(({ pipeline }) => pipeline === wanted);
  return named(asked) ?? named(run.first_nonfinite?.pipeline) ?? pipelines[0];
}

function chooseRank(run, { pipeline, ranks }, asked) {
  const first = run.first_nonfinite?.pipeline === pipeline ? run.first_nonfinite.rank : null;
  return [asked, first].find((rank) => ranks.includes(rank)) ?? ranks[0];
}

function drawSummary() {
  const run = selectedRun();
  drawRuns(state.runs, state.selection.run);
  drawNotice(run);
  byId("selected").hidden = !run;
  byId("selected").classList.toggle("unloaded", state.loaded === null);
  document.title = run ? `${alarmTitle(run)}${run.run} · Penaltyscope` : "Penaltyscope";
  if (!run) return;
  drawHeadline(run);
  drawBanner(run);
}

function drawNotice(run) {
  const [title, text] = noticeOf(run);
  say(byId("notice-title"), title);
  say(byId("notice-text"), text);
  byId("notice").hidden = title === "";
  byId("notice-help").hidden = state.runs.length > 0;
  setText(byId("endpoint"), location.origin);
}

function noticeOf(run) {
  if (state.runs.length === 0) return ["No runs yet", "Nothing has been sent to this service."];
  if (!run) return ["Unknown run", `Nothing is known here of a run "${state.selection.run}".`];
  if (run.pipelines.length > 0) return ["", ""];
  return ["No steps yet", "The run has started; no step has arrived."];
}

function drawLoaded() {
  const { first, pipelines, pipeline, series } = state.loaded;
  const terms = pipeline.terms.map(({ term }) => term);
  const all = looks(terms);
  const colors = new Map([...all].map(([key, { color }]) => [key, color]));
  byId("selected").classList.remove("unloaded");
  drawPicker("pipeline", pipelines.map((each) => each.pipeline), pipeline.pipeline);
  drawPicker("rank", pipeline.ranks.map(String), String(series.rank));
  drawTerms(pipeline, colors, first);
  drawLegend(all, state.hidden, drawLoaded);
  drawFindings(series);
  byId("zoom-out").hidden = state.view === null;
  drawCharts({ series, terms, looks: all, hidden: state.hidden, view: state.view }, setView);
}

function drawPicker(id, options, chosen) {
  byId(`${id}-picker`).hidden = options.length < 2;
  reconcile(byId(id), options, String, createOption, () => {});
  byId(id).value = chosen;
}

function createOption(text) {
  const option = element("option", "", text);
  option.value = text;
  return option;
}

function select(selection, { replace = false } = {}) {
  if (selection.run !== state.selection.run) {
    state.view = null;
    state.loaded = null;
    state.hidden.clear();
  }
  state.selection = selection;
  const address = writeAddress(selection);
  if (location.hash !== address) history[replace ? "replaceState" : "pushState"](null, "", address);
}

function setView(view) {
  state.view = view;
  if (state.loaded) drawLoaded();
  wake();
}

/** Shows another pipeline or rank of the same run, or other steps of it. */
function pick(change, view = null) {
  const { pipeline, series } = state.loaded;
  select({ run: series.run, pipeline: pipeline.pipeline, rank: series.rank, ...change });
  setView(view);
}

function report(awaySince) {
  const node = byId("connection");
  const since = awaySince === null ? "" : clock(awaySince / 1000);
  node.className = since ? "away" : "live";
  setText(node, since ? `service unreachable since ${since}` : "live");
  // How long ago things were goes on growing while nothing new is heard.
  if (since && state.runs) drawSummary();
}

const wake = poll(refresh, report);

addEventListener("hashchange", () => {
  select(readAddress(location.hash), { replace: true });
  if (state.runs) drawSummary();
  wake();
});
byId("filter").addEventListener("input", () => {
  if (state.runs) drawRuns(state.runs, state.selection.run);
});
byId("pipeline").addEventListener("change", ({ target }) => {
  pick({ pipeline: target.value, rank: null });
});
byId("rank").addEventListener("change", ({ target }) => pick({ rank: Number(target.value) }));
byId("zoom-out").addEventListener("click", () => setView(null));
byId("banner-around").addEventListener("click", () => {
  const { pipeline, rank, step } = selectedRun().first_nonfinite;
  pick({ pipeline, rank }, { from: Math.max(0, step - STEPS_BEFORE), to: step + STEPS_AFTER });
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  if (state.loaded) drawLoaded();
});
