// An operation of a function: its output as it arrives, then its result.

import { ApiError, eventStream, functionPath, pause } from "./api.js";
import { h, setChildren } from "./dom.js";
import { errorBox, pill } from "./states.js";

const RETRY_MS = 1000;
const FINAL_STATES = ["done", "failed"];
/** @type {Record<string, string>} */
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

/**
 * Return the title of an operation.
 *
 * @param {string} action
 * @param {string} name
 */
export const operationTitle = (action, name) => `${TITLES[action] ?? "Deploying"} ${name}`;

/**
 * Show a function's newest operation in `container` until it ends; return it, or null if there is none or
 * `signal` was aborted. With `inView` the page scrolls to it.
 *
 * @param {Element} container
 * @param {string} name
 * @param {{title: string, signal: AbortSignal, inView?: boolean}} options
 * @returns {Promise<Operation | null>}
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
  /** @type {Operation | null} */
  let last = null;
  /** @type {OutputLine | null} */
  let newestLine = null;
  while (!signal.aborted && !FINAL_STATES.includes(last?.state ?? "")) {
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
    if (!FINAL_STATES.includes(last?.state ?? "")) await pause(RETRY_MS, signal);
  }
  if (signal.aborted || !last) return null;
  if (last.state === "failed") {
    const hint = remedyOf(last, newestLine);
    setChildren(result, errorBox({ message: last.message, hint }));
    removeShownErrors(lines, [last.message, hint]);
  }
  return last;
}

/**
 * Scroll to `container`, also when it grows, until the user scrolls.
 *
 * @param {Element} container
 * @param {AbortSignal} signal
 */
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

/**
 * Return the newest line if it is an error that the message does not contain: a failed operation ends with
 * its remedy.
 *
 * @param {Operation} operation
 * @param {OutputLine | null} newestLine
 */
function remedyOf({ message }, newestLine) {
  return newestLine?.level === "error" && !message.includes(newestLine.message) ? newestLine.message : "";
}

/**
 * Remove errors at the end of the output that are shown below it.
 *
 * @param {HTMLElement} lines
 * @param {string[]} shownTexts
 */
function removeShownErrors(lines, shownTexts) {
  for (let line = lines.lastElementChild; line?.className === "error"; line = lines.lastElementChild) {
    const { textContent } = line;
    if (!shownTexts.some((text) => text.includes(textContent ?? ""))) break;
    line.remove();
  }
  lines.hidden = !lines.hasChildNodes();
}

/**
 * @param {HTMLElement} lines
 * @param {OutputLine} line
 */
function addLine(lines, { level, message }) {
  const wasAtEnd = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 40;
  lines.append(h("li", { class: level === "error" || level === "warning" ? level : null }, message));
  if (wasAtEnd) lines.scrollTop = lines.scrollHeight;
}
