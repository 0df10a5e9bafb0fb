// The library on the view `#/deploy`: functions to choose one from.

import { call } from "./api.js";
import { setChildren, h, withCode } from "./dom.js";
import { whenConnected } from "./live.js";
import { errorBox } from "./states.js";

/** Show the library in `place`; `take` hears what is chosen, as an upload is answered. */
export async function showLibrary(container, { signal, onSelect }) {
  const heading = h("h2", { id: "library" }, "From the library");
  setChildren(container, heading, h("p", { class: "waiting" }, "Loading…"));
  try {
    const { functions = {} } = await call("GET", "/api/library", { signal });
    const search = h("input", {
      type: "search",
      "data-filter": true,
      placeholder: "Filter the library",
      "aria-label": "Filter the library",
      oninput: draw,
    });
    const list = h("ul", { class: "shelf" });
    if (!Object.keys(functions).length) {
      const text = "There is no library here. `fnbuild dashboard --library DIR` names a folder of functions.";
      return setChildren(container, heading, h("p", { class: "quiet-text" }, withCode(text)));
    }
    setChildren(container, heading, search, list);
    draw();
    function draw() {
      const terms = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const matching = Object.entries(functions).filter(([name, entry]) => {
        const text = [name, entry.title, entry.description, entry.type].join(" ").toLowerCase();
        return terms.every((term) => text.includes(term));
      });
      setChildren(list, matching.map(libraryItem));
    }
  } catch (error) {
    if (signal.aborted) return;
    setChildren(container, heading, errorBox(error));
    if (error.status === 0) whenConnected(() => showLibrary(container, { signal, onSelect }), signal);
  }

  function libraryItem([name, entry]) {
    const upload = {
      path: `library:${name}`,
      name: entry.metadata?.name ?? name.split("/").pop(),
      configuration: entry.configuration ?? "",
      diagnostics: [],
      metadata: entry.metadata,
    };
    const description = [entry.type, entry.description].filter(Boolean).join(" · ");
    const button = h(
      "button",
      { type: "button", onclick: select },
      h("strong", {}, entry.title || name),
      h("span", {}, description),
    );
    return h("li", {}, button);
    function select() {
      for (const other of container.querySelectorAll("button")) other.removeAttribute("aria-pressed");
      button.setAttribute("aria-pressed", "true");
      onSelect(upload);
    }
  }
}
