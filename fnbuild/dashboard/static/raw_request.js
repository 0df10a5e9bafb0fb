// The form of raw requests to a function, for functions that are not models and for what CVAT never sends.

import { ApiError, settings } from "./api.js";
import { sendInvocation } from "./cvat_requests.js";
import { append, button, h, setChildren } from "./dom.js";
import { showReply } from "./raw_reply.js";
import { savedRequests } from "./function_events.js";
import { errorBox } from "./states.js";

const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
const BODYLESS_METHODS = ["GET", "HEAD"];
const CONTENT_TYPES = [
  "application/json",
  "text/plain",
  "application/octet-stream",
  "application/x-www-form-urlencoded",
  "image/jpeg",
  "image/png",
];
const LEVELS = ["debug", "info", "warn", "error"];
/** @typedef {Record<"method" | "path" | "headers" | "type" | "body" | "level", string>} RawRequest */

/** @type {RawRequest} */
const EMPTY_REQUEST = {
  method: "POST",
  path: "/",
  headers: "",
  type: "application/json",
  body: "",
  level: "debug",
};
const KEYS = /** @type {(keyof RawRequest)[]} */ (Object.keys(EMPTY_REQUEST));
const TIMEOUT = "120s";

/**
 * Requests by function: they stay while the page is open.
 *
 * @type {Map<string, RawRequest>}
 */
const drafts = new Map();

/**
 * Show the form for a function and the reply in `root` until `signal` is aborted.
 *
 * @param {Element} root
 * @param {string} name
 * @param {AbortSignal} signal
 */
export function showRawRequest(root, name, signal) {
  const request = drafts.get(name) ?? { ...EMPTY_REQUEST };
  drafts.set(name, request);
  const fields = createFields(request);
  const reply = h("div", { class: "stack", "aria-live": "polite" });
  const send = h("button", { class: "primary" }, "Send");
  const form = h(
    "form",
    { class: "card", "aria-label": "Request", onsubmit: submit, oninput: readFields, onchange: readFields },
    h("div", { class: "request-line" }, fields.method, fields.path, send),
    h(
      "label",
      { class: "field" },
      "Headers",
      fields.headers,
      h("small", {}, "One per line, such as X-Answer: 42"),
    ),
    bodySection(fields),
    h("label", { class: "inline" }, "The function's log of this call", fields.level),
  );
  fields.path.addEventListener(
    "keydown",
    (event) => event.key === "Enter" && (event.preventDefault(), form.requestSubmit()),
  );
  const savedCard = savedRequests(name, {
    signal,
    currentRequest: () => (readFields(), request),
    onSelect: showSaved,
    bodyFile: () => bodyFile(fields),
  });
  setChildren(root, h("div", { class: "raw-request" }, form, reply, savedCard));
  readFields();

  function readFields() {
    for (const key of KEYS) request[key] = fields[key].value;
    const file = bodyFile(fields);
    fields.bodyPart.hidden = BODYLESS_METHODS.includes(request.method);
    fields.body.disabled = Boolean(file);
    fields.noFile.hidden = !file;
  }

  /**
   * Show a saved request.
   *
   * @param {RawRequest} savedRequest
   */
  function showSaved(savedRequest) {
    for (const key of KEYS) fields[key].value = savedRequest[key] ?? EMPTY_REQUEST[key];
    fields.file.value = "";
    readFields();
    setChildren(reply);
  }

  /** @param {SubmitEvent} event */
  async function submit(event) {
    event.preventDefault();
    readFields();
    send.disabled = true;
    setChildren(reply, h("p", { class: "waiting" }, "Sending…"));
    try {
      const body = BODYLESS_METHODS.includes(request.method) ? null : (bodyFile(fields) ?? request.body);
      setChildren(reply, await showReply(await sendRequest(name, request, body, signal), signal));
    } catch (error) {
      if (!signal.aborted) setChildren(reply, errorBox(error));
    }
    send.disabled = false;
  }
}

