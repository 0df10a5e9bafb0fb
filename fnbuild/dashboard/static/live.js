// What the dashboard tells: what the functions are now, by one stream for the whole page, which begins
// as soon as this module is there, while the others are on their way; and who this page is for it.

import { call, follow } from "./api.js";

const LOOK_MS = 1000;
const listeners = new Set();
let stop = null;

/**
 * `functions` by name; `known` is true after the first answer; `connection` is `connecting`, `live`
 * or `lost`; `error` is why it is lost, when the dashboard said so.
 */
export const live = { functions: Object.create(null), known: false, connection: "connecting", error: null };

/** Call `listener` at every change until the function that this returns is called. */
export function watch(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Do `act` once, as soon as the dashboard answers again, unless `signal` comes before. */
export function whenBack(act, signal) {
  setTimeout(() => {
    if (signal.aborted) return;
    if (live.connection === "live") act();
    else whenBack(act, signal);
  }, LOOK_MS);
}

/** Begin, or begin anew after the namespace or the session changed. */
export function connect() {
  stop?.abort();
  stop = new AbortController();
  const { signal } = stop;
  follow("/api/live", ({ event, data }) => event === "functions" && set(data), {
    signal,
    onstate: (state, error) => tell({ connection: state, error }),
  }).catch((error) => tell({ connection: "lost", error }));
}

/** The functions whose name is set aside or not, as a list by name. */
export function all() {
  return Object.entries(live.functions)
    .map(([key, value]) => ({ key, ...value }))
    .sort((a, b) => (a.key < b.key ? -1 : 1));
}

function set(data) {
  tell({ functions: Object.assign(Object.create(null), data.functions), known: true });
}

function tell(changes) {
  const before = { ...live };
  Object.assign(live, changes);
  if (Object.keys(changes).some((key) => before[key] !== live[key])) {
    for (const listener of [...listeners]) listener(live);
  }
}

/** `role` is `none`, `read` or `write`; `platforms` are those shown, each with its notices. */
export const session = {
  role: "none",
  namespace: "",
  platform: "",
  platforms: [],
  version: "",
  library: false,
};

const ofSession = new Set();

/** Call `listener` whenever the session changed, until the function that this returns is called. */
export function onSession(listener) {
  ofSession.add(listener);
  return () => ofSession.delete(listener);
}

/** Ask the dashboard who we are. */
export async function loadSession() {
  Object.assign(session, await call("GET", "/api/session"));
  for (const listener of [...ofSession]) listener(session);
}

connect();

// A page that nobody sees gives its connection back: browsers open six at most to one server.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) stop?.abort();
  else connect();
});
