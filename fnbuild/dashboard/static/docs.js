// The API's description as a page: what /api/openapi.json says, in the order of its addresses.

import { fill, h } from "./dom.js";

const ACCESS = { open: "for everybody", read: "for whoever may read", write: "needs the write token" };
const IN = { path: "Path", query: "Query", header: "Headers" };

function access(operation) {
  if (!operation.security.length) return "open";
  return operation.security.some((one) => !Object.keys(one).length) ? "read" : "write";
}

/** Text whose parts between backticks are code. */
function words(text) {
  return text.split("`").map((part, index) => (index % 2 ? h("code", {}, part) : part));
}

function described(title, entries) {
  return [
    h("h3", {}, title),
    h(
      "dl",
      {},
      entries.map(([name, text]) => [h("dt", {}, h("code", {}, name)), h("dd", {}, words(text || "text"))]),
    ),
  ];
}

function parameters(operation) {
  return Object.entries(IN).map(([place, title]) => {
    const here = operation.parameters.filter((one) => one.in === place);
    return here.length
      ? described(
          title,
          here.map((one) => [one.name, one.description]),
        )
      : null;
  });
}

function schema(value) {
  return h("pre", {}, JSON.stringify(value, null, 2));
}

function body(title, content) {
  return Object.entries(content || {}).map(([media, one]) => [
    h("h3", {}, `${title}: `, h("code", {}, media)),
    schema(one.schema),
  ]);
}

function operation(path, method, one) {
  const kind = access(one);
  const [status, answer] = Object.entries(one.responses)[0];
  return h(
    "details",
    { class: "address", id: one.operationId },
    h(
      "summary",
      {},
      h("code", { class: kind === "write" ? "method change" : "method" }, method.toUpperCase()),
      h("code", { class: "path" }, path),
      h("span", { class: "says" }, words(one.summary)),
    ),
    h(
      "div",
      { class: "inside" },
      h("p", { class: "quiet-text" }, `${ACCESS[kind]} · answers ${status}`),
      parameters(one),
      body("Takes", one.requestBody && one.requestBody.content),
      body("Gives", answer.content),
    ),
  );
}

function grouped(paths) {
  const groups = new Map();
  for (const [path, item] of Object.entries(paths)) {
    for (const [method, one] of Object.entries(item)) {
      const [tag] = one.tags;
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(operation(path, method, one));
    }
  }
  return groups;
}

function show(main, known) {
  const groups = grouped(known.paths);
  const names = [...groups.keys()];
  fill(
    main,
    h(
      "div",
      { class: "view" },
      h("h1", {}, `${known.info.title} ${known.info.version}: the API`),
      h(
        "div",
        { class: "about" },
        known.info.description.split("\n\n").map((text) => h("p", {}, words(text))),
      ),
      h(
        "nav",
        { class: "contents", "aria-label": "Contents" },
        names.map((name) => h("a", { href: `#${name}` }, name)),
      ),
      names.map((name) =>
        h("section", { id: name, "aria-label": name }, h("h2", {}, name), h("div", {}, groups.get(name))),
      ),
      h("section", {}, h("h2", {}, "errors"), schema(known.components.schemas.Error)),
    ),
  );
  const wanted = location.hash && document.getElementById(location.hash.slice(1));
  if (wanted) wanted.scrollIntoView();
}

const main = document.getElementById("main");
try {
  show(main, await (await fetch("/api/openapi.json")).json());
} catch (error) {
  fill(main, h("p", { class: "banner bad" }, `The description cannot be read: ${error.message}`));
}
