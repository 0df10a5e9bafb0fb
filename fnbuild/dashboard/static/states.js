// States of functions and their symbols, the values that every view reads from a function, error messages.

import { h, withCode } from "./dom.js";

const PROJECT = "nuclio.io/project-name";

// A symbol and a label for each state: the colour alone would not do.
/** @type {Record<string, string[]>} */
const STATE_STYLES = {
  ready: ["●", "good"],
  building: ["◐", "busy"],
  unhealthy: ["▲", "warn"],
  error: ["✕", "bad"],
  imported: ["◇", "idle"],
  scaledToZero: ["○", "idle", "scaled to zero"],
  standby: ["○", "idle"],
  stopped: ["■", "idle"],
  asleep: ["☾", "idle"],
  waking: ["◐", "busy"],
  waiting: ["◌", "busy"],
  running: ["◐", "busy"],
  done: ["●", "good"],
  failed: ["✕", "bad"],
  active: ["●", "good"],
  superseded: ["○", "idle"],
  pending: ["◌", "busy"],
};

/**
 * Return a state as a badge.
 *
 * @param {string | undefined} state
 */
export function pill(state) {
  const [shape, kind, name] = STATE_STYLES[state ?? ""] ?? ["○", "idle"];
  return h(
    "span",
    { class: `pill ${kind}`, "data-state": state },
    h("span", { class: "shape", "aria-hidden": "true" }, shape),
    name || state || "unknown",
  );
}

/**
 * Return fnbuild's own state: for Nuclio's clients, a disabled function is ready.
 *
 * @param {FunctionObject | null} [fn]
 */
export const stateOf = (fn) => fn?.status?.detailedState ?? fn?.status?.state;

/**
 * Return the sleep of a function's workers if they are not awake, `asleep` for example.
 *
 * @param {FunctionObject | null} [fn]
 */
export function sleepOf(fn) {
  const state = fn?.status?.sleep?.state;
  return stateOf(fn) === "ready" && state !== "awake" ? state : undefined;
}

/**
 * Return the state as users see it, with that of a ready function's workers.
 *
 * @param {FunctionObject | null} [fn]
 */
export const shownStateOf = (fn) => sleepOf(fn) ?? stateOf(fn);

/** @param {string} [state] */
export const isHealthy = (state = "") => (STATE_STYLES[state] ?? [])[1] !== "bad" && state !== "unhealthy";

/** @param {FunctionObject} fn */
export const projectOf = (fn) => fn.metadata?.labels?.[PROJECT] || "default";

/** @param {FunctionObject} fn */
export const titleOf = (fn) => fn.metadata?.annotations?.name || "";

/** @param {FunctionObject} fn */
export const typeOf = (fn) => fn.metadata?.annotations?.type || "";

/**
 * Return true if a replica of the function answers requests.
 *
 * @param {FunctionObject | null} fn
 */
export const isServing = (fn) => (fn?.status?.replicas?.available ?? 0) > 0;

/**
 * Return true if the function's newest operation has not ended.
 *
 * @param {FunctionObject | null} fn
 */
export const isBusy = (fn) => ["waiting", "running"].includes(fn?.status?.operation?.state ?? "");

/**
 * Return the available and the desired number of replicas, such as `1/1`; "" if unknown.
 *
 * @param {FunctionObject} fn
 */
export function replicasOf(fn) {
  const count = fn.status?.replicas;
  return count ? `${count.available}/${count.wanted}` : "";
}

/**
 * Return the time when the active revision of a function became active, in milliseconds; 0 if unknown.
 *
 * @param {FunctionObject | null} fn
 */
export function revisionSince(fn) {
  const { activated = 0, operation } = fn?.status ?? {};
  const done = operation?.state === "done" ? new Date(operation.started).getTime() : 0;
  return Math.max(activated * 1000, done);
}

const REPEATED = /^failed in the same way: /;
const TRACEBACK_START = /[:;]?\s*Traceback \(most recent call last\):$/;

/**
 * Return the most informative line of a message: the first one, or the last one of a traceback.
 *
 * @param {unknown} message
 */
export function firstLine(message) {
  const lines = String(message ?? "")
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean);
  if (!lines.length) return "";
  return /^(Traceback|File ")/.test(lines[0])
    ? lines[lines.length - 1]
    : lines[0].replace(REPEATED, "").replace(TRACEBACK_START, "");
}

/**
 * Return an error with its remedy and with actions.
 *
 * @param {any} error
 * @param {...Child} actions
 */
export function errorBox(error, ...actions) {
  const [summary, ...rest] = String(error?.message ?? error)
    .trim()
    .split("\n");
  const signIn = error?.status === 401 && h("a", { class: "button", href: "#/session" }, "Sign in");
  const allActions = [signIn, ...actions].filter(Boolean);
  return h(
    "div",
    { class: "error-box", role: "alert" },
    h("p", { class: "error-summary" }, withCode(summary)),
    error?.hint && h("p", { class: "error-hint" }, withCode(error.hint)),
    rest.length > 0 && h("pre", {}, rest.join("\n")),
    error?.detail && h("details", {}, h("summary", {}, "Details"), h("pre", {}, error.detail)),
    allActions.length > 0 && h("p", { class: "actions" }, allActions),
  );
}
