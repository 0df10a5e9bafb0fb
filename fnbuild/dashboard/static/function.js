// The view of one function: its state and what can be done with it above, one tab below.
//
// A tab is a module with `show(root, params, context)`, as views are. `params.name` is the function;
// `context` has beside what app.js gives
//   current()           the function object as the dashboard last told it, or null
//   onChange(listener)  calls it at every change of the function while the tab is shown
//   beside              an element beside the tabs, for what a tab has to choose

import { call, functionPath, loadModule } from "./api.js";
import { confirmAction, toast } from "./dialogs.js";
import { setChildren, h, append } from "./dom.js";
import { live, watch } from "./live.js";
import { isServing } from "./operation.js";
import { pill, errorBox, projectOf, titleOf, stateOf } from "./states.js";

const TABS = {
  "": ["Overview", "./overview.js"],
  playground: ["Playground", "./playground.js"],
  logs: ["Logs", "./logs.js"],
  charts: ["Charts", "./charts.js"],
  revisions: ["Revisions", "./revisions.js"],
  configuration: ["Configuration", "./configuration.js"],
};

export async function show(root, params, context) {
  const { name, tab } = params;
  if (!Object.hasOwn(TABS, tab)) throw new Error(`a function has no page ${tab}`);
  context.title(tab ? `${name} · ${TABS[tab][0]}` : name);
  const listeners = new Set();
  let fetched = await fetchFunction(name, context.signal);
  let wasListed = name in live.functions;
  const current = () => live.functions[name] ?? fetched;
  const head = h("div", { class: "head" });
  const feedback = h("div");
  const body = h("div", { class: "stack", id: "tab" });
  const tabTools = h("div", { class: "beside-tabs" });
  root.classList.toggle("compact", tab === "playground");
  append(
    root,
    h("div", { class: "function-head" }, breadcrumbs(), head),
    feedback,
    h("div", { class: "tab-row" }, tabs(name, tab), tabTools),
    body,
  );
  drawHead();
  const stop = watch(changed);
  context.signal.addEventListener("abort", stop);
  const module = await loadModule(TABS[tab][1]);
  if (context.signal.aborted) return stop;
  const cleanUp = await module.show(body, params, {
    ...context,
    current,
    beside: tabTools,
    onChange: (listener) => listeners.add(listener),
  });
  return () => cleanUp?.();

  // A list may be a moment older than the function that was asked for: only what has been in it can
  // go out of it.
  function changed() {
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
        { class: "problem", role: "alert" },
        `${name} is not there any more. `,
        h("a", { href: "#/" }, "All functions"),
      ),
    );
  }

  function drawHead() {
    const fn = current();
    const shown = JSON.stringify([stateOf(fn), fn?.status?.operation?.state, titleOf(fn ?? {})]);
    if (head.shown === shown) return;
    head.shown = shown;
    const focused = head.contains(document.activeElement) && document.activeElement.textContent;
    setChildren(
      head,
      h("h1", {}, name),
      h("span", { role: "status" }, fn && pill(stateOf(fn))),
      fn && titleOf(fn) && h("span", { class: "quiet-text" }, titleOf(fn)),
      fn && h("div", { class: "tools" }, actions(fn)),
    );
    if (focused) [...head.querySelectorAll("button")].find((b) => b.textContent === focused)?.focus();
  }

  function breadcrumbs() {
    const fn = current();
    return h(
      "p",
      { class: "crumbs" },
      h("a", { href: "#/" }, "Functions"),
      fn && ` / ${projectOf(fn)} on ${fn.status?.platform ?? "?"}`,
    );
  }

  function actions(fn) {
    const busy = ["waiting", "running"].includes(fn.status?.operation?.state);
    const button = (text, action, attributes = {}) =>
      h("button", { type: "button", disabled: busy, onclick: action, ...attributes }, text);
    return [
      isInactive(fn)
        ? button(stateOf(fn) === "imported" ? "Deploy" : "Enable", enable)
        : button("Redeploy", redeploy),
      !isInactive(fn) && button("Disable", disable),
      button("Delete", remove, { class: "danger" }),
    ];
  }

  async function redeploy() {
    const note = isServing(current()) ? " What runs now serves until the new revision is ready." : "";
    const question = `${name} is built again from its stored configuration.${note}`;
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
    const question =
      `Nothing of ${name} runs until it is enabled again. ` + "Its configuration and revisions stay.";
    if (!(await confirmAction(`Disable ${name}?`, question, { confirmLabel: "Disable" }))) return;
    await applyChange(() => setDisabled(true), `${name} is being disabled`);
  }

  async function remove() {
    const question = [`${name} stops and goes, with its revisions and its log.`, "This cannot be undone."];
    if (!(await confirmAction(`Delete ${name}?`, question, { confirmLabel: "Delete", danger: true }))) return;
    const deleted = await applyChange(() => call("DELETE", functionPath(name)), `${name} is deleted`);
    if (deleted) context.navigate("#/");
  }

  function start() {
    return call("PATCH", functionPath(name), { json: { desiredState: "ready" } });
  }

  // The configuration as it is stored, with its code and its redacted secrets, which stay.
  async function setDisabled(disable) {
    const { metadata, spec } = await call("GET", functionPath(name));
    await call("PUT", functionPath(name), { json: { metadata, spec: { ...spec, disable } } });
  }

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

async function fetchFunction(name, signal) {
  if (live.functions[name]) return live.functions[name];
  return call("GET", functionPath(name), { signal });
}

const isInactive = (fn) =>
  fn.spec?.disable || ["scaledToZero", "standby", "stopped", "imported"].includes(stateOf(fn));

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
