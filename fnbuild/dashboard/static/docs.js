// The documentation of the API, from /api/openapi.json.

import { elementById, h, setChildren, withCode } from "./dom.js";

/**
 * @typedef {object} ApiOperation
 * @property {string} operationId
 * @property {string} summary
 * @property {string[]} tags
 * @property {object[]} security
 * @property {{in: string, name: string, description: string}[]} parameters
 * @property {{content: Record<string, {schema: unknown}>}} [requestBody]
 * @property {Record<string, {content?: Record<string, {schema: unknown}>}>} responses
 */

/** @type {Record<string, string>} */
const ACCESS = { open: "public", read: "needs read access", write: "needs the write token" };
/** @type {Record<string, string>} */
const PARAMETER_GROUPS = { path: "Path", query: "Query", header: "Headers" };

/** @param {ApiOperation} operation */
function accessOf(operation) {
  if (!operation.security.length) return "open";
  return operation.security.some((requirement) => !Object.keys(requirement).length) ? "read" : "write";
}

/**
 * @param {string} title
 * @param {string[][]} entries
 */
function descriptionList(title, entries) {
  return [
    h("h3", {}, title),
    h(
      "dl",
      {},
      entries.map(([name, text]) => [
        h("dt", {}, h("code", {}, name)),
        h("dd", {}, withCode(text || "text")),
      ]),
    ),
  ];
}

/** @param {ApiOperation} operation */
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

/** @param {unknown} value */
function schema(value) {
  return h("pre", {}, JSON.stringify(value, null, 2));
}

/**
 * @param {string} title
 * @param {Record<string, {schema: unknown}> | undefined} content
 */
function contentSections(title, content) {
  return Object.entries(content || {}).map(([media, entry]) => [
    h("h3", {}, `${title}: `, h("code", {}, media)),
    schema(entry.schema),
  ]);
}

/**
 * @param {string} path
 * @param {string} method
 * @param {ApiOperation} spec
 */
function operationDetails(path, method, spec) {
  const kind = accessOf(spec);
  const [status, response] = Object.entries(spec.responses)[0];
  return h(
    "details",
    { class: "endpoint", id: spec.operationId },
    h(
      "summary",
      {},
      h("code", { class: kind === "write" ? "method change" : "method" }, method.toUpperCase()),
      h("code", { class: "path" }, path),
      h("span", { class: "summary" }, withCode(spec.summary)),
    ),
    h(
      "div",
      { class: "endpoint-details" },
      h("p", { class: "muted" }, `${ACCESS[kind]} · responds with ${status}`),
      parameters(spec),
      contentSections("Request", spec.requestBody && spec.requestBody.content),
      contentSections("Response", response.content),
    ),
  );
}

/** @param {Record<string, Record<string, ApiOperation>>} paths */
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

/**
 * @param {Element} main
 * @param {any} api
 */
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
        { class: "description" },
        api.info.description.split("\n\n").map((/** @type {string} */ text) => h("p", {}, withCode(text))),
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

const main = elementById("main", HTMLElement);
try {
  show(main, await (await fetch("/api/openapi.json")).json());
} catch (error) {
  setChildren(
    main,
    h("p", { class: "banner bad" }, `The API description cannot be loaded: ${error.message}`),
  );
}
