/** The service's JSON API, its non-finite numbers (strings, as in OTLP) made numbers again. */

const TIMEOUT_MS = 10_000;
const TERM_NUMBERS = ["value", "weight", "contribution", "gradient_norm", "gradient_share"];
const PIPELINE_NUMBERS = ["base", "total", "loss", "total_gradient_norm", "duration_seconds"];

/** The service did not answer, or not in a way that says anything about the request. */
export class Unreachable extends Error {}

/** The service answered that the request is wrong; the message is its own. */
export class Refused extends Error {}

/** All runs, newest first. */
export async function fetchRuns() {
  return (await fetchJson("api/runs")).runs;
}

/** One run with the last numbers of every term of every pipeline. */
export async function fetchRun(run) {
  const detail = await fetchJson(`api/runs/${encodeURIComponent(run)}`);
  for (const pipeline of detail.pipelines) {
    revive(pipeline, PIPELINE_NUMBERS);
    for (const term of pipeline.terms) revive(term, TERM_NUMBERS);
  }
  return detail;
}

/** Downsampled numbers over steps; `view` limits them to `from`..`to`, null is every step. */
export async function fetchSeries({ run, pipeline, rank, view, points }) {
  const query = new URLSearchParams({ pipeline, rank, points });
  for (const quantity of ["value", "contribution", "gradient_norm"]) {
    query.append("quantity", quantity);
  }
  if (view) {
    query.set("from_step", view.from);
    query.set("to_step", view.to);
  }
  const answer = await fetchJson(`api/runs/${encodeURIComponent(run)}/series?${query}`);
  for (const line of answer.series) line.value = line.value.map(Number);
  return answer;
}

/** Revives named fields only: a term or a tag may well be called "NaN". */
function revive(object, fields) {
  for (const field of fields) {
    if (typeof object[field] === "string") object[field] = Number(object[field]);
  }
}

async function fetchJson(path) {
  let response;
  try {
    response = await fetch(path, { signal: AbortSignal.timeout(TIMEOUT_MS), cache: "no-store" });
  } catch (error) {
    throw new Unreachable(String(error));
  }
  const body = await response.json().catch(() => null);
  if (response.ok && body !== null) return body;
  if (response.status >= 400 && response.status < 500) {
    const detail = body?.detail ?? `${path} answered ${response.status}`;
    throw new Refused(typeof detail === "string" ? detail : JSON.stringify(detail));
  }
  throw new Unreachable(`${path} answered ${response.status}`);
}
