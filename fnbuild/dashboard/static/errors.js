// The last errors of a function, those that say the same together.

import { setChildren, h, timeElement } from "./dom.js";
import { firstLine, revisionSince } from "./states.js";

/**
 * Draw `errors`, newest first as the dashboard gives them, `most` different ones at most.
 *
 * Those from before `since` (milliseconds), when the function was another one, are folded; what
 * `known` says already is left out.
 */
export function drawErrors(container, errors, { limit = 10, since = 0, knownMessage = "" } = {}) {
  const signature = JSON.stringify([errors, since, knownMessage]);
  if (container.says === signature) return;
  container.says = signature;
  const recent = errors.filter(
    (error) => toMilliseconds(error.time) >= since && !knownMessage.includes(firstLine(error.message)),
  );
  const earlier = errors.filter((error) => toMilliseconds(error.time) < since);
  setChildren(
    container,
    recent.length
      ? errorList(recent, limit)
      : h(
          "p",
          { class: "quiet-text" },
          since ? "None since the last change." : "None that the dashboard has seen.",
        ),
    earlier.length > 0 &&
      h(
        "details",
        {},
        h("summary", {}, `Before the last change (${earlier.length})`),
        errorList(earlier, limit),
      ),
  );
}

function errorList(errors, limit) {
  return h("ul", { class: "plain" }, groupErrors(errors).slice(0, limit).map(errorItem));
}

/** Errors that say the same as one, at the place of the newest: `{...newest, count, message}`. */
function groupErrors(errors) {
  const groups = new Map();
  for (const error of errors) {
    const key = firstLine(error.message);
    const group = groups.get(key);
    if (!group) groups.set(key, { ...error, count: 1 });
    else {
      group.count += 1;
      // The first of them has the traceback, those behind it only name it.
      if (String(error.message).length > String(group.message).length) group.message = error.message;
    }
  }
  return [...groups.values()];
}

function errorItem(error) {
  const line = firstLine(error.message);
  const fullText = String(error.message).trim();
  return h(
    "li",
    {},
    h(
      "span",
      { class: "quiet-text" },
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

/** Options of `drawErrors` for a function: errors belong to the revision that they happened in. */
export function lastChange(fn) {
  const { state, message } = fn?.status?.operation ?? {};
  return { since: revisionSince(fn), knownMessage: state === "failed" ? (message ?? "") : "" };
}

// The dashboard tells seconds.
const toMilliseconds = (time) =>
  typeof time === "number" && time < 1e12 ? time * 1000 : new Date(time).getTime();
