// The view of one function: its state and what can be done with it above, one tab below.
//
// A tab is a module with `show(root, params, context)`, as views are. `params.name` is the function;
// `context` has beside what app.js gives
//   current()           the function object as the dashboard last told it, or null
//   onChange(listener)  calls it at every change of the function while the tab is shown
//   beside              an element beside the tabs, for what a tab has to choose

import { call, inFunction, load } from "./api.js";
import { confirmed, toast } from "./dialogs.js";
import { fill, h, put } from "./dom.js";
import { live, watch } from "./live.js";
import { serves } from "./operation.js";
import { pill, problem, projectOf, titleOf, wordOf } from "./states.js";

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
  let known = await firstLook(name, context.signal);
  let listed = name in live.functions;
  const current = () => live.functions[name] ?? known;
  const head = h("div", { class: "head" });
  const said = h("div");
  const body = h("div", { class: "stack", id: "tab" });
  const beside = h("div", { class: "beside-tabs" });
  root.classList.toggle("compact", tab === "playground");
  put(
    root,
    h("div", { class: "function-head" }, crumbs(), head),
    said,
    h("div", { class: "tab-row" }, tabs(name, tab), beside),
    body,
  );
  drawHead();
  const stop = watch(changed);
  context.signal.addEventListener("abort", stop);
  const module = await load(TABS[tab][1]);
  if (context.signal.aborted) return stop;
  const undo = await module.show(body, params, {
    ...context,
    current,
    beside,
    onChange: (listener) => listeners.add(listener),
  });
  return () => undo?.();

  // A list may be a moment older than the function that was asked for: only what has been in it can
  // go out of it.
  function changed() {
    const there = name in live.functions;
    if (there !== listed && live.connection === "live") {
      if (there) fill(said);
      else gone();
      listed = there;
    }
    drawHead();
    for (const listener of listeners) listener(current());
  }

  function gone() {
    known = null;
    fill(
      said,
      h(
        "p",
        { class: "problem", role: "alert" },
        `${name} is not there any more. `,
        h("a", { href: "#/" }, "All functions"),
      ),
    );
  }

  function drawHead() {
    const one = current();
    const shown = JSON.stringify([wordOf(one), one?.status?.operation?.state, titleOf(one ?? {})]);
    if (head.shown === shown) return;
    head.shown = shown;
    const focused = head.contains(document.activeElement) && document.activeElement.textContent;
    fill(
      head,
      h("h1", {}, name),
      h("span", { role: "status" }, one && pill(wordOf(one))),
      one && titleOf(one) && h("span", { class: "quiet-text" }, titleOf(one)),
      one && h("div", { class: "tools" }, actions(one)),
    );
    if (focused) [...head.querySelectorAll("button")].find((b) => b.textContent === focused)?.focus();
  }

  function crumbs() {
    const one = current();
    return h(
      "p",
      { class: "crumbs" },
      h("a", { href: "#/" }, "Functions"),
      one && ` / ${projectOf(one)} on ${one.status?.platform ?? "?"}`,
    );
  }

  function actions(one) {
    const busy = ["waiting", "running"].includes(one.status?.operation?.state);
    const button = (text, action, attributes = {}) =>
      h("button", { type: "button", disabled: busy, onclick: action, ...attributes }, text);
    return [
      isOff(one)
        ? button(wordOf(one) === "imported" ? "Deploy" : "Enable", enable)
        : button("Redeploy", redeploy),
      !isOff(one) && button("Disable", disable),
      button("Delete", remove, { class: "danger" }),
    ];
  }

  async function redeploy() {
    const until = serves(current()) ? " What runs now serves until the new revision is ready." : "";
    const question = `${name} is built again from its stored configuration.${until}`;
    if (!(await confirmed(`Redeploy ${name}?`, question, { yes: "Redeploy" }))) return;
    await changedBy(start, `${name} is being deployed`);
  }

  async function enable() {
    await changedBy(() => (current().spec?.disable ? disabled(false) : start()), `${name} is being started`);
  }

  async function disable() {
    const question =
      `Nothing of ${name} runs until it is enabled again. ` + "Its configuration and revisions stay.";
    if (!(await confirmed(`Disable ${name}?`, question, { yes: "Disable" }))) return;
    await changedBy(() => disabled(true), `${name} is being disabled`);
  }

  async function remove() {
    const question = [`${name} stops and goes, with its revisions and its log.`, "This cannot be undone."];
    if (!(await confirmed(`Delete ${name}?`, question, { yes: "Delete", danger: true }))) return;
    const went = await changedBy(() => call("DELETE", inFunction(name)), `${name} is deleted`);
    if (went) context.navigate("#/");
  }

  function start() {
    return call("PATCH", inFunction(name), { json: { desiredState: "ready" } });
  }

  // The configuration as it is stored, with its code and its redacted secrets, which stay.
  async function disabled(disable) {
    const { metadata, spec } = await call("GET", inFunction(name));
    await call("PUT", inFunction(name), { json: { metadata, spec: { ...spec, disable } } });
  }

  async function changedBy(change, word) {
    fill(said);
    try {
      await change();
      toast(word);
      return true;
    } catch (error) {
      fill(said, problem(error));
      return false;
    }
  }
}

async function firstLook(name, signal) {
  if (live.functions[name]) return live.functions[name];
  return call("GET", inFunction(name), { signal });
}

const isOff = (one) =>
  one.spec?.disable || ["scaledToZero", "standby", "stopped", "imported"].includes(wordOf(one));

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
