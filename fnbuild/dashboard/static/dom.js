// Creation of elements. Data becomes text and attributes only, never markup.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Return an element with attributes and children.
 *
 * Attributes `on…` take functions. `true` sets an empty attribute; `false`, `null` and `undefined` set
 * none. Children are nodes or text; lists are flattened, `null` and `false` omitted.
 *
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Attributes} [attributes]
 * @param {...Child} children
 */
export function h(tag, attributes = {}, ...children) {
  return build(document.createElement(tag), attributes, children);
}

/**
 * Return an element of a drawing, as `h` does.
 *
 * @template {keyof SVGElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Attributes} [attributes]
 * @param {...Child} children
 */
export function svg(tag, attributes = {}, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children);
}

/**
 * @template {Element} Built
 * @param {Built} element
 * @param {Attributes} attributes
 * @param {Child[]} children
 */
function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, ...children);
  return element;
}

/**
 * Return the element of the document with this id and type.
 *
 * @template {HTMLElement} Type
 * @param {string} id
 * @param {new () => Type} type
 */
export function elementById(id, type) {
  const element = document.getElementById(id);
  if (!(element instanceof type)) throw new Error(`there is no ${type.name} #${id}`);
  return element;
}

/**
 * Append children to an element.
 *
 * @param {Element} element
 * @param {...Child} children
 */
export function append(element, ...children) {
  for (const child of /** @type {any[]} */ (children).flat(Infinity)) {
    if (child instanceof Node || typeof child === "string") element.append(child);
  }
}

/**
 * Replace the children of an element.
 *
 * @param {Element} element
 * @param {...Child} children
 */
export function setChildren(element, ...children) {
  element.replaceChildren();
  append(element, ...children);
}

/** @type {Map<string, Promise<unknown>>} */
const styleSheets = new Map();

/**
 * Load a view's style sheet, once.
 *
 * @param {string} name
 */
export function loadStyleSheet(name) {
  const sheet = h("link", { rel: "stylesheet", href: `/static/${name}` });
  const loading =
    styleSheets.get(name) ??
    new Promise((resolve) => {
      sheet.onload = resolve;
      // The next view that needs it loads it again.
      sheet.onerror = () => (sheet.remove(), styleSheets.delete(name), resolve(null));
      document.head.append(sheet);
    });
  styleSheets.set(name, loading);
  return loading;
}

/**
 * Return a link to an HTTP address, the text alone for any other.
 *
 * @param {string} address
 */
export function webLink(address, text = address) {
  return /^https?:\/\//i.test(address) ? h("a", { href: address, rel: "noreferrer" }, text) : text;
}

/**
 * Return a text in which parts in backticks are code.
 *
 * @param {unknown} text
 */
export function withCode(text) {
  return String(text ?? "")
    .split(/`([^`]+)`/)
    .map((part, index) => (index % 2 ? h("code", {}, part) : part));
}

/**
 * Return a time (ISO text, or milliseconds) in the user's format, with a 24-hour clock.
 *
 * @param {string | number} time
 */
export function timeElement(time) {
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) return String(time ?? "");
  const isToday = date.toDateString() === new Date().toDateString();
  /** @param {Intl.DateTimeFormatOptions} options */
  const format = (options) => date.toLocaleString(undefined, { hourCycle: "h23", ...options });
  return h(
    "time",
    { datetime: date.toISOString(), title: format({ dateStyle: "full", timeStyle: "long" }) },
    format({ timeStyle: "medium", ...(!isToday && { dateStyle: "medium" }) }),
  );
}

/**
 * Return a button.
 *
 * @param {Child} text
 * @param {(event: any) => unknown} onclick
 * @param {Attributes} [attributes]
 */
export function button(text, onclick, attributes = {}) {
  return h("button", { type: "button", onclick, ...attributes }, text);
}

/**
 * Return a button that copies a text.
 *
 * @param {string} text
 */
export function copyButton(text, name = "Copy") {
  const copier = button(name, copy, { class: "small" });
  async function copy() {
    try {
      await navigator.clipboard.writeText(text);
      copier.textContent = "Copied";
    } catch {
      copier.textContent = "Select it and press Ctrl+C";
    }
    setTimeout(() => (copier.textContent = name), 2000);
  }
  return copier;
}

/**
 * Return a table whose cells have their column as a label, which narrow screens show.
 *
 * @param {string[]} columns
 * @param {HTMLElement[]} rows
 * @param {Attributes} [attributes]
 */
export function table(columns, rows, attributes = {}) {
  const headings = columns.map((name) =>
    h(
      "th",
      { role: "columnheader", scope: "col" },
      name || h("span", { class: "visually-hidden" }, "Actions"),
    ),
  );
  return h(
    "table",
    { role: "table", ...attributes },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, headings)),
    h("tbody", { role: "rowgroup" }, rows),
  );
}

/**
 * Return a function that tests if a text contains every word of a search.
 *
 * @param {string} search
 * @returns {(...texts: unknown[]) => boolean}
 */
export function wordFilter(search) {
  const terms = search.toLowerCase().split(/\s+/).filter(Boolean);
  return (...texts) => {
    const text = texts.join(" ").toLowerCase();
    return terms.every((term) => text.includes(term));
  };
}

/**
 * Return a number of bytes as text.
 *
 * @param {number} bytes
 */
export function formatSize(bytes) {
  if (bytes < 1024) return `${bytes} bytes`;
  return bytes < 1024 ** 2 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / 1024 ** 2).toFixed(1)} MiB`;
}

/**
 * Return the drawing context of a canvas.
 *
 * @param {HTMLCanvasElement} canvas
 */
export function contextOf(canvas) {
  const context = canvas.getContext("2d");
  if (!context) throw new Error("this browser cannot draw on a canvas");
  return context;
}

/** @type {WeakMap<Element, string>} */
const signatures = new WeakMap();

/**
 * Return true unless an element was last drawn from equal values.
 *
 * @param {Element} element
 * @param {...unknown} values
 */
export function hasChanged(element, ...values) {
  const signature = JSON.stringify(values);
  const changed = signatures.get(element) !== signature;
  signatures.set(element, signature);
  return changed;
}
