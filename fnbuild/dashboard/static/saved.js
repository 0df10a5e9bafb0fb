// Requests that are kept with a function: Nuclio's function events, which its own page keeps too.

import { call, settings } from "./api.js";
import { confirmed, toast } from "./dialogs.js";
import { fill, h } from "./dom.js";
import { problem } from "./states.js";

const PATH = "/api/function_events";
const LABEL = "nuclio.io/function-name";
const TYPE = "content-type";
const LEVEL = "x-nuclio-log-level";

/**
 * The card of the requests that are kept with `name`.
 *
 * `now()` gives the request of the form as `{method, path, headers, type, body, level}`, `take` shows
 * one in it, `file()` is the file that is chosen as its body.
 */
export function savedRequests(name, { signal, now, take, file }) {
  const list = h("ul", { class: "shelf" });
  const said = h("div");
  const title = h("input", {
    "aria-label": "Name of the request",
    placeholder: "Name to keep it by",
    required: true,
    maxlength: 100,
  });
  let events = [];
  ask();
  return h(
    "section",
    { class: "card", "aria-labelledby": "saved" },
    h("h2", { id: "saved" }, "Saved requests"),
    list,
    h("form", { class: "request-line", onsubmit: keep }, title, h("button", {}, "Save")),
    said,
  );

  async function ask() {
    try {
      events = Object.values(await request("GET", PATH));
      draw();
    } catch (error) {
      if (!signal.aborted) fill(said, problem(error));
    }
  }

  function draw() {
    events.sort((a, b) => titleOf(a).localeCompare(titleOf(b)));
    fill(list, events.length ? events.map(item) : h("li", { class: "quiet-text" }, "None yet."));
  }

  function item(event) {
    const { method = "POST", path = "/" } = event.spec.attributes ?? {};
    return h(
      "li",
      { class: "saved" },
      h(
        "button",
        { type: "button", onclick: () => show(event) },
        titleOf(event),
        h("span", {}, `${method} ${path}`),
      ),
      h(
        "button",
        {
          type: "button",
          class: "quiet small",
          "aria-label": `Delete ${titleOf(event)}`,
          onclick: () => forget(event),
        },
        "Delete",
      ),
    );
  }

  function show(event) {
    title.value = titleOf(event);
    fill(said);
    take(requestOf(event.spec));
  }

  async function keep(submitted) {
    submitted.preventDefault();
    submitted.stopPropagation();
    const wanted = title.value.trim();
    if (file())
      return fill(
        said,
        problem({
          message: "a request with a file is not kept",
          hint: "take the file away, or paste its content",
        }),
      );
    const known = events.find((one) => titleOf(one) === wanted);
    if (
      known &&
      !(await confirmed(`Replace ${wanted}?`, "The request that is kept by this name goes.", {
        yes: "Replace",
      }))
    )
      return undefined;
    const metadata = { ...known?.metadata, labels: { ...known?.metadata.labels, [LABEL]: name } };
    await changed(
      () => request(known ? "PUT" : "POST", PATH, { metadata, spec: specOf(wanted, now(), known?.spec) }),
      `${wanted} is saved`,
    );
    return undefined;
  }

  async function forget(event) {
    if (
      !(await confirmed(`Delete ${titleOf(event)}?`, "The request is not kept any more.", {
        yes: "Delete",
        danger: true,
      }))
    )
      return;
    await changed(
      () => request("DELETE", `${PATH}/${encodeURIComponent(event.metadata.name)}`),
      `${titleOf(event)} is deleted`,
    );
  }

  async function changed(change, word) {
    fill(said);
    try {
      await change();
      toast(word);
      await ask();
    } catch (error) {
      if (!signal.aborted) fill(said, problem(error));
    }
  }

  function request(method, path, json) {
    const headers = { "X-Nuclio-Function-Name": name };
    if (settings.namespace) headers["X-Nuclio-Function-Event-Namespace"] = settings.namespace;
    return call(method, path, { json, headers, signal });
  }
}

const titleOf = ({ metadata, spec }) => spec.displayName || metadata.name;

/** An event's spec as a request of the form. */
function requestOf({ attributes = {}, body = "" }) {
  const lines = [];
  const found = {
    method: attributes.method || "POST",
    path: attributes.path || "/",
    body,
    type: "",
    level: "",
  };
  for (const [key, value] of Object.entries(attributes.headers ?? {})) {
    if (key.toLowerCase() === TYPE) found.type = value;
    else if (key.toLowerCase() === LEVEL) found.level = value;
    else lines.push(`${key}: ${value}`);
  }
  return { ...found, headers: lines.join("\n") };
}

/** A request as an event's spec, over what is there already. */
function specOf(displayName, { method, path, headers: lines, type, body, level }, before = {}) {
  const headers = {};
  for (const line of lines.split("\n").filter((one) => one.includes(":"))) {
    const at = line.indexOf(":");
    headers[line.slice(0, at).trim()] = line.slice(at + 1).trim();
  }
  if (type) headers["Content-Type"] = type;
  if (level) headers[LEVEL] = level;
  return {
    triggerName: "",
    triggerKind: "http",
    ...before,
    displayName,
    body,
    attributes: { ...before.attributes, method, path, headers },
  };
}
