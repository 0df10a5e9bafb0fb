// The view `#/audit`: who changed what.

import { call } from "./api.js";
import { setChildren, h, append, timeElement } from "./dom.js";
import { askForToken } from "./session.js";
import { errorBox } from "./states.js";

const LIMIT = 500;

export async function show(root, _params, { title, signal, again: reload }) {
  title("Audit");
  const body = h("div");
  const search = h("input", {
    type: "search",
    "data-filter": true,
    placeholder: "Filter by who, what, outcome",
    "aria-label": "Filter changes",
    oninput: draw,
  });
  append(root, h("div", { class: "head" }, h("h1", {}, "Audit"), h("div", { class: "tools" }, search)), body);
  let entries = [];
  try {
    entries = (await call("GET", `/api/audit?limit=${LIMIT}`, { signal })).audit ?? [];
    draw();
  } catch (error) {
    if (signal.aborted) return;
    if (error.status === 401 || error.status === 403) setChildren(body, signInPrompt(reload));
    else setChildren(body, errorBox(error, h("button", { type: "button", onclick: reload }, "Try again")));
  }

  function draw() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const matching = entries.filter((entry) => {
      const text = Object.values(entry).join(" ").toLowerCase();
      return words.every((word) => text.includes(word));
    });
    if (!entries.length) {
      const text =
        "Nothing was changed yet. Deploys, deletions and rollbacks stand here, with who made them.";
      return setChildren(body, h("p", { class: "empty" }, text));
    }
    setChildren(
      body,
      matching.length ? table(matching) : h("p", { class: "empty" }, "No change is like that."),
    );
  }
}

function table(entries) {
  const titles = ["When", "Who", "What", "Where", "Outcome"];
  return h(
    "table",
    { class: "rows", role: "table" },
    h(
      "thead",
      { role: "rowgroup" },
      h(
        "tr",
        { role: "row" },
        titles.map((title) => h("th", { role: "columnheader", scope: "col" }, title)),
      ),
    ),
    h(
      "tbody",
      { role: "rowgroup" },
      entries.map((entry) =>
        h(
          "tr",
          { role: "row" },
          [timeElement(entry.time), entry.actor, entry.action, entry.target, entry.outcome].map(
            (value, index) => h("td", { role: "cell", "data-label": titles[index] }, value || "–"),
          ),
        ),
      ),
    ),
  );
}

function signInPrompt(reload) {
  return h(
    "div",
    { class: "empty" },
    h("h2", {}, "Only for those who may change things"),
    h("p", {}, "The list of changes names people and addresses, so it needs the token."),
    h("button", { type: "button", class: "primary", onclick: signIn }, "Sign in"),
    h("p", { class: "quiet-text" }, "On the machine itself: ", h("code", {}, "fnbuild get audit")),
  );
  async function signIn() {
    if (await askForToken()) reload();
  }
}
