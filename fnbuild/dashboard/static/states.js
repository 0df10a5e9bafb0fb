// States of functions: their words, their shapes, and what of a function every view shows.

import { h, withCode } from "./dom.js";

const PROJECT = "nuclio.io/project-name";

// Shape and word tell the state; the colour only repeats them.
const STATE_STYLES = {
  ready: ["●", "good"],
  building: ["◐", "busy"],
  unhealthy: ["▲", "warn"],
  error: ["✕", "bad"],
  imported: ["◇", "idle"],
  scaledToZero: ["○", "idle", "scaled to zero"],
  standby: ["○", "idle"],
  stopped: ["■", "idle"],
  waiting: ["◌", "busy"],
  running: ["◐", "busy"],
  done: ["●", "good"],
  failed: ["✕", "bad"],
  active: ["●", "good"],
  superseded: ["○", "idle"],
  pending: ["◌", "busy"],
};

/** A state as a pill. */
export function pill(state, label = "") {
  const [shape, kind, name] = STATE_STYLES[state] ?? ["○", "idle"];
  return h(
    "span",
    { class: `pill ${kind}`, "data-state": state },
    h("span", { class: "shape", "aria-hidden": "true" }, shape),
    label || name || state || "unknown",
  );
}

/** The state in fnbuild's own words: to Nuclio's clients a disabled function is ready. */
export const stateOf = (fn) => fn?.status?.detailedState ?? fn?.status?.state;

export const isHealthy = (state) => (STATE_STYLES[state] ?? [])[1] !== "bad" && state !== "unhealthy";

export const projectOf = (fn) => fn.metadata?.labels?.[PROJECT] || "default";

export const titleOf = (fn) => fn.metadata?.annotations?.name || "";

export const typeOf = (fn) => fn.metadata?.annotations?.type || "";

/** `1/1`, or nothing when the platform says nothing. */
export function replicasOf(fn) {
  const count = fn.status?.replicas;
  return count ? `${count.available}/${count.wanted}` : "";
}

/** When the active revision of a function began, in milliseconds; 0 when that is not known. */
export function revisionSince({ status = {} } = {}) {
  const { activated = 0, operation = {} } = status;
  const done = operation.state === "done" ? new Date(operation.started).getTime() : 0;
  return Math.max(activated * 1000, done);
}

const REPEATED = /^failed in the same way: /;
const TRACEBACK_START = /[:;]?\s*Traceback \(most recent call last\):$/;

/** The one line of a message that says most: the first, but of a mere traceback the last. */
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

/** A refusal or another failure, with what to do about it. */
export function errorBox(error, ...actions) {
  const [summary, ...rest] = String(error?.message ?? error)
    .trim()
    .split("\n");
  const signIn = error?.status === 401 && h("a", { class: "button", href: "#/session" }, "Sign in");
  const allActions = [signIn, ...actions].filter(Boolean);
  return h(
    "div",
    { class: "problem", role: "alert" },
    h("p", { class: "problem-what" }, withCode(summary)),
    error?.hint && h("p", { class: "problem-hint" }, withCode(error.hint)),
    rest.length > 0 && h("pre", {}, rest.join("\n")),
    error?.detail && h("details", {}, h("summary", {}, "Details"), h("pre", {}, error.detail)),
    allActions.length > 0 && h("p", { class: "actions" }, allActions),
  );
}
