// The API's description as a page: what /api/openapi.json says, in the order of its addresses.

import { setChildren, h } from "./dom.js";

const ACCESS = { open: "for everybody", read: "for whoever may read", write: "needs the write token" };
const PARAMETER_GROUPS = { path: "Path", query: "Query", header: "Headers" };

function accessOf(operation) {
  if (!operation.security.length) return "open";
  return operation.security.some((requirement) => !Object.keys(requirement).length) ? "read" : "write";
}

/** Text whose parts between backticks are code. */
function codeText(text) {
  return text.split("`").map((part, index) => (index % 2 ? h("code", {}, part) : part));
}

function descriptionList(title, entries) {
  return [
    h("h3", {}, title),
    h(
      "dl",
      {},
      entries.map(([name, text]) => [
        h("dt", {}, h("code", {}, name)),
        h("dd", {}, codeText(text || "text")),
      ]),
    ),
  ];
}

function parameters(operation) {
  return Object.entries(PARAMETER_GROUPS).map(([place, title]) => {
    const matching = operation.parameters.filter((parameter) => parameter.in === place);
    return matching.length
      ? descriptionList(
          title,
          matching.map((parameter) => [parameter.name, parameter.description]),
        )
      : null;
  });
}

function schema(value) {
  return h("pre", {}, JSON.stringify(value, null, 2));
}

function contentSections(title, content) {
  return Object.entries(content || {}).map(([media, entry]) => [
    h("h3", {}, `${title}: `, h("code", {}, media)),
    schema(entry.schema),
  ]);
}

function operationDetails(path, method, spec) {
  const kind = accessOf(spec);
  const [status, response] = Object.entries(spec.responses)[0];
  return h(
    "details",
    { class: "address", id: spec.operationId },
    h(
      "summary",
      {},
      h("code", { class: kind === "write" ? "method change" : "method" }, method.toUpperCase()),
      h("code", { class: "path" }, path),
      h("span", { class: "says" }, codeText(spec.summary)),
    ),
    h(
      "div",
      { class: "inside" },
      h("p", { class: "quiet-text" }, `${ACCESS[kind]} · answers ${status}`),
      parameters(spec),
      contentSections("Takes", spec.requestBody && spec.requestBody.content),
      contentSections("Gives", response.content),
    ),
  );
}

function groupByTag(paths) {
  const groups = new Map();
  for (const [path, item] of Object.entries(paths)) {
    for (const [method, spec] of Object.entries(item)) {
      const [tag] = spec.tags;
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(operationDetails(path, method, spec));
    }
  }
  return groups;
}

function show(main, api) {
  const groups = groupByTag(api.paths);
  const names = [...groups.keys()];
  setChildren(
    main,
    h(
      "div",
      { class: "view" },
      h("h1", {}, `${api.info.title} ${api.info.version}: the API`),
      h(
        "div",
        { class: "about" },
        api.info.description.split("\n\n").map((text) => h("p", {}, codeText(text))),
      ),
      h(
        "nav",
        { class: "contents", "aria-label": "Contents" },
        names.map((name) => h("a", { href: `#${name}` }, name)),
      ),
      names.map((name) =>
        h("section", { id: name, "aria-label": name }, h("h2", {}, name), h("div", {}, groups.get(name))),
      ),
      h("section", {}, h("h2", {}, "errors"), schema(api.components.schemas.Error)),
    ),
  );
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target) target.scrollIntoView();
}

const main = document.getElementById("main");
try {
  show(main, await (await fetch("/api/openapi.json")).json());
} catch (error) {
  setChildren(main, h("p", { class: "banner bad" }, `The description cannot be read: ${error.message}`));
}
