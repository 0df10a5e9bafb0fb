// Parts of the page that are loaded when they are first shown, also after the dashboard was away.

import { AGAIN, pause, Refused } from "./api.js";

const loaded = new Map(); // modules by path
const failures = new Map(); // by path, how often it did not come

/** The module at `path`, such as "./logs.js". Raises `Refused` of status 0 when it does not come. */
export async function load(path) {
  for (const wait of [...AGAIN, null]) {
    const failed = failures.get(path) ?? 0;
    try {
      // Some browsers remember for good that nothing came from an address.
      if (!loaded.has(path)) loaded.set(path, await import(failed ? `${path}?again=${failed}` : path));
      return loaded.get(path);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      failures.set(path, failed + 1);
    }
    if (wait !== null) await pause(wait);
  }
  throw new Refused(0, {
    error: "the dashboard does not answer, so this part of the page could not be loaded",
    hint: "look whether `fnbuild dashboard` still runs; it is loaded by itself when the dashboard is back",
  });
}
