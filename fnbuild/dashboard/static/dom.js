// Making elements. Data reaches the page as text and attributes only, never as markup.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element with attributes and children.
 *
 * `on…` attributes take functions; `true` sets an empty attribute, `false`, `null` and `undefined`
 * leave it out. Children are nodes or text; lists are flattened, `null` and `false` left out.
 */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for a drawing. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  put(element, ...children);
  return element;
}

/** Put children at the end of an element. */
export function put(element, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
}

/** Give an element other children. */
export function fill(element, ...children) {
  element.replaceChildren();
  put(element, ...children);
}

/** Have a style sheet of a view there, before the view is. */
export function sheet(name) {
  const href = `/static/${name}`;
  const known = document.querySelector(`link[href="${href}"]`);
  if (known) return known.loaded;
  const made = h("link", { rel: "stylesheet", href });
  made.loaded = new Promise((resolve) => {
    made.onload = resolve;
    made.onerror = () => (made.remove(), resolve()); // it is asked for again the next time
  });
  document.head.append(made);
  return made.loaded;
}

/** A link when the address is one of the web, else its text. */
export function link(address, text = address) {
  return /^https?:\/\//i.test(address) ? h("a", { href: address, rel: "noreferrer" }, text) : text;
}

/** A text with what stands between backticks as code. */
export function prose(text) {
  return String(text ?? "")
    .split(/`([^`]+)`/)
    .map((part, index) => (index % 2 ? h("code", {}, part) : part));
}

/** A time (ISO text, or milliseconds) as people in this place write dates, by one clock of 24 hours. */
export function when(time) {
  const at = new Date(time);
  if (Number.isNaN(at.getTime())) return String(time ?? "");
  const day = at.toDateString() === new Date().toDateString() ? {} : { dateStyle: "medium" };
  const written = (how) => at.toLocaleString(undefined, { hourCycle: "h23", ...how });
  return h(
    "time",
    { datetime: at.toISOString(), title: written({ dateStyle: "full", timeStyle: "long" }) },
    written({ timeStyle: "medium", ...day }),
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
