// Saved requests of a function: Nuclio's function events, which its own dashboard shows too.

import { call, settings } from "./api.js";
import { confirmAction, toast } from "./dialogs.js";
import { button, h, setChildren } from "./dom.js";
import { errorBox } from "./states.js";

const PATH = "/api/function_events";
const FUNCTION_LABEL = "nuclio.io/function-name";
const CONTENT_TYPE = "content-type";
const LOG_LEVEL = "x-nuclio-log-level";

/** @typedef {import("./raw_request.js").RawRequest} RawRequest */

/**
 * @typedef {object} FunctionEvent
 * @property {{name: string, labels?: Record<string, string>}} metadata
 * @property {EventSpec} spec
 */

/**
 * @typedef {object} EventSpec
 * @property {string} [displayName]
 * @property {string} [body]
 * @property {{method?: string, path?: string, headers?: Record<string, string>}} [attributes]
 */

/**
 * @typedef {object} SavedRequestsOptions
 * @property {AbortSignal} signal
 * @property {() => RawRequest} currentRequest
 * @property {(request: RawRequest) => void} onSelect
 * @property {() => File | undefined} bodyFile
 */

/**
 * Return the card of the requests that are saved with the function `name`.
 *
 * @param {string} name
 * @param {SavedRequestsOptions} options
 */
export function savedRequests(name, { signal, currentRequest, onSelect, bodyFile }) {
  const list = h("ul", { class: "item-list" });
  const feedback = h("div");
  const title = h("input", {
    "aria-label": "Name of the request",
    placeholder: "Name",
    required: true,
    maxlength: 100,
  });
  /** @type {FunctionEvent[]} */
  let events = [];
  refresh();
  return h(
    "section",
    { class: "card", "aria-labelledby": "saved" },
    h("h2", { id: "saved" }, "Saved requests"),
    list,
    h("form", { class: "request-line", onsubmit: saveRequest }, title, h("button", {}, "Save")),
    feedback,
  );

  async function refresh() {
    try {
      events = Object.values(await request("GET", PATH));
      draw();
    } catch (error) {
      if (!signal.aborted) setChildren(feedback, errorBox(error));
    }
  }

  function draw() {
    events.sort((a, b) => titleOf(a).localeCompare(titleOf(b)));
    setChildren(list, events.length ? events.map(item) : h("li", { class: "muted" }, "None yet."));
  }

  /** @param {FunctionEvent} event */
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
      button("Delete", () => deleteEvent(event), {
        class: "quiet small",
        "aria-label": `Delete ${titleOf(event)}`,
      }),
    );
  }

  /** @param {FunctionEvent} event */
  function show(event) {
    title.value = titleOf(event);
    setChildren(feedback);
    onSelect(requestFromSpec(event.spec));
  }

  /** @param {SubmitEvent} submitEvent */
  async function saveRequest(submitEvent) {
    submitEvent.preventDefault();
    submitEvent.stopPropagation();
    const eventName = title.value.trim();
    if (bodyFile())
      return setChildren(
        feedback,
        errorBox({
          message: "a request with a file cannot be saved",
          hint: "remove the file, or paste its content",
        }),
      );
    const existing = events.find((event) => titleOf(event) === eventName);
    if (
      existing &&
      !(await confirmAction(`Replace ${eventName}?`, "The saved request with this name is replaced.", {
        confirmLabel: "Replace",
      }))
    )
      return undefined;
    const metadata = {
      ...existing?.metadata,
      labels: { ...existing?.metadata.labels, [FUNCTION_LABEL]: name },
    };
    await applyChange(
      () =>
        request(existing ? "PUT" : "POST", PATH, {
          metadata,
          spec: specFromRequest(eventName, currentRequest(), existing?.spec),
        }),
      `${eventName} is saved`,
    );
    return undefined;
  }

  /** @param {FunctionEvent} event */
  async function deleteEvent(event) {
    if (
      !(await confirmAction(`Delete ${titleOf(event)}?`, "The saved request is deleted.", {
        confirmLabel: "Delete",
        danger: true,
      }))
    )
      return;
    await applyChange(
      () => request("DELETE", `${PATH}/${encodeURIComponent(event.metadata.name)}`),
      `${titleOf(event)} is deleted`,
    );
  }

  /**
   * @param {() => Promise<unknown>} change
   * @param {string} message
   */
  async function applyChange(change, message) {
    setChildren(feedback);
    try {
      await change();
      toast(message);
      await refresh();
    } catch (error) {
      if (!signal.aborted) setChildren(feedback, errorBox(error));
    }
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {unknown} [json]
   */
  function request(method, path, json) {
    /** @type {Record<string, string>} */
    const headers = { "X-Nuclio-Function-Name": name };
    if (settings.namespace) headers["X-Nuclio-Function-Event-Namespace"] = settings.namespace;
    return call(method, path, { json, headers, signal });
  }
}

/** @param {FunctionEvent} event */
const titleOf = ({ metadata, spec }) => spec.displayName || metadata.name;

/**
 * Return an event's spec as a request of the form.
 *
 * @param {EventSpec} spec
 * @returns {RawRequest}
 */
function requestFromSpec({ attributes = {}, body = "" }) {
  /** @type {string[]} */
  const headerLines = [];
  const loadedRequest = {
    method: attributes.method || "POST",
    path: attributes.path || "/",
    body,
    type: "",
    level: "",
  };
  for (const [key, value] of Object.entries(attributes.headers ?? {})) {
    if (key.toLowerCase() === CONTENT_TYPE) loadedRequest.type = value;
    else if (key.toLowerCase() === LOG_LEVEL) loadedRequest.level = value;
    else headerLines.push(`${key}: ${value}`);
  }
  return { ...loadedRequest, headers: headerLines.join("\n") };
}

/**
 * Return a request as an event's spec, with the other fields of the previous one.
 *
 * @param {string} displayName
 * @param {RawRequest} request
 * @param {EventSpec} [previous]
 */
function specFromRequest(
  displayName,
  { method, path, headers: headerLines, type, body, level },
  previous = {},
) {
  /** @type {Record<string, string>} */
  const headers = {};
  for (const line of headerLines.split("\n").filter((textLine) => textLine.includes(":"))) {
    const colon = line.indexOf(":");
    headers[line.slice(0, colon).trim()] = line.slice(colon + 1).trim();
  }
  if (type) headers["Content-Type"] = type;
  if (level) headers[LOG_LEVEL] = level;
  return {
    triggerName: "",
    triggerKind: "http",
    ...previous,
    displayName,
    body,
    attributes: { ...previous.attributes, method, path, headers },
  };
}
