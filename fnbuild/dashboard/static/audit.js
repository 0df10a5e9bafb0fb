// The view `#/audit`: who changed what.

import { call } from "./api.js";
import { fill, h, put, when } from "./dom.js";
import { askForToken } from "./session.js";
import { problem } from "./states.js";

const LIMIT = 500;

export async function show(root, _params, { title, signal, again }) {
  title("Audit");
  const body = h("div");
  const search = h("input", {
    type: "search",
    "data-filter": true,
    placeholder: "Filter by who, what, outcome",
    "aria-label": "Filter changes",
    oninput: draw,
  });
  put(root, h("div", { class: "head" }, h("h1", {}, "Audit"), h("div", { class: "tools" }, search)), body);
  let entries = [];
  try {
    entries = (await call("GET", `/api/audit?limit=${LIMIT}`, { signal })).audit ?? [];
    draw();
  } catch (error) {
    if (signal.aborted) return;
    if (error.status === 401 || error.status === 403) fill(body, locked(again));
    else fill(body, problem(error, h("button", { type: "button", onclick: again }, "Try again")));
  }

  function draw() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = entries.filter((one) => {
      const text = Object.values(one).join(" ").toLowerCase();
      return words.every((word) => text.includes(word));
    });
    if (!entries.length) {
      const text =
        "Nothing was changed yet. Deploys, deletions and rollbacks stand here, with who made them.";
      return fill(body, h("p", { class: "empty" }, text));
    }
    fill(body, chosen.length ? table(chosen) : h("p", { class: "empty" }, "No change is like that."));
  }
}

function table(entries) {
  const head = ["When", "Who", "What", "Where", "Outcome"];
  return h(
    "table",
    { class: "rows", role: "table" },
    h(
      "thead",
      { role: "rowgroup" },
      h(
        "tr",
        { role: "row" },
        head.map((one) => h("th", { role: "columnheader", scope: "col" }, one)),
      ),
    ),
    h(
      "tbody",
      { role: "rowgroup" },
      entries.map((one) =>
        h(
          "tr",
          { role: "row" },
          [when(one.time), one.actor, one.action, one.target, one.outcome].map((value, index) =>
            h("td", { role: "cell", "data-label": head[index] }, value || "–"),
          ),
        ),
      ),
    ),
  );
}

function locked(again) {
  return h(
    "div",
    { class: "empty" },
    h("h2", {}, "Only for those who may change things"),
    h("p", {}, "The list of changes names people and addresses, so it needs the token."),
    h("button", { type: "button", class: "primary", onclick: enter }, "Sign in"),
    h("p", { class: "quiet-text" }, "On the machine itself: ", h("code", {}, "fnbuild get audit")),
  );
  async function enter() {
    if (await askForToken()) again();
  }
}
