// The reply to a raw request: status, times, body, headers, the function's log.

import { parseServerTiming } from "./cvat_requests.js";
import { button, copyButton, formatSize, h, withCode } from "./dom.js";
import { logRow } from "./logs.js";
import { rawPanel, timingPanel } from "./panels.js";
import { download } from "./pictures.js";

const TEXT_TYPES = /^(text\/|application\/(json|xml|javascript|yaml|x-yaml|problem\+json|.*\+(json|xml)))/;
const MAX_TEXT_BYTES = 2_000_000;

/** @typedef {{name: string, response: Response, content: Blob, ms: number, size: number}} RawReply */

/**
 * Return a response as elements; images are released when `signal` is aborted.
 *
 * @param {RawReply} reply
 * @param {AbortSignal} signal
 */
export async function showReply({ name, response, content, ms, size }, signal) {
  const { status, headers } = response;
  if (response.type === "opaqueredirect") {
    return h(
      "section",
      { class: "card", "aria-label": "Reply" },
      h("p", {}, withCode(`${name} redirects. Browsers hide the target from pages; \`curl -i\` shows it.`)),
    );
  }
  const type = headers.get("content-type") ?? "";
  return [
    h(
      "section",
      { class: "card", "aria-label": "Reply" },
      h(
        "div",
        { class: "head" },
        h("h2", {}, "Reply"),
        statusPill(response),
        h("span", { class: "muted" }, [type, formatSize(content.size)].filter(Boolean).join(" · ")),
      ),
      await replyBody(name, content, type, signal),
    ),
    invocationLog(headers.get("X-Nuclio-Logs")),
    h(
      "section",
      { class: "card panel-times", "aria-label": "Times" },
      timingPanel({ ms, stages: parseServerTiming(headers.get("Server-Timing")), size }),
    ),
    h(
      "details",
      { class: "card", open: status >= 300 },
      h("summary", {}, `Headers (${[...headers].length})`),
      h(
        "dl",
        { class: "facts" },
        [...headers]
          .filter(([key]) => key !== "x-nuclio-logs")
          .map(([key, value]) => [h("dt", {}, key), h("dd", { class: "mono" }, value)]),
      ),
    ),
  ];
}

/** @param {Response} response */
function statusPill({ status, statusText }) {
  const [shape, kind] = status < 300 ? ["●", "good"] : status < 400 ? ["◇", "idle"] : ["✕", "bad"];
  return h(
    "span",
    { class: `pill ${kind}`, role: "status" },
    h("span", { class: "shape", "aria-hidden": "true" }, shape),
    `${status} ${statusText}`.trim(),
  );
}

/**
 * @param {string} name
 * @param {Blob} content
 * @param {string} type
 * @param {AbortSignal} signal
 */
async function replyBody(name, content, type, signal) {
  if (!content.size) return h("p", { class: "muted" }, "No body.");
  if (type.startsWith("image/")) return picture(content, signal);
  if ((TEXT_TYPES.test(type) || !type) && content.size < MAX_TEXT_BYTES)
    return h("div", { class: "panel-raw" }, rawPanel(await content.text()));
  return [
    h("p", {}, `${formatSize(content.size)} of binary data.`),
    h(
      "p",
      { class: "actions" },
      button("Save the body", () => download(content, `${name}-reply`), { class: "small" }),
    ),
  ];
}

/**
 * @param {Blob} content
 * @param {AbortSignal} signal
 */
function picture(content, signal) {
  const address = URL.createObjectURL(content);
  signal.addEventListener("abort", () => URL.revokeObjectURL(address));
  const image = h("img", { class: "reply-picture", src: address, alt: "The reply as a picture" });
  image.addEventListener("error", () =>
    image.replaceWith(h("p", {}, "The browser cannot show this picture.")),
  );
  return image;
}

/**
 * Return the records that the function wrote during the call.
 *
 * @param {string | null} text
 */
function invocationLog(text) {
  if (text === null) return null;
  let records = [];
  try {
    records = JSON.parse(text);
  } catch {
    return h(
      "section",
      { class: "card" },
      h("h2", {}, "Log of this call"),
      h("pre", { class: "message" }, text),
      copyButton(text),
    );
  }
  return h(
    "section",
    { class: "card", "aria-labelledby": "call-log" },
    h("h2", { id: "call-log" }, "Log of this call"),
    records.length
      ? h(
          "ol",
          { class: "records short" },
          records.map((/** @type {unknown} */ record) => logRow(logRecord(record))),
        )
      : h("p", { class: "muted" }, "No log records."),
  );
}

/**
 * Convert a record of the processor, which has its fields at the top level and its time in milliseconds.
 *
 * @param {any} record
 * @returns {LogRecord}
 */
function logRecord({
  time,
  level,
  message,
  worker,
  name: _name,
  request_id: _request,
  trace_id: _trace,
  ...fields
}) {
  return { time: time / 1000, level, message, worker, fields };
}
