// The function library on the view `#/deploy`.

import { call } from "./api.js";
import { button, h, setChildren, withCode, wordFilter } from "./dom.js";
import { whenConnected } from "./live.js";
import { errorBox } from "./states.js";

/**
 * @typedef {object} LibraryEntry
 * @property {string} [title]
 * @property {string} [description]
 * @property {string} [type]
 * @property {string} [configuration]
 * @property {FunctionMetadata} [metadata]
 */

/**
 * Show the library in `container`; `onSelect` is called with the selected function, as an upload.
 *
 * @param {Element} container
 * @param {{signal: AbortSignal, onSelect: (upload: Upload) => void}} options
 */
export async function showLibrary(container, { signal, onSelect }) {
  const heading = h("h2", { id: "library" }, "From the library");
  setChildren(container, heading, h("p", { class: "waiting" }, "Loading…"));
  try {
    /** @type {{functions?: Record<string, LibraryEntry>}} */
    const { functions = {} } = await call("GET", "/api/library", { signal });
    const search = h("input", {
      type: "search",
      "data-filter": true,
      placeholder: "Filter the library",
      "aria-label": "Filter the library",
      oninput: draw,
    });
    const list = h("ul", { class: "item-list" });
    const entries = Object.entries(functions);
    if (!entries.length) {
      const text = "There is no library. `fnbuild dashboard --library DIR` sets the folder of functions.";
      return setChildren(container, heading, h("p", { class: "muted" }, withCode(text)));
    }
    setChildren(container, heading, search, list);
    draw();
    function draw() {
      const matches = wordFilter(search.value);
      const matching = entries.filter(([name, entry]) =>
        matches(name, entry.title, entry.description, entry.type),
      );
      setChildren(list, matching.map(libraryItem));
    }
  } catch (error) {
    if (signal.aborted) return;
    setChildren(container, heading, errorBox(error));
    if (error.status === 0) whenConnected(() => showLibrary(container, { signal, onSelect }), signal);
  }

  /** @param {[name: string, entry: LibraryEntry]} item */
  function libraryItem([name, entry]) {
    const upload = {
      path: `library:${name}`,
      name: entry.metadata?.name ?? name.split("/").pop(),
      configuration: entry.configuration ?? "",
      diagnostics: [],
      metadata: entry.metadata,
    };
    const description = [entry.type, entry.description].filter(Boolean).join(" · ");
    const title = [h("strong", {}, entry.title || name), h("span", {}, description)];
    const item = button(title, select);
    return h("li", {}, item);
    function select() {
      for (const other of container.querySelectorAll("button")) other.removeAttribute("aria-pressed");
      item.setAttribute("aria-pressed", "true");
      onSelect(upload);
    }
  }
}
