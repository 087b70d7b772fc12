/** What is selected, as the part of the address after "#", so that an alert can link to it. */

/** Reads `#run=…&pipeline=…&rank=…`; what is absent or no rank is null. */
export function readAddress(hash) {
  const fields = new URLSearchParams(hash.replace(/^#/, ""));
  const rank = fields.get("rank");
  return {
    run: fields.get("run"),
    pipeline: fields.get("pipeline"),
    rank: rank !== null && /^\d+$/.test(rank) ? Number(rank) : null,
  };
}

/** The inverse of `readAddress`; nulls are left out. */
export function writeAddress(selection) {
  const given = Object.entries(selection).filter(([, value]) => value !== null);
  return `#${new URLSearchParams(given)}`;
}
