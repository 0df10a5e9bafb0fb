// What the dashboard tells: what the functions are now, by one stream for the whole page, which begins
// as soon as this module is there, while the others are on their way; and who this page is for it.

import { call, follow } from "./api.js";

const POLL_MS = 1000;
const listeners = new Set();
let controller = null;

/**
 * `functions` by name; `known` is true after the first answer; `connection` is `connecting`, `live`
 * or `lost`; `error` is why it is lost, when the dashboard said so.
 */
export const live = { functions: Object.create(null), loaded: false, connection: "connecting", error: null };

/** Call `listener` at every change until the function that this returns is called. */
export function watch(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Do `act` once, as soon as the dashboard answers again, unless `signal` comes before. */
export function whenConnected(action, signal) {
  setTimeout(() => {
    if (signal.aborted) return;
    if (live.connection === "live") action();
    else whenConnected(action, signal);
  }, POLL_MS);
}

/** Begin, or begin anew after the namespace or the session changed. */
export function connect() {
  controller?.abort();
  controller = new AbortController();
  const { signal } = controller;
  follow("/api/live", ({ event, data }) => event === "functions" && setFunctions(data), {
    signal,
    onState: (state, error) => update({ connection: state, error }),
  }).catch((error) => update({ connection: "lost", error }));
}

/** The functions whose name is set aside or not, as a list by name. */
export function listFunctions() {
  return Object.entries(live.functions)
    .map(([key, value]) => ({ key, ...value }))
    .sort((a, b) => (a.key < b.key ? -1 : 1));
}

function setFunctions(data) {
  update({ functions: Object.assign(Object.create(null), data.functions), loaded: true });
}

function update(changes) {
  const previous = { ...live };
  Object.assign(live, changes);
  if (Object.keys(changes).some((key) => previous[key] !== live[key])) {
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

const sessionListeners = new Set();

/** Call `listener` whenever the session changed, until the function that this returns is called. */
export function onSession(listener) {
  sessionListeners.add(listener);
  return () => sessionListeners.delete(listener);
}

/** Ask the dashboard who we are. */
export async function loadSession() {
  Object.assign(session, await call("GET", "/api/session"));
  for (const listener of [...sessionListeners]) listener(session);
}

connect();

// A page that nobody sees gives its connection back: browsers open six at most to one server.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) controller?.abort();
  else connect();
});
