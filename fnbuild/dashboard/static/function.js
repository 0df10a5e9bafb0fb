// The view of a function: its state and actions at the top, one tab below.
//
// A tab is a module with `show(root, params, context)`, like a view. `params.name` is the function; in
// addition to what app.js passes, `context` has
//   current()           returns the latest function object, or null
//   onChange(listener)  calls it after every change of the function while the tab is shown
//   tabTools            is an element next to the tabs for the tab's own controls

import { call, functionPath, loadModule } from "./api.js";
import { confirmAction, toast } from "./dialogs.js";
import { append, button, h, hasChanged, setChildren } from "./dom.js";
import { live, watch } from "./live.js";
import {
  errorBox,
  isBusy,
  isServing,
  pill,
  projectOf,
  shownStateOf,
  sleepOf,
  stateOf,
  titleOf,
} from "./states.js";

/** @type {Record<string, string[]>} */
const TABS = {
  "": ["Overview", "./overview.js"],
  playground: ["Playground", "./playground.js"],
  logs: ["Logs", "./logs.js"],
  charts: ["Charts", "./charts.js"],
  revisions: ["Revisions", "./revisions.js"],
  configuration: ["Configuration", "./configuration.js"],
};

/**
 * @param {HTMLElement} root
 * @param {Record<string, string>} params
 * @param {ViewContext} context
 */
