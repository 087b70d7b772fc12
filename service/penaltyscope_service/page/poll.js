/** The page's heartbeat: one round of work a second while someone is looking. */

import { Unreachable } from "./api.js";

const EVERY_MS = 1000;
const SLOWEST_MS = 15_000;

/**
 * Repeats `work` while the page is visible, with ever longer pauses while the service is away.
 *
 * `report` is told after every round since when (milliseconds) the service has been away, or null.
 * Returns a function that starts the next round at once.
 */
export function poll(work, report) {
  let awaySince = null;
  let pause = EVERY_MS;
  let wake = null;
  let skipRest = false;

  const rest = () =>
    new Promise((resolve) => {
      wake = () => {
        clearTimeout(timer);
        wake = null;
        resolve();
      };
      const timer = setTimeout(() => wake(), skipRest ? 0 : pause);
      skipRest = false;
    });

  const round = async () => {
    const began = performance.now();
    try {
      await work();
      awaySince = null;
      // A service that is slow to answer must not be asked again the moment it has.
      pause = Math.max(EVERY_MS, performance.now() - began);
    } catch (error) {
      // A fault of the page's own is told, and must not end the watch either.
      if (!(error instanceof Unreachable)) console.error(error);
      pause = awaySince === null ? EVERY_MS : Math.min(2 * pause, SLOWEST_MS);
      awaySince ??= Date.now();
    }
    report(awaySince);
  };

  const forever = async () => {
    for (;;) {
      await visible();
      await round();
      await rest();
    }
  };
  forever();
  return () => {
    if (wake) wake();
    else skipRest = true;
  };
}

function visible() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => {
    document.addEventListener("visibilitychange", resolve, { once: true });
  });
}
