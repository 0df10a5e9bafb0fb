// Making elements. Data reaches the page as text and attributes only, never as markup.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element with attributes and children.
 *
 * `on…` attributes take functions; `true` sets an empty attribute, `false`, `null` and `undefined`
 * leave it out. Children are nodes or text; lists are flattened, `null` and `false` left out.
 */
export function h(tag, attributes = {}, ...children) {
  return build(document.createElement(tag), attributes, children);
}

/** The same for a drawing. */
export function svg(tag, attributes = {}, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children);
}

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, ...children);
  return element;
}

/** Put children at the end of an element. */
export function append(element, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
}

/** Give an element other children. */
export function setChildren(element, ...children) {
  element.replaceChildren();
  append(element, ...children);
}

/** Have a style sheet of a view there, before the view is. */
export function loadStyleSheet(name) {
  const href = `/static/${name}`;
  const existing = document.querySelector(`link[href="${href}"]`);
  if (existing) return existing.loaded;
  const sheet = h("link", { rel: "stylesheet", href });
  sheet.loaded = new Promise((resolve) => {
    sheet.onload = resolve;
    sheet.onerror = () => (sheet.remove(), resolve()); // it is asked for again the next time
  });
  document.head.append(sheet);
  return sheet.loaded;
}

/** A link when the address is one of the web, else its text. */
export function webLink(address, text = address) {
  return /^https?:\/\//i.test(address) ? h("a", { href: address, rel: "noreferrer" }, text) : text;
}

/** A text with what stands between backticks as code. */
export function withCode(text) {
  return String(text ?? "")
    .split(/`([^`]+)`/)
    .map((part, index) => (index % 2 ? h("code", {}, part) : part));
}

/** A time (ISO text, or milliseconds) as people in this place write dates, by one clock of 24 hours. */
export function timeElement(time) {
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) return String(time ?? "");
  const dateOptions = date.toDateString() === new Date().toDateString() ? {} : { dateStyle: "medium" };
  const format = (options) => date.toLocaleString(undefined, { hourCycle: "h23", ...options });
  return h(
    "time",
    { datetime: date.toISOString(), title: format({ dateStyle: "full", timeStyle: "long" }) },
    format({ timeStyle: "medium", ...dateOptions }),
  );
}

/** A button that copies a text and says so. */
export function copyButton(text, name = "Copy") {
  const button = h("button", { type: "button", class: "small", onclick: copy }, name);
  async function copy() {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select it and press Ctrl+C";
    }
    setTimeout(() => (button.textContent = name), 2000);
  }
  return button;
}
