// The tables of the list: a section for each project, a row for each function.

import { h, hasChanged, table, timeElement, withCode } from "./dom.js";
import { firstLine, isBusy, pill, replicasOf, shownStateOf, titleOf, typeOf } from "./states.js";

const COLUMNS = ["Function", "State", "Platform", "Port", "Replicas", "GPU"];

/**
 * Update the children of `parent` to those of `items`, in order. A child whose item is unchanged stays, and
 * with it focus and selection.
 *
 * @template Item
 * @param {Element} parent
 * @param {Item[]} items
 * @param {(item: Item) => string} keyOf
 * @param {(item: Item) => HTMLElement} render
 * @param {() => string} [extraKey]
 */
export function updateChildren(parent, items, keyOf, render, extraKey = () => "") {
  const children = /** @type {HTMLElement[]} */ ([...parent.children]);
  const oldNodes = new Map(children.map((node) => [node.dataset.key, node]));
  items.forEach((item, index) => {
    const key = keyOf(item);
    let node = oldNodes.get(key);
    oldNodes.delete(key);
    if (!node || hasChanged(node, item, extraKey())) {
      const newNode = render(item);
      newNode.dataset.key = key;
      hasChanged(newNode, item, extraKey());
      if (node) replaceNode(node, newNode);
      node = newNode;
    }
    if (parent.children[index] !== node) parent.insertBefore(node, parent.children[index] ?? null);
  });
  for (const node of oldNodes.values()) node.remove();
}

/**
 * @param {Element} node
 * @param {HTMLElement} newNode
 */
function replaceNode(node, newNode) {
  const focused = node.contains(document.activeElement);
  node.replaceWith(newNode);
  if (focused) (newNode.matches("button") ? newNode : newNode.querySelector("a"))?.focus();
}

/**
 * Return the table of a project.
 *
 * @param {string} name
 */
export function projectSection(name) {
  const count = h("span", { class: "count" });
  const heading = `project-${name}`;
  const functions = table(COLUMNS, [], { class: "functions", "aria-labelledby": heading });
  const node = h(
    "section",
    { "aria-labelledby": heading },
    h("h2", { id: heading, class: "project" }, name, " ", count),
    functions,
  );
  return { node, rows: functions.tBodies[0], count };
}

/**
 * Return a function as a row. Its `error` is the last record of that level in its log.
 *
 * @param {ListedFunction} fn
 */
export function functionRow(fn) {
  const { status = {}, spec = {} } = fn;
  const description = [titleOf(fn), typeOf(fn)].filter(Boolean).join(" · ") || spec.description;
  const address = `#/functions/${encodeURIComponent(fn.key)}`;
  // NAME@PLATFORM has no page: a function of that name on another platform takes precedence.
  const isShadowed = fn.key.includes("@");
  return h(
    "tr",
    { role: "row" },
    cell(
      "Function",
      isShadowed ? h("span", { class: "name" }, fn.key) : h("a", { class: "name", href: address }, fn.key),
      description && h("span", { class: "description" }, description),
    ),
    cell("State", ...stateCell(fn)),
    cell("Platform", status.platform),
    cell("Port", status.httpPort ? String(status.httpPort) : ""),
    cell("Replicas", replicasOf(fn)),
    cell("GPU", status.gpu ? String(status.gpu) : ""),
  );
}

/**
 * @param {string} label
 * @param {...Child} children
 */
function cell(label, ...children) {
  const isBlank = !children.some(Boolean);
  const attributes = { role: "cell", "data-label": label, class: isBlank && "blank" };
  return h("td", attributes, isBlank ? "–" : children);
}

/** @param {ListedFunction} fn */
function stateCell({ status = {}, error }) {
  const { setAside, notes = [], operation, message } = status;
  const reason = firstLine((isBusy({ status }) && operation?.message) || message);
  return [
    pill(shownStateOf({ status })),
    setAside && [
      " ",
      h(
        "span",
        { class: "pill warn" },
        h("span", { class: "shape", "aria-hidden": "true" }, "▽"),
        "excluded",
      ),
    ],
    reason && h("span", { class: "reason" }, withCode(reason)),
    setAside && h("span", { class: "reason" }, withCode(setAside)),
    ...notes.map((text) => h("span", { class: "description" }, withCode(text))),
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
