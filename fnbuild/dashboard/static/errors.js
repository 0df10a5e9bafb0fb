// The last errors of a function, equal ones grouped.

import { h, hasChanged, setChildren, timeElement } from "./dom.js";
import { firstLine, revisionSince } from "./states.js";

/** @typedef {FunctionError & {count: number}} ErrorGroup */

/**
 * Draw `errors`, newest first as the dashboard returns them, at most `limit` groups.
 *
 * Errors before `since` (milliseconds) belong to an earlier revision and are folded; those that
 * `knownMessage` contains are omitted.
 *
 * @param {Element} container
 * @param {FunctionError[]} errors
 * @param {{limit?: number, since?: number, knownMessage?: string}} [options]
 */
export function drawErrors(container, errors, { limit = 10, since = 0, knownMessage = "" } = {}) {
  if (!hasChanged(container, errors, since, knownMessage)) return;
  const recent = errors.filter(
    (error) => toMilliseconds(error.time) >= since && !knownMessage.includes(firstLine(error.message)),
  );
  const earlier = errors.filter((error) => toMilliseconds(error.time) < since);
  const none = since ? "No errors since the last change." : "No errors recorded.";
  setChildren(
    container,
    recent.length ? errorList(recent, limit) : h("p", { class: "muted" }, none),
    earlier.length > 0 &&
      h(
        "details",
        {},
        h("summary", {}, `Before the last change (${earlier.length})`),
        errorList(earlier, limit),
      ),
  );
}

/**
 * @param {FunctionError[]} errors
 * @param {number} limit
 */
function errorList(errors, limit) {
  return h("ul", { class: "plain" }, groupErrors(errors).slice(0, limit).map(errorItem));
}

/**
 * Group errors with the same first line, in the order of their newest occurrence.
 *
 * @param {FunctionError[]} errors
 */
function groupErrors(errors) {
  /** @type {Map<string, ErrorGroup>} */
  const groups = new Map();
  for (const error of errors) {
    const key = firstLine(error.message);
    const group = groups.get(key);
    if (!group) groups.set(key, { ...error, count: 1 });
    else {
      group.count += 1;
      // Only the first occurrence has the traceback.
      if (String(error.message).length > String(group.message).length) group.message = error.message;
    }
  }
  return [...groups.values()];
}

/** @param {ErrorGroup} error */
function errorItem(error) {
  const line = firstLine(error.message);
  const fullText = String(error.message).trim();
  return h(
    "li",
    {},
    h(
      "span",
      { class: "muted" },
      error.count > 1 && `${error.count}×, last `,
      timeElement(toMilliseconds(error.time)),
      error.status ? ` · ${error.status}` : "",
      error.requestId ? ` · ${error.requestId}` : "",
    ),
    !fullText.includes("\n")
      ? h("p", {}, line)
      : h("details", {}, h("summary", {}, line), h("pre", { class: "message" }, fullText)),
  );
}

/**
 * Return the options of `drawErrors` for a function: errors belong to the revision in which they occurred.
 *
 * @param {FunctionObject | null} fn
 */
export function lastChange(fn) {
  const { state, message } = fn?.status?.operation ?? {};
  return { since: revisionSince(fn), knownMessage: state === "failed" ? (message ?? "") : "" };
}

/**
 * Convert a time of the API, in seconds or as text.
 *
 * @param {number | string} time
 */
const toMilliseconds = (time) =>
  typeof time === "number" && time < 1e12 ? time * 1000 : new Date(time).getTime();
