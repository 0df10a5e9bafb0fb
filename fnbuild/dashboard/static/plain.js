// A plain request to a function, and its reply: for functions that do not look at pictures, and for
// everything CVAT never sends.

import { Refused, settings } from "./api.js";
import { sent } from "./asking.js";
import { fill, h } from "./dom.js";
import { showReply } from "./replies.js";
import { savedRequests } from "./saved.js";
import { problem } from "./states.js";

const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
const BODYLESS = ["GET", "HEAD"];
const TYPES = [
  "application/json",
  "text/plain",
  "application/octet-stream",
  "application/x-www-form-urlencoded",
  "image/jpeg",
  "image/png",
];
const LEVELS = ["debug", "info", "warn", "error"];
const NEW = { method: "POST", path: "/", headers: "", type: "application/json", body: "", level: "debug" };
const TIMEOUT = "120s";

// What was typed stays while the page is open.
const drafts = new Map();

/** The form for `name` and what it was answered, in `root` until `signal`. */
export function showPlain(root, name, signal) {
  const request = drafts.get(name) ?? { ...NEW };
  drafts.set(name, request);
  const fields = fieldsOf(request);
  const reply = h("div", { class: "stack", "aria-live": "polite" });
  const send = h("button", { class: "primary" }, "Send");
  const form = h(
    "form",
    { class: "card", "aria-label": "Request", onsubmit: submit, oninput: taken, onchange: taken },
    h("div", { class: "request-line" }, fields.method, fields.path, send),
    h(
      "label",
      { class: "field" },
      "Headers",
      fields.headers,
      h("small", {}, "One a line, as in X-Answer: 42"),
    ),
    bodyFields(fields),
    h("label", { class: "inline" }, "The function's log of this call", fields.level),
  );
  fields.path.addEventListener(
    "keydown",
    (event) => event.key === "Enter" && (event.preventDefault(), form.requestSubmit()),
  );
  const saved = savedRequests(name, {
    signal,
    now: () => (taken(), request),
    take,
    file: () => fields.file.files[0],
  });
  fill(root, h("div", { class: "plain-request" }, form, reply, saved));
  taken();

  function taken() {
    for (const key of Object.keys(NEW)) request[key] = fields[key].value;
    const file = fields.file.files[0];
    fields.bodyPart.hidden = BODYLESS.includes(request.method);
    fields.body.disabled = Boolean(file);
    fields.noFile.hidden = !file;
  }

  /** Show a request that was kept. */
  function take(other) {
    for (const key of Object.keys(NEW)) fields[key].value = other[key] ?? NEW[key];
    fields.file.value = "";
    taken();
    fill(reply);
  }

  async function submit(event) {
    event.preventDefault();
    taken();
    send.disabled = true;
    fill(reply, h("p", { class: "waiting" }, `${name} is asked…`));
    try {
      const body = BODYLESS.includes(request.method) ? null : (fields.file.files[0] ?? request.body);
      fill(reply, await showReply(await called(name, request, body, signal), signal));
    } catch (error) {
      if (!signal.aborted) fill(reply, problem(error));
    }
    send.disabled = false;
  }
}

function fieldsOf(request) {
  const options = (values, chosen) => values.map((one) => h("option", { selected: one === chosen }, one));
  const writing = { spellcheck: "false", autocapitalize: "off", autocomplete: "off" };
  const fields = {
    method: h("select", { "aria-label": "Method" }, options(METHODS, request.method)),
    path: h("input", { "aria-label": "Path", class: "mono", ...writing }),
    headers: h("textarea", { rows: 2, class: "mono", ...writing }),
    type: h("input", { list: "content-types", ...writing }),
    body: h("textarea", { rows: 8, class: "mono", "aria-label": "Body", ...writing }),
    file: h("input", { type: "file", "aria-label": "A file as the body" }),
    level: h(
      "select",
      {},
      h("option", { value: "" }, "none"),
      LEVELS.map((one) =>
        h(
          "option",
          { value: one, selected: one === request.level },
          one === "debug" ? "all" : `${one} and worse`,
        ),
      ),
    ),
  };
  for (const key of ["path", "headers", "type", "body"]) fields[key].value = request[key];
  if (!request.level) fields.level.value = "";
  return fields;
}

function bodyFields(fields) {
  fields.noFile = h("button", { type: "button", class: "small quiet", onclick: withoutFile }, "Text instead");
  fields.bodyPart = h(
    "div",
    { class: "stack" },
    h(
      "label",
      { class: "field" },
      "Content type",
      fields.type,
      h(
        "datalist",
        { id: "content-types" },
        TYPES.map((one) => h("option", { value: one })),
      ),
    ),
    h("label", { class: "field" }, "Body", fields.body),
    h(
      "div",
      { class: "actions" },
      h("span", { class: "quiet-text" }, "or a file"),
      fields.file,
      fields.noFile,
    ),
  );
  fields.file.addEventListener("change", () => {
    const type = fields.file.files[0]?.type;
    if (type) fields.type.value = type;
  });
  return fields.bodyPart;

  function withoutFile() {
    fields.file.value = "";
    fields.file.dispatchEvent(new Event("change", { bubbles: true }));
    fields.body.focus();
  }
}

/** The headers in lines of text. Raises an error that names the line that is none. */
function headersIn(text) {
  const found = new Headers();
  for (const line of text.split("\n").filter((one) => one.trim())) {
    const [name, ...value] = line.split(":");
    if (!value.length)
      throw refused(`${line.trim()} is no header`, "a header is a name, a colon and a value");
    try {
      found.append(name.trim(), value.join(":").trim());
    } catch {
      throw refused(
        `${line.trim()} cannot be sent as a header`,
        "names are letters, digits and `-`, values Latin letters",
      );
    }
    const kept = new Request(location.href, { headers: found }).headers;
    if (!kept.has(name.trim()))
      throw refused(`a browser does not let a page send ${name.trim()}`, "send it from a shell, with `curl`");
  }
  return found;
}

const refused = (error, hint) => new Refused(0, { error, hint });

/** Send a request. Gives `{response, content, ms, size}`; raises `Refused` when nothing answers. */
async function called(name, { method, path, headers: lines, type, level }, body, signal) {
  const headers = headersIn(lines);
  if (type && body !== null) headers.set("Content-Type", type);
  headers.set("X-Nuclio-Function-Name", name);
  headers.set("X-Nuclio-Path", (path || "/").replace(/[^!-~]+/g, encodeURIComponent));
  headers.set("X-Nuclio-Invoke-Timeout", TIMEOUT);
  if (settings.namespace) headers.set("X-Nuclio-Function-Namespace", settings.namespace);
  if (level) {
    headers.set("X-Nuclio-Log-Level", level);
    headers.set("X-Fnbuild-Logs", "true");
  }
  // Where a function redirects to is its callers' business, not this page's.
  const request = { method, headers, body: body || undefined, signal, cache: "no-store", redirect: "manual" };
  const began = performance.now();
  let response = await sent(request);
  if (response.status === 401 && !response.headers.has("Server-Timing") && (await settings.askForToken()))
    response = await sent(request);
  const content = await response.blob();
  return {
    name,
    response,
    content,
    ms: performance.now() - began,
    size: body?.size ?? new Blob([body ?? ""]).size,
  };
}