export async function show(root, params, context) {
  const { name, tab } = params;
  if (!Object.hasOwn(TABS, tab)) throw new Error(`a function has no page ${tab}`);
  context.title(tab ? `${name} · ${TABS[tab][0]}` : name);
  /** @typedef {(fn: FunctionObject | null) => void} Listener */
  /** @type {Set<Listener>} */
  const listeners = new Set();
  /** @type {FunctionObject | null} */
  let fetched = await fetchFunction(name, context.signal);
  let wasListed = name in live.functions;
  const current = () => live.functions[name] ?? fetched;
  const head = h("div", { class: "head" });
  const feedback = h("div");
  const body = h("div", { class: "stack", id: "tab" });
  const tabTools = h("div", { class: "tab-tools" });
  root.classList.toggle("compact", tab === "playground");
  append(
    root,
    h("div", { class: "function-head" }, breadcrumbs(), head),
    feedback,
    h("div", { class: "tab-row" }, tabs(name, tab), tabTools),
    body,
  );
  drawHead();
  const stop = watch(onUpdate);
  context.signal.addEventListener("abort", stop);
  const module = await loadModule(TABS[tab][1]);
  if (context.signal.aborted) return stop;
  const cleanUp = await module.show(body, params, {
    ...context,
    current,
    tabTools,
    onChange: (/** @type {Listener} */ listener) => listeners.add(listener),
  });
  return () => cleanUp?.();

  // The list may be older than the fetched function: only a listed function can disappear.
  function onUpdate() {
    const isListed = name in live.functions;
    if (isListed !== wasListed && live.connection === "live") {
      if (isListed) setChildren(feedback);
      else showRemoved();
      wasListed = isListed;
    }
    drawHead();
    for (const listener of listeners) listener(current());
  }

  function showRemoved() {
    fetched = null;
    setChildren(
      feedback,
      h(
        "p",
        { class: "error-box", role: "alert" },
        `${name} has been deleted. `,
        h("a", { href: "#/" }, "All functions"),
      ),
    );
  }

  function drawHead() {
    const fn = current();
    if (!hasChanged(head, shownStateOf(fn), fn?.status?.operation?.state, titleOf(fn ?? {}))) return;
    const focused = head.contains(document.activeElement) && document.activeElement?.textContent;
    setChildren(
      head,
      h("h1", {}, name),
      h("span", { role: "status" }, fn && pill(shownStateOf(fn))),
      fn && titleOf(fn) && h("span", { class: "muted" }, titleOf(fn)),
      fn && h("div", { class: "tools" }, actions(fn)),
    );
    if (focused) [...head.querySelectorAll("button")].find((b) => b.textContent === focused)?.focus();
  }

  function breadcrumbs() {
    const fn = current();
    return h(
      "p",
      { class: "breadcrumbs" },
      h("a", { href: "#/" }, "Functions"),
      fn && ` / ${projectOf(fn)} on ${fn.status?.platform ?? "?"}`,
    );
  }

  /** @param {FunctionObject} fn */
  function actions(fn) {
    const disabled = isBusy(fn);
    return [
      isInactive(fn)
        ? button(stateOf(fn) === "imported" ? "Deploy" : "Enable", enable, { disabled })
        : button("Redeploy", redeploy, { disabled }),
      !isInactive(fn) && sleepButton(fn, disabled),
      !isInactive(fn) && button("Disable", disable, { disabled }),
      button("Delete", remove, { disabled, class: "danger" }),
    ];
  }

  /**
   * @param {FunctionObject} fn
   * @param {boolean} disabled
   */
  function sleepButton(fn, disabled) {
    if (!fn.status?.sleep) return null;
    return sleepOf(fn)
      ? button("Wake", () => changeSleep("awake"), { disabled })
      : button("Sleep", () => changeSleep("asleep"), { disabled });
  }

  /** @param {"asleep" | "awake"} state */
  async function changeSleep(state) {
    const change = () => call("PUT", `${functionPath(name)}/sleep`, { json: { state } });
    await applyChange(change, `${name} is ${state}`);
  }

  async function redeploy() {
    const note = isServing(current()) ? " The current revision serves until the new one is ready." : "";
    const question = `${name} is rebuilt from its stored configuration.${note}`;
    if (!(await confirmAction(`Redeploy ${name}?`, question, { confirmLabel: "Redeploy" }))) return;
    await applyChange(start, `${name} is being deployed`);
  }

  async function enable() {
    await applyChange(
      () => (current().spec?.disable ? setDisabled(false) : start()),
      `${name} is being started`,
    );
  }

  async function disable() {
    const keptText = "Its configuration and revisions are kept.";
    const question = `${name} does not run until it is enabled again. ${keptText}`;
    if (!(await confirmAction(`Disable ${name}?`, question, { confirmLabel: "Disable" }))) return;
    await applyChange(() => setDisabled(true), `${name} is being disabled`);
  }

  async function remove() {
    const question = [`${name}, its revisions and its log are deleted.`, "This cannot be undone."];
    if (!(await confirmAction(`Delete ${name}?`, question, { confirmLabel: "Delete", danger: true }))) return;
    const deleted = await applyChange(() => call("DELETE", functionPath(name)), `${name} is deleted`);
    if (deleted) context.navigate("#/");
  }

  function start() {
    return call("PATCH", functionPath(name), { json: { desiredState: "ready" } });
  }

  /**
   * Store the configuration with its code and its redacted secrets, which stay.
   *
   * @param {boolean} disable
   */
  async function setDisabled(disable) {
    const { metadata, spec } = await call("GET", functionPath(name));
    await call("PUT", functionPath(name), { json: { metadata, spec: { ...spec, disable } } });
  }

  /**
   * @param {() => Promise<unknown>} change
   * @param {string} message
   */
  async function applyChange(change, message) {
    setChildren(feedback);
    try {
      await change();
      toast(message);
      return true;
    } catch (error) {
      setChildren(feedback, errorBox(error));
      return false;
    }
  }
}

/**
 * @param {string} name
 * @param {AbortSignal} signal
 */
async function fetchFunction(name, signal) {
  if (live.functions[name]) return live.functions[name];
  return call("GET", functionPath(name), { signal });
}

/** @param {FunctionObject} fn */
const isInactive = (fn) =>
  fn.spec?.disable || ["scaledToZero", "standby", "stopped", "imported"].includes(stateOf(fn) ?? "");

/**
 * @param {string} name
 * @param {string} tab
 */
function tabs(name, tab) {
  const base = `#/functions/${encodeURIComponent(name)}`;
  return h(
    "nav",
    { class: "tabs", "aria-label": `Pages of ${name}` },
    Object.entries(TABS).map(([key, [title]]) =>
      h("a", { href: key ? `${base}/${key}` : base, "aria-current": key === tab && "page" }, title),
    ),
  );
}
