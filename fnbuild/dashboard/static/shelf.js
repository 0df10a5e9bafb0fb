// The library on the view `#/deploy`: functions to choose one from.

import { call } from "./api.js";
import { fill, h, prose } from "./dom.js";
import { whenBack } from "./live.js";
import { problem } from "./states.js";

/** Show the library in `place`; `take` hears what is chosen, as an upload is answered. */
export async function drawShelf(place, { signal, take }) {
  const head = h("h2", { id: "library" }, "From the library");
  fill(place, head, h("p", { class: "waiting" }, "Loading…"));
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
      return fill(place, head, h("p", { class: "quiet-text" }, prose(text)));
    }
    fill(place, head, search, list);
    draw();
    function draw() {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const fitting = Object.entries(functions).filter(([name, one]) => {
        const text = [name, one.title, one.description, one.type].join(" ").toLowerCase();
        return words.every((word) => text.includes(word));
      });
      fill(list, fitting.map(book));
    }
  } catch (error) {
    if (signal.aborted) return;
    fill(place, head, problem(error));
    if (error.status === 0) whenBack(() => drawShelf(place, { signal, take }), signal);
  }

  function book([name, one]) {
    const found = {
      path: `library:${name}`,
      name: one.metadata?.name ?? name.split("/").pop(),
      configuration: one.configuration ?? "",
      diagnostics: [],
      metadata: one.metadata,
    };
    const about = [one.type, one.description].filter(Boolean).join(" · ");
    const button = h(
      "button",
      { type: "button", onclick: choose },
      h("strong", {}, one.title || name),
      h("span", {}, about),
    );
    return h("li", {}, button);
    function choose() {
      for (const other of place.querySelectorAll("button")) other.removeAttribute("aria-pressed");
      button.setAttribute("aria-pressed", "true");
      take(found);
    }
  }
}