/** @param {RawRequest} request */
function createFields(request) {
  /**
   * @param {string[]} values
   * @param {string} selected
   */
  const options = (values, selected) =>
    values.map((value) => h("option", { selected: value === selected }, value));
  const inputOptions = { spellcheck: "false", autocapitalize: "off", autocomplete: "off" };
  const fields = {
    method: h("select", { "aria-label": "Method" }, options(METHODS, request.method)),
    path: h("input", { "aria-label": "Path", class: "mono", ...inputOptions }),
    headers: h("textarea", { rows: 2, class: "mono", ...inputOptions }),
    type: h("input", { list: "content-types", ...inputOptions }),
    body: h("textarea", { rows: 8, class: "mono", "aria-label": "Body", ...inputOptions }),
    file: h("input", { type: "file", "aria-label": "A file as the body" }),
    noFile: button("Use text", () => {}, { class: "small quiet" }),
    bodyPart: h("div", { class: "stack" }),
    level: h(
      "select",
      {},
      h("option", { value: "" }, "none"),
      LEVELS.map((level) =>
        h(
          "option",
          { value: level, selected: level === request.level },
          level === "debug" ? "all" : `${level} and above`,
        ),
      ),
    ),
  };
  for (const key of KEYS) fields[key].value = request[key];
  return fields;
}

/** @typedef {ReturnType<typeof createFields>} Fields */

/** @param {Fields} fields */
const bodyFile = (fields) => fields.file.files?.[0];

/** @param {Fields} fields */
function bodySection(fields) {
  append(
    fields.bodyPart,
    h(
      "label",
      { class: "field" },
      "Content type",
      fields.type,
      h(
        "datalist",
        { id: "content-types" },
        CONTENT_TYPES.map((type) => h("option", { value: type })),
      ),
    ),
    h("label", { class: "field" }, "Body", fields.body),
    h("div", { class: "actions" }, h("span", { class: "muted" }, "or a file"), fields.file, fields.noFile),
  );
  fields.noFile.addEventListener("click", removeFile);
  fields.file.addEventListener("change", () => {
    const type = bodyFile(fields)?.type;
    if (type) fields.type.value = type;
  });
  return fields.bodyPart;

  function removeFile() {
    fields.file.value = "";
    fields.file.dispatchEvent(new Event("change", { bubbles: true }));
    fields.body.focus();
  }
}

/**
 * Parse lines of headers. Throws an error that names an invalid line.
 *
 * @param {string} text
 */
function parseHeaders(text) {
  const parsed = new Headers();
  for (const line of text.split("\n").filter((textLine) => textLine.trim())) {
    const [name, ...value] = line.split(":");
    if (!value.length)
      throw inputError(`${line.trim()} is not a header`, "a header is a name, a colon and a value");
    try {
      parsed.append(name.trim(), value.join(":").trim());
    } catch {
      throw inputError(
        `${line.trim()} cannot be sent as a header`,
        "names are letters, digits and `-`, values Latin letters",
      );
    }
    const accepted = new Request(location.href, { headers: parsed }).headers;
    if (!accepted.has(name.trim()))
      throw inputError(
        `a browser does not let a page send ${name.trim()}`,
        "send it from a shell, with `curl`",
      );
  }
  return parsed;
}

/**
 * @param {string} error
 * @param {string} hint
 */
const inputError = (error, hint) => new ApiError(0, { error, hint });

/**
 * Send a request. Throws an `ApiError` if there is no response.
 *
 * @param {string} name
 * @param {RawRequest} request
 * @param {File | string | null} body
 * @param {AbortSignal} signal
 */
async function sendRequest(name, { method, path, headers: lines, type, level }, body, signal) {
  const headers = parseHeaders(lines);
  if (type && body !== null) headers.set("Content-Type", type);
  headers.set("X-Nuclio-Function-Name", name);
  headers.set("X-Nuclio-Path", (path || "/").replace(/[^!-~]+/g, encodeURIComponent));
  headers.set("X-Nuclio-Invoke-Timeout", TIMEOUT);
  if (settings.namespace) headers.set("X-Nuclio-Function-Namespace", settings.namespace);
  if (level) {
    headers.set("X-Nuclio-Log-Level", level);
    headers.set("X-Fnbuild-Logs", "true");
  }
  // The page does not follow redirects of functions.
  /** @type {RequestInit} */
  const request = { method, headers, body: body || undefined, signal, cache: "no-store", redirect: "manual" };
  const start = performance.now();
  let response = await sendInvocation(request);
  if (response.status === 401 && !response.headers.has("Server-Timing") && (await settings.askForToken()))
    response = await sendInvocation(request);
  const content = await response.blob();
  return {
    name,
    response,
    content,
    ms: performance.now() - start,
    size: new Blob([body ?? ""]).size,
  };
}
