// A change under way: its lines as they come, then how it ended.

import { events, inFunction, Refused } from "./api.js";
import { fill, h } from "./dom.js";
import { pill, problem } from "./states.js";

const AGAIN_MS = 1000;
const ENDED = ["done", "failed"];
const WORDS = {
  delete: "Deleting",
  disable: "Disabling",
  enable: "Enabling",
  import: "Importing",
  redeploy: "Redeploying",
  restore: "Restoring",
  rollback: "Rolling back",
  update: "Updating",
};

/** What an operation does to a function, as a title. */
export const doing = (action, name) => `${WORDS[action] ?? "Deploying"} ${name}`;

/** Whether something of a function answers requests. */
export const serves = (one) => (one?.status?.replicas?.available ?? 0) > 0;

/** Whether a function's newest operation has not ended. */
export const isBusy = (one) => ["waiting", "running"].includes(one?.status?.operation?.state);

/**
 * Show a function's newest operation in `place` until it ends.
 *
 * Returns its last `{state, message}`, or null when there is none or `signal` stopped it. `title` is
 * what happens, as "Deploying echo". With `inView` the page scrolls so that it is seen.
 */
export async function watchOperation(place, name, { title, signal, inView = false }) {
  const state = h("span", { role: "status" }, pill("waiting"));
  const lines = h("ol", { class: "output", tabindex: "0", role: "log", "aria-label": "Output" });
  const result = h("div");
  fill(
    place,
    h(
      "section",
      { class: "card", "aria-label": title },
      h("div", { class: "head" }, h("h2", {}, title), state),
      lines,
      result,
    ),
  );
  if (inView) keepInView(place, signal);
  let last = null;
  let word = null; // the newest line
  while (!signal.aborted && !ENDED.includes(last?.state)) {
    try {
      fill(lines);
      for await (const { event, data } of events(inFunction(name, "operation/stream"), { signal })) {
        if (event === "line") addLine(lines, (word = data));
        else if (event === "state") {
          last = data;
          fill(state, pill(data.state));
        }
      }
    } catch (error) {
      if (signal.aborted) return null;
      if (error instanceof Refused && error.status === 404) {
        fill(place);
        return null;
      }
    }
    if (!ENDED.includes(last?.state)) await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
  if (signal.aborted) return null;
  if (last.state === "failed") {
    const hint = remedy(last, word);
    fill(result, problem({ message: last.message, hint }));
    withoutEnd(lines, [last.message, hint]);
  }
  return last;
}

// Scroll to `place`, also when it grows, until the user scrolls.
function keepInView(place, signal) {
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const show = () => place.scrollIntoView({ block: "nearest", behavior: calm ? "auto" : "smooth" });
  const growth = new ResizeObserver(show);
  growth.observe(place);
  show();
  const stop = new AbortController();
  const end = () => (growth.disconnect(), stop.abort());
  signal.addEventListener("abort", end, { signal: stop.signal });
  for (const kind of ["wheel", "touchmove", "pointerdown", "keydown"])
    addEventListener(kind, end, { signal: stop.signal, passive: true });
}

// What failed ends with its remedy, where it has one.
function remedy({ message }, word) {
  return word?.level === "error" && !message.includes(word.message) ? word.message : "";
}

// What is told below the output does not stand at its end as well.
function withoutEnd(lines, told) {
  while (
    lines.lastChild?.className === "error" &&
    told.some((text) => text.includes(lines.lastChild.textContent))
  ) {
    lines.lastChild.remove();
  }
  lines.hidden = !lines.hasChildNodes();
}

function addLine(lines, { level, message }) {
  const below = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 40;
  lines.append(h("li", { class: level === "error" || level === "warning" ? level : null }, message));
  if (below) lines.scrollTop = lines.scrollHeight;
}
