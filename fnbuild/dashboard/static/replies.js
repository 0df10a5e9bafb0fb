// The reply to a plain request: status, times, body as what it is, headers, the function's log.

import { stagesOf } from "./asking.js";
import { copyButton, h, prose } from "./dom.js";
import { row } from "./logs.js";
import { raw, times } from "./panels.js";
import { download } from "./pictures.js";

const OF_TEXT = /^(text\/|application\/(json|xml|javascript|yaml|x-yaml|problem\+json|.*\+(json|xml)))/;
const MOST_TEXT = 2_000_000;

/** What came back, as elements; pictures are let go at `signal`. */
export async function showReply({ name, response, content, ms, size }, signal) {
  const { status, headers } = response;
  if (response.type === "opaqueredirect") {
    return h(
      "section",
      { class: "card", "aria-label": "Reply" },
      h("p", {}, prose(`${name} redirects. A page is not told where to: \`curl -i\` is.`)),
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
        pillOf(response),
        h("span", { class: "quiet-text" }, [type, bytes(content.size)].filter(Boolean).join(" · ")),
      ),
      await bodyOf(name, content, type, signal),
    ),
    logOf(headers.get("X-Nuclio-Logs")),
    h(
      "section",
      { class: "card panel-times", "aria-label": "Times" },
      times({ ms, stages: stagesOf(headers.get("Server-Timing")), size }),
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

function pillOf({ status, statusText }) {
  const [shape, kind] = status < 300 ? ["●", "good"] : status < 400 ? ["◇", "idle"] : ["✕", "bad"];
  return h(
    "span",
    { class: `pill ${kind}`, role: "status" },
    h("span", { class: "shape", "aria-hidden": "true" }, shape),
    `${status} ${statusText}`.trim(),
  );
}

async function bodyOf(name, content, type, signal) {
  if (!content.size) return h("p", { class: "quiet-text" }, "It has no body.");
  if (type.startsWith("image/")) return picture(content, signal);
  if ((OF_TEXT.test(type) || !type) && content.size < MOST_TEXT)
    return h("div", { class: "panel-raw" }, raw(await content.text()));
  return [
    h("p", {}, `${bytes(content.size)} that are no text.`),
    h(
      "p",
      { class: "actions" },
      h(
        "button",
        { type: "button", class: "small", onclick: () => download(content, `${name}-reply`) },
        "Save the body",
      ),
    ),
  ];
}

function picture(content, signal) {
  const address = URL.createObjectURL(content);
  signal.addEventListener("abort", () => URL.revokeObjectURL(address));
  const shown = h("img", { class: "reply-picture", src: address, alt: "The reply as a picture" });
  shown.addEventListener("error", () =>
    shown.replaceWith(h("p", {}, "The browser cannot show this picture.")),
  );
  return shown;
}

/** The records that the function wrote during the call. */
function logOf(text) {
  if (text === null) return null;
  let records = [];
  try {
    records = JSON.parse(text);
  } catch {
    return h(
      "section",
      { class: "card" },
      h("h2", {}, "Its log of this call"),
      h("pre", { class: "message" }, text),
      copyButton(text),
    );
  }
  return h(
    "section",
    { class: "card", "aria-labelledby": "call-log" },
    h("h2", { id: "call-log" }, "Its log of this call"),
    records.length
      ? h(
          "ol",
          { class: "records few" },
          records.map((one) => row(recordOf(one))),
        )
      : h("p", { class: "quiet-text" }, "It wrote nothing."),
  );
}

// A processor's record has its fields beside the others, and its time in milliseconds.
function recordOf({
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

const bytes = (size) =>
  size < 1024
    ? `${size} bytes`
    : size < 1024 ** 2
      ? `${(size / 1024).toFixed(1)} KiB`
      : `${(size / 1024 ** 2).toFixed(1)} MiB`;
