// The tables of the list: a section for each project, a row for each function.

import { h, prose, when } from "./dom.js";
import { firstLine, pill, replicasOf, titleOf, typeOf, wordOf } from "./states.js";

const COLUMNS = ["Function", "State", "Platform", "Port", "Replicas", "GPU"];

/**
 * Make the children of `parent` those of `items`, in order. A child stays as long as its item says
 * the same, so that focus and selection stay with it.
 */
export function keyed(parent, items, keyOf, make, more = () => "") {
  const old = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  items.forEach((item, index) => {
    const key = keyOf(item);
    const says = JSON.stringify(item) + more();
    let node = old.get(key);
    old.delete(key);
    if (!node || node.says !== says) {
      const made = make(item);
      made.dataset.key = key;
      made.says = says;
      if (node) exchange(node, made);
      node = made;
    }
    if (parent.children[index] !== node) parent.insertBefore(node, parent.children[index] ?? null);
  });
  for (const node of old.values()) node.remove();
}

function exchange(node, made) {
  const focused = node.contains(document.activeElement);
  node.replaceWith(made);
  if (focused) (made.matches("button") ? made : made.querySelector("a"))?.focus();
}

/** The table of a project: `{node, rows, count}`. */
export function sectionOf(name) {
  const rows = h("tbody", { role: "rowgroup" });
  const count = h("span", { class: "count" });
  const heading = `project-${name}`;
  const node = h(
    "section",
    { "aria-labelledby": heading },
    h("h2", { id: heading, class: "project" }, name, " ", count),
    h(
      "table",
      { role: "table", class: "functions", "aria-labelledby": heading },
      h(
        "thead",
        { role: "rowgroup" },
        h(
          "tr",
          { role: "row" },
          COLUMNS.map((one) => h("th", { role: "columnheader", scope: "col" }, one)),
        ),
      ),
      rows,
    ),
  );
  return { node, rows, count };
}

/** A function as a row; `error` of it is the last record of that level in its log. */
export function row(one) {
  const { status = {}, spec = {} } = one;
  const about = [titleOf(one), typeOf(one)].filter(Boolean).join(" · ") || spec.description;
  const address = `#/functions/${encodeURIComponent(one.key)}`;
  const shadowed = one.key.includes("@"); // by one of that name elsewhere; the API knows that one
  return h(
    "tr",
    { role: "row" },
    cell(
      "Function",
      shadowed ? h("span", { class: "name" }, one.key) : h("a", { class: "name", href: address }, one.key),
      about && h("span", { class: "about" }, about),
    ),
    cell("State", ...stateOf(one)),
    cell("Platform", status.platform),
    cell("Port", status.httpPort ? String(status.httpPort) : ""),
    cell("Replicas", replicasOf(one)),
    cell("GPU", status.gpu ? String(status.gpu) : ""),
  );
}

function cell(label, ...children) {
  const attributes = { role: "cell", "data-label": label };
  if (!children.some(Boolean)) attributes.class = "blank";
  return h("td", attributes, children.some(Boolean) ? children : "–");
}

function stateOf({ status = {}, error }) {
  const { setAside, notes = [], operation, message } = status;
  const busy = ["waiting", "running"].includes(operation?.state);
  const reason = firstLine(busy ? operation.message || message : message);
  return [
    pill(wordOf({ status })),
    setAside && [
      " ",
      h(
        "span",
        { class: "pill warn" },
        h("span", { class: "shape", "aria-hidden": "true" }, "▽"),
        "set aside",
      ),
    ],
    reason && h("span", { class: "reason" }, prose(reason)),
    setAside && h("span", { class: "reason" }, prose(setAside)),
    ...notes.map((text) => h("span", { class: "about" }, prose(text))),
    error &&
      !reason.includes(firstLine(error.message)) &&
      h("span", { class: "reason" }, "Last error ", when(error.time * 1000), `: ${firstLine(error.message)}`),
  ];
}
