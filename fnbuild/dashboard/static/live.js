// The functions of the dashboard, by one stream for the whole page that starts before the other modules are
// loaded, and the session.

import { call, follow } from "./api.js";

const POLL_MS = 1000;
/** @type {Set<() => void>} */
const listeners = new Set();
/** @type {AbortController | null} */
let controller = null;

/**
 * The functions by name; `loaded` is true after the first event. `connection` is `connecting`, `live` or
 * `lost`, with the dashboard's `error` if there was one.
 */
export const live = {
  /** @type {Record<string, FunctionObject>} */
  functions: Object.create(null),
  loaded: false,
  connection: "connecting",
  /** @type {import("./api.js").ApiError | null} */
  error: null,
};

/**
 * Call `listener` after every change, until the returned function is called.
 *
 * @param {() => void} listener
 * @returns {CleanUp}
 */
export function watch(listener) {
  listeners.add(listener);
  return () => void listeners.delete(listener);
}

/**
 * Call `action` once as soon as the dashboard answers again, unless `signal` is aborted first.
 *
 * @param {() => unknown} action
 * @param {AbortSignal} signal
 */
export function whenConnected(action, signal) {
  setTimeout(() => {
    if (signal.aborted) return;
    if (live.connection === "live") action();
    else whenConnected(action, signal);
  }, POLL_MS);
}

/** Start the stream, or restart it after a change of the namespace or the session. */
export function connect() {
  controller?.abort();
  controller = new AbortController();
  const { signal } = controller;
  follow("/api/live", ({ event, data }) => event === "functions" && setFunctions(data), {
    signal,
    onState: (state, error) => update({ connection: state, error }),
  }).catch((error) => update({ connection: "lost", error }));
}

/**
 * Return all functions, sorted by name.
 *
 * @returns {ListedFunction[]}
 */
export function listFunctions() {
  return Object.entries(live.functions)
    .map(([key, value]) => ({ key, ...value }))
    .sort((a, b) => (a.key < b.key ? -1 : 1));
}

/** @param {{functions: Record<string, FunctionObject>}} data */
function setFunctions(data) {
  update({ functions: Object.assign(Object.create(null), data.functions), loaded: true });
}

/** @param {Partial<typeof live>} changes */
function update(changes) {
  const previous = { ...live };
  Object.assign(live, changes);
  const keys = /** @type {(keyof typeof live)[]} */ (Object.keys(changes));
  if (keys.some((key) => previous[key] !== live[key])) {
    for (const listener of [...listeners]) listener();
  }
}

/**
 * The session: `role` is `none`, `read` or `write`; `platforms` have the notices that they show, and whether
 * names of functions have to be valid in Kubernetes.
 */
export const session = {
  role: "none",
  namespace: "",
  platform: "",
  /** @type {{name: string, notices?: string[], clusterNames?: boolean}[]} */
  platforms: [],
  version: "",
  library: false,
};

/** @type {Set<() => void>} */
const sessionListeners = new Set();

/**
 * Call `listener` after every change of the session, until the returned function is called.
 *
 * @param {() => void} listener
 * @returns {CleanUp}
 */
export function onSession(listener) {
  sessionListeners.add(listener);
  return () => void sessionListeners.delete(listener);
}

/** Load the session from the dashboard. */
export async function loadSession() {
  Object.assign(session, await call("GET", "/api/session"));
  for (const listener of [...sessionListeners]) listener();
}

connect();

// A hidden page releases its connection: browsers open at most six to one server.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) controller?.abort();
  else connect();
});
