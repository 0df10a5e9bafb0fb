// A change under way: its lines as they come, then how it ended.

import { eventStream, functionPath, ApiError } from "./api.js";
import { setChildren, h } from "./dom.js";
import { pill, errorBox } from "./states.js";

const RETRY_MS = 1000;
const FINAL_STATES = ["done", "failed"];
const TITLES = {
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
export const operationTitle = (action, name) => `${TITLES[action] ?? "Deploying"} ${name}`;

/** Whether something of a function answers requests. */
export const isServing = (fn) => (fn?.status?.replicas?.available ?? 0) > 0;

/** Whether a function's newest operation has not ended. */
export const isBusy = (fn) => ["waiting", "running"].includes(fn?.status?.operation?.state);

/**
 * Show a function's newest operation in `place` until it ends.
 *
 * Returns its last `{state, message}`, or null when there is none or `signal` stopped it. `title` is
 * what happens, as "Deploying echo". With `inView` the page scrolls so that it is seen.
 */
export async function watchOperation(container, name, { title, signal, inView = false }) {
  const state = h("span", { role: "status" }, pill("waiting"));
  const lines = h("ol", { class: "output", tabindex: "0", role: "log", "aria-label": "Output" });
  const result = h("div");
  setChildren(
    container,
    h(
      "section",
      { class: "card", "aria-label": title },
      h("div", { class: "head" }, h("h2", {}, title), state),
      lines,
      result,
    ),
  );
  if (inView) keepInView(container, signal);
  let last = null;
  let newestLine = null; // the newest line
  while (!signal.aborted && !FINAL_STATES.includes(last?.state)) {
    try {
      setChildren(lines);
      for await (const { event, data } of eventStream(functionPath(name, "operation/stream"), { signal })) {
        if (event === "line") addLine(lines, (newestLine = data));
        else if (event === "state") {
          last = data;
          setChildren(state, pill(data.state));
        }
      }
    } catch (error) {
      if (signal.aborted) return null;
      if (error instanceof ApiError && error.status === 404) {
        setChildren(container);
        return null;
      }
    }
    if (!FINAL_STATES.includes(last?.state)) await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
  if (signal.aborted) return null;
  if (last.state === "failed") {
    const hint = remedyOf(last, newestLine);
    setChildren(result, errorBox({ message: last.message, hint }));
    removeShownErrors(lines, [last.message, hint]);
  }
  return last;
}

// Scroll to `place`, also when it grows, until the user scrolls.
function keepInView(container, signal) {
  const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const show = () =>
    container.scrollIntoView({ block: "nearest", behavior: reducedMotion ? "auto" : "smooth" });
  const resizeObserver = new ResizeObserver(show);
  resizeObserver.observe(container);
  show();
  const stop = new AbortController();
  const stopScrolling = () => (resizeObserver.disconnect(), stop.abort());
  signal.addEventListener("abort", stopScrolling, { signal: stop.signal });
  for (const kind of ["wheel", "touchmove", "pointerdown", "keydown"])
    addEventListener(kind, stopScrolling, { signal: stop.signal, passive: true });
}

// What failed ends with its remedy, where it has one.
function remedyOf({ message }, newestLine) {
  return newestLine?.level === "error" && !message.includes(newestLine.message) ? newestLine.message : "";
}

// What is told below the output does not stand at its end as well.
function removeShownErrors(lines, shownTexts) {
  while (
    lines.lastChild?.className === "error" &&
    shownTexts.some((text) => text.includes(lines.lastChild.textContent))
  ) {
    lines.lastChild.remove();
  }
  lines.hidden = !lines.hasChildNodes();
}

function addLine(lines, { level, message }) {
  const wasAtEnd = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 40;
  lines.append(h("li", { class: level === "error" || level === "warning" ? level : null }, message));
  if (wasAtEnd) lines.scrollTop = lines.scrollHeight;
}
