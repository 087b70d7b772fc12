/** The list of runs. */

import { writeAddress } from "./address.js";
import { byId, element, name, reconcile, say, setText } from "./dom.js";
import { ago, count, finding, plural, speed } from "./format.js";

const FILTER_FROM = 7;

const STATES = {
  running: "Steps are arriving.",
  finished: "The run ended and said so.",
  failed: "The run ended with an error.",
  interrupted: "The run was stopped from outside.",
  stalled: "The process is alive, but has made no step for far longer than its own pace.",
  lost: "Nothing has been heard from the process, not even a heartbeat.",
};

/** Makes `node` the badge of a run's state. */
export function drawState(node, state) {
  node.className = `state ${state in STATES ? state : ""}`;
  node.title = STATES[state] ?? "";
  setText(node, state);
}

/** Draws the list; `selected` is the name of the run that is shown beside it. */
export function drawRuns(runs, selected) {
  const filter = byId("filter");
  filter.hidden = runs.length < FILTER_FROM && filter.value === "";
  const shown = runs.filter((run) => matches(run, filter.value));
  const bad = runs.filter((run) => run.first_nonfinite).length;
  const part = shown.length < runs.length ? `${shown.length} of ` : "";
  const alarms = bad > 0 ? ` · ${bad} non-finite` : "";
  setText(byId("runs-title"), `${part}${plural(runs.length, "run")}${alarms}`);
  reconcile(byId("run-list"), shown, (run) => run.run, create, (item, run) =>
    update(item, run, run.run === selected),
  );
}

function matches(run, filter) {
  const tags = Object.entries(run.tags).map(([key, value]) => `${key}=${value}`);
  const text = [run.run, run.state, run.first_nonfinite ? "non-finite" : "", ...tags].join("\n");
  const words = filter.toLowerCase().split(/\s+/);
  return words.every((word) => text.toLowerCase().includes(word));
}

function create(run) {
  const link = element(
    "a",
    "",
    element("span", "run-name", name(run.run)),
    element("span", "state"),
    element("span", "progress"),
    element("span", "alarm"),
  );
  link.href = writeAddress({ run: run.run });
  link.title = run.run;
  return element("li", "", link);
}

function update(item, run, selected) {
  const link = item.firstElementChild;
  const [, state, progress, alarm] = link.children;
  if (selected) link.setAttribute("aria-current", "true");
  else link.removeAttribute("aria-current");
  drawState(state, run.state);
  setText(progress, summary(run));
  say(alarm, run.first_nonfinite ? alarmText(run.first_nonfinite) : "");
}

function summary(run) {
  if (run.last_step === null) return `no steps yet · ${ago(run.last_received_at)}`;
  const parts = [`step ${count(run.last_step)}`];
  if (run.state === "running") parts.push(speed(run.step_interval_seconds));
  else parts.push(ago(run.last_received_at));
  return parts.join(" · ");
}

function alarmText(first) {
  const what = `${first.term}, ${finding(first)}, rank ${first.rank}`;
  return `non-finite since step ${count(first.step)}: ${what}`;
}

/** The run's trouble in few words, for the title of the browser's tab. */
export const alarmTitle = (run) =>
  run.first_nonfinite ? `${plural(run.nonfinite_steps, "non-finite evaluation")} · ` : "";
