// The tables of the list: a section for each project, a row for each function.

import { h, withCode, timeElement } from "./dom.js";
import { firstLine, pill, replicasOf, titleOf, typeOf, stateOf } from "./states.js";

const COLUMNS = ["Function", "State", "Platform", "Port", "Replicas", "GPU"];

/**
 * Make the children of `parent` those of `items`, in order. A child stays as long as its item says
 * the same, so that focus and selection stay with it.
 */
export function updateChildren(parent, items, keyOf, render, extraKey = () => "") {
  const oldNodes = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  items.forEach((item, index) => {
    const key = keyOf(item);
    const signature = JSON.stringify(item) + extraKey();
    let node = oldNodes.get(key);
    oldNodes.delete(key);
    if (!node || node.says !== signature) {
      const newNode = render(item);
      newNode.dataset.key = key;
      newNode.says = signature;
      if (node) replaceNode(node, newNode);
      node = newNode;
    }
    if (parent.children[index] !== node) parent.insertBefore(node, parent.children[index] ?? null);
  });
  for (const node of oldNodes.values()) node.remove();
}

function replaceNode(node, newNode) {
  const focused = node.contains(document.activeElement);
  node.replaceWith(newNode);
  if (focused) (newNode.matches("button") ? newNode : newNode.querySelector("a"))?.focus();
}

/** The table of a project: `{node, rows, count}`. */
export function projectSection(name) {
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
          COLUMNS.map((title) => h("th", { role: "columnheader", scope: "col" }, title)),
        ),
      ),
      rows,
    ),
  );
  return { node, rows, count };
}

/** A function as a row; `error` of it is the last record of that level in its log. */
export function functionRow(fn) {
  const { status = {}, spec = {} } = fn;
  const description = [titleOf(fn), typeOf(fn)].filter(Boolean).join(" · ") || spec.description;
  const address = `#/functions/${encodeURIComponent(fn.key)}`;
  const isShadowed = fn.key.includes("@"); // by one of that name elsewhere; the API knows that one
  return h(
    "tr",
    { role: "row" },
    cell(
      "Function",
      isShadowed ? h("span", { class: "name" }, fn.key) : h("a", { class: "name", href: address }, fn.key),
      description && h("span", { class: "about" }, description),
    ),
    cell("State", ...stateCell(fn)),
    cell("Platform", status.platform),
    cell("Port", status.httpPort ? String(status.httpPort) : ""),
    cell("Replicas", replicasOf(fn)),
    cell("GPU", status.gpu ? String(status.gpu) : ""),
  );
}

function cell(label, ...children) {
  const attributes = { role: "cell", "data-label": label };
  if (!children.some(Boolean)) attributes.class = "blank";
  return h("td", attributes, children.some(Boolean) ? children : "–");
}

function stateCell({ status = {}, error }) {
  const { setAside, notes = [], operation, message } = status;
  const busy = ["waiting", "running"].includes(operation?.state);
  const reason = firstLine(busy ? operation.message || message : message);
  return [
    pill(stateOf({ status })),
    setAside && [
      " ",
      h(
        "span",
        { class: "pill warn" },
        h("span", { class: "shape", "aria-hidden": "true" }, "▽"),
        "set aside",
      ),
    ],
    reason && h("span", { class: "reason" }, withCode(reason)),
    setAside && h("span", { class: "reason" }, withCode(setAside)),
    ...notes.map((text) => h("span", { class: "about" }, withCode(text))),
    error &&
      !reason.includes(firstLine(error.message)) &&
      h(
        "span",
        { class: "reason" },
        "Last error ",
        timeElement(error.time * 1000),
        `: ${firstLine(error.message)}`,
      ),
  ];
}
