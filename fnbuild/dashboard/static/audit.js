// The view `#/audit`: the log of changes.

import { call } from "./api.js";
import { append, button, h, setChildren, table, timeElement, wordFilter } from "./dom.js";
import { askForToken } from "./session.js";
import { errorBox } from "./states.js";

/** @typedef {Record<"time" | "actor" | "action" | "target" | "outcome", string>} AuditEntry */

const LIMIT = 500;
const COLUMNS = ["Time", "Actor", "Action", "Target", "Outcome"];

/**
 * @param {HTMLElement} root
 * @param {Record<string, string>} _params
 * @param {ViewContext} context
 */
export async function show(root, _params, { title, signal, reload }) {
  title("Audit");
  const body = h("div");
  const search = h("input", {
    type: "search",
    "data-filter": true,
    placeholder: "Filter by actor, action, outcome",
    "aria-label": "Filter changes",
    oninput: draw,
  });
  append(root, h("div", { class: "head" }, h("h1", {}, "Audit"), h("div", { class: "tools" }, search)), body);
  /** @type {AuditEntry[]} */
  let entries = [];
  try {
    entries = (await call("GET", `/api/audit?limit=${LIMIT}`, { signal })).audit ?? [];
    draw();
  } catch (error) {
    if (signal.aborted) return;
    if (error.status === 401 || error.status === 403) setChildren(body, signInPrompt(reload));
    else setChildren(body, errorBox(error, button("Try again", reload)));
  }

  function draw() {
    const matches = wordFilter(search.value);
    const matching = entries.filter((entry) => matches(...Object.values(entry)));
    const none = entries.length
      ? "No matching changes."
      : "No changes yet. Deploys, deletions and rollbacks appear here with the user who made them.";
    const rows = matching.map(auditRow);
    setChildren(
      body,
      rows.length ? table(COLUMNS, rows, { class: "rows" }) : h("p", { class: "empty" }, none),
    );
  }
}

/** @param {AuditEntry} entry */
function auditRow({ time, actor, action, target, outcome }) {
  const cells = [timeElement(time), actor, action, target, outcome];
  return h(
    "tr",
    { role: "row" },
    cells.map((cell, index) => h("td", { role: "cell", "data-label": COLUMNS[index] }, cell || "–")),
  );
}

/** @param {() => void} reload */
function signInPrompt(reload) {
  return h(
    "div",
    { class: "empty" },
    h("h2", {}, "Not signed in"),
    h("p", {}, "The log of changes has names and addresses, so it needs the token."),
    button("Sign in", signIn, { class: "primary" }),
    h("p", { class: "muted" }, "On the machine itself: ", h("code", {}, "fnbuild get audit")),
  );
  async function signIn() {
    if (await askForToken()) reload();
  }
}
