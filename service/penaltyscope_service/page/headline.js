/** What one run is, and what went wrong with it first, in plain words. */

import { byId, element, name, reconcile, say, setText } from "./dom.js";
import { ago, clock, count, plural, ranges, shorten, span, speed } from "./format.js";
import { drawState } from "./runs.js";

const LONGEST_NAME = 60;

const WORDS = {
  input: { nan: "was given NaN", inf: "was given an infinity" },
  value: { nan: "became NaN", inf: "became infinite" },
  gradient: { nan: "has a NaN gradient", inf: "has an infinite gradient" },
};

// The finding is the earliest in causal order (input, value, gradient; the task loss last), so
// everything before it in that order was fine at that step: that is what these sentences rest on.
const HINTS = {
  input: "What it was given was bad already: look upstream, at the model's output and the data.",
  value: "No term reported a bad input at that step: the term's own computation made it.",
  gradient: "Every value was still finite at that step: the backward pass made it.",
  base: "No penalty term had a bad input or value at that step: look at the task loss itself.",
};

/** Name, state, tags and facts. */
export function drawHeadline(run) {
  setText(byId("run-name"), run.run);
  drawState(byId("run-state"), run.state);
  const tags = Object.entries(run.tags);
  byId("run-tags").hidden = tags.length === 0;
  reconcile(byId("run-tags"), tags, String, createTag, () => {});
  reconcile(byId("run-facts"), facts(run), ([label]) => label, createFact, fillFact);
  say(byId("exception"), exceptionText(run.exception));
}

const createTag = ([key, value]) =>
  element("li", "", element("span", "key", name(key)), name(value));

const createFact = ([label]) => element("div", "", element("dt", "", label), element("dd"));

function fillFact(node, [, text, title = ""]) {
  setText(node.lastElementChild, text);
  node.title = title;
}

function facts(run) {
  const end = run.ended_at ?? run.last_received_at;
  const list = [
    ["Last step", count(run.last_step)],
    ["Speed", speed(run.step_interval_seconds), "From the median time between steps"],
    ["Ranks", ranksText(run)],
    ["Evaluations", count(run.steps), "Kept by the service, over all ranks and pipelines"],
    ["Started", clock(run.started_at), ago(run.started_at)],
    ["Duration", span(end - run.started_at)],
    ["Last received", ago(run.last_received_at), clock(run.last_received_at)],
  ];
  if (run.attempt > 0) list.push(["Attempt", count(run.attempt + 1)]);
  return list;
}

function ranksText(run) {
  if (run.world_size <= 1) return "1";
  const missing = run.ranks.length < run.world_size;
  return `${ranges(run.ranks)}${missing ? ` (${run.ranks.length} of ${run.world_size})` : ""}`;
}

function exceptionText(exception) {
  return exception ? `${exception.type}: ${exception.message}` : "";
}

/** The first non-finite finding, in plain words; hidden while there is none. */
export function drawBanner(run) {
  const first = run.first_nonfinite;
  byId("banner").hidden = first === null;
  if (first === null) return;
  const base = first.term === "base";
  const subject = base ? "The task loss" : shorten(first.term, LONGEST_NAME);
  const happened = WORDS[first.stage][first.kind];
  setText(byId("banner-title"), `${subject} ${happened} at step ${count(first.step)}`);
  setText(byId("banner-when"), whenText(run, first));
  setText(byId("banner-hint"), HINTS[base ? "base" : first.stage]);
}

function whenText(run, { stage, rank, pipeline, time }) {
  const where = `Stage ${stage}, rank ${rank}, pipeline ${shorten(pipeline, LONGEST_NAME)}.`;
  const since = `Since ${clock(time)} (${ago(time)})`;
  return `${where} ${since}; ${plural(run.nonfinite_steps, "evaluation")} non-finite so far.`;
}
