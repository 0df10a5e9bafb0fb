// The last errors of a function, those that say the same together.

import { fill, h, when } from "./dom.js";
import { firstLine, revisionSince } from "./states.js";

/**
 * Draw `errors`, newest first as the dashboard gives them, `most` different ones at most.
 *
 * Those from before `since` (milliseconds), when the function was another one, are folded; what
 * `known` says already is left out.
 */
export function drawErrors(place, errors, { most = 10, since = 0, known = "" } = {}) {
  const says = JSON.stringify([errors, since, known]);
  if (place.says === says) return;
  place.says = says;
  const now = errors.filter((one) => moment(one.time) >= since && !known.includes(firstLine(one.message)));
  const before = errors.filter((one) => moment(one.time) < since);
  fill(
    place,
    now.length
      ? list(now, most)
      : h(
          "p",
          { class: "quiet-text" },
          since ? "None since the last change." : "None that the dashboard has seen.",
        ),
    before.length > 0 &&
      h("details", {}, h("summary", {}, `Before the last change (${before.length})`), list(before, most)),
  );
}

function list(errors, most) {
  return h("ul", { class: "plain" }, together(errors).slice(0, most).map(item));
}

/** Errors that say the same as one, at the place of the newest: `{...newest, count, message}`. */
function together(errors) {
  const groups = new Map();
  for (const one of errors) {
    const key = firstLine(one.message);
    const known = groups.get(key);
    if (!known) groups.set(key, { ...one, count: 1 });
    else {
      known.count += 1;
      // The first of them has the traceback, those behind it only name it.
      if (String(one.message).length > String(known.message).length) known.message = one.message;
    }
  }
  return [...groups.values()];
}

function item(one) {
  const line = firstLine(one.message);
  const whole = String(one.message).trim();
  return h(
    "li",
    {},
    h(
      "span",
      { class: "quiet-text" },
      one.count > 1 && `${one.count}×, last `,
      when(moment(one.time)),
      one.status ? ` · ${one.status}` : "",
      one.requestId ? ` · ${one.requestId}` : "",
    ),
    !whole.includes("\n")
      ? h("p", {}, line)
      : h("details", {}, h("summary", {}, line), h("pre", { class: "message" }, whole)),
  );
}

/** Options of `drawErrors` for a function: errors belong to the revision that they happened in. */
export function lastChange(one) {
  const { state, message } = one?.status?.operation ?? {};
  return { since: revisionSince(one), known: state === "failed" ? (message ?? "") : "" };
}

// The dashboard tells seconds.
const moment = (time) => (typeof time === "number" && time < 1e12 ? time * 1000 : new Date(time).getTime());
