// The panels of the playground: results and their labels, times, findings, the request, the reply.

import { asCurl, asPython } from "./cvat_requests.js";
import { append, button, copyButton, h, setChildren, withCode } from "./dom.js";
import { css } from "./draw.js";
import { area } from "./masks.js";
import { colourOf, shapeColour, summary } from "./shapes.js";

const MAX_ROWS = 200;
const MAX_CHARACTERS = 100_000;

/** @type {Record<string, string>} */
const STAGES = {
  queue: "waiting for a worker",
  handover: "transfer to the worker",
  handler: "handler",
  reply: "transfer of the reply",
  network: "network",
};

/**
 * Return a square of a colour.
 *
 * @param {Colour} colour
 */
export const swatch = (colour) => {
  const highlight = h("span", { class: "swatch", "aria-hidden": "true" });
  highlight.style.background = css(colour);
  return highlight;
};

/**
 * Return buttons that hide and show labels, with their numbers of shapes.
 *
 * @param {Shape[]} shapes
 * @param {Label[]} labels
 * @param {Set<string>} hidden
 * @param {(label: string) => void} toggle
 */
export function labelButtons(shapes, labels, hidden, toggle) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const { label } of shapes) if (label) counts.set(label, (counts.get(label) ?? 0) + 1);
  /** @param {string} name */
  const labelOrder = (name) => labels.findIndex((label) => label.name === name) + 1 || labels.length + 1;
  return [...counts.keys()]
    .sort((a, b) => labelOrder(a) - labelOrder(b))
    .map((name) =>
      h(
        "button",
        {
          type: "button",
          class: "chip",
          "data-label": name,
          "aria-pressed": String(!hidden.has(name)),
          title: hidden.has(name) ? `Show ${name}` : `Hide ${name}`,
          onclick: () => toggle(name),
        },
        swatch(colourOf(name, labels)),
        name,
        h("span", { class: "count" }, String(counts.get(name))),
      ),
    );
}

/**
 * Return the results as rows. `highlight` is called with the shape in focus or under the pointer, or null.
 *
 * @param {Shape[]} shapes
 * @param {Label[]} labels
 * @param {(shape: Shape | null) => void} highlight
 */
export function resultRows(shapes, labels, highlight) {
  const list = h("ul", { class: "results" });
  for (const shape of shapes.slice(0, MAX_ROWS)) {
    const name = shape.label || (shape.index === undefined ? shape.type : `${shape.type} ${shape.index + 1}`);
    const location = shape.mask ? `${area(shape.mask).toLocaleString("en")} pixels` : summary(shape);
    append(
      list,
      h(
        "li",
        {
          tabindex: 0,
          onmouseenter: () => highlight(shape),
          onmouseleave: () => highlight(null),
          onfocus: () => highlight(shape),
          onblur: () => highlight(null),
        },
        swatch(shapeColour(shape, labels)),
        h("span", { class: "result-name" }, name),
        h("span", { class: "confidence" }, shape.confidence === null ? "" : shape.confidence.toFixed(2)),
        h(
          "span",
          { class: "location" },
          shape.label && shape.type !== "rectangle" ? `${shape.type} ${location}` : location,
        ),
      ),
    );
  }
  if (shapes.length > MAX_ROWS)
    append(list, h("li", { class: "muted" }, `and ${shapes.length - MAX_ROWS} more`));
  return list;
}

/**
 * Return the duration of a request and of its stages.
 *
 * @param {Timing} timing
 */
export function timingPanel({ ms, stages, size }) {
  const measured = stages.reduce((sum, [, duration]) => sum + duration, 0);
  /** @type {StageTime[]} */
  const segments = measured ? [...stages, ["network", Math.max(0, ms - measured)]] : [];
  const bar = h("div", { class: "times", "aria-hidden": "true" });
  for (const [name, duration] of segments) {
    const segment = h("span", { class: `time-${name}` });
    segment.style.flexGrow = String(duration);
    append(bar, segment);
  }
  /** @param {number} value */
  const formatTime = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
  return [
    h("p", {}, h("strong", { class: "total" }, formatTime(ms)), ` for ${Math.ceil(size / 1024)} KB sent`),
    segments.length > 0 && bar,
    segments.length > 0 &&
      h(
        "dl",
        { class: "stages" },
        segments.map(([name, duration]) => [
          h(
            "dt",
            {},
            h("span", { class: `swatch time-${name}`, "aria-hidden": "true" }),
            STAGES[name] ?? name,
          ),
          h("dd", {}, formatTime(duration)),
        ]),
      ),
  ];
}

/**
 * Return the findings of CVAT's check. `exclusion` is the reason why CVAT does not list the function.
 *
 * @param {Finding[]} findings
 */
export function findingsPanel(findings, exclusion = "") {
  const excludedNote =
    exclusion &&
    h("p", { class: "note warn" }, withCode(`CVAT does not call this function: it is ${exclusion}`));
  if (!findings.length)
    return [excludedNote, h("p", { class: excludedNote ? "" : "accepted" }, "✓ CVAT accepts this reply.")];
  const errorCount = findings.filter((finding) => finding.severity === "error").length;
  return [
    excludedNote,
    h(
      "p",
      { class: errorCount ? "refused" : "" },
      errorCount ? "CVAT would refuse or misread this reply." : "CVAT would omit something.",
    ),
    h(
      "ul",
      { class: "findings" },
      findings
        .slice(0, 50)
        .map((finding) =>
          h(
            "li",
            { class: finding.severity },
            h(
              "strong",
              {},
              finding.severity === "error" ? "✕ " : "▲ ",
              finding.path && h("code", {}, finding.path),
            ),
            ` ${finding.message}`,
            finding.hint && h("small", {}, ` → ${finding.hint}`),
          ),
        ),
      findings.length > 50 && h("li", {}, `and ${findings.length - 50} more`),
    ),
  ];
}

/**
 * Return the request as programs, one of which is shown.
 *
 * @param {string} name
 * @param {RequestEntry[]} entries
 */
export function programPanel(name, entries) {
  /** @type {Record<string, typeof asCurl>} */
  const formats = { curl: asCurl, Python: asPython };
  const tabs = h("div", { class: "chips", role: "group", "aria-label": "Language" });
  const container = h("div", { class: "program" });
  /** @param {string} format */
  function select(format) {
    const text = formats[format](name, entries);
    setChildren(
      tabs,
      Object.keys(formats).map((candidate) =>
        button(candidate, () => select(candidate), {
          class: "chip",
          "aria-pressed": String(candidate === format),
        }),
      ),
    );
    setChildren(
      container,
      h("pre", { class: "code", tabindex: 0, "aria-label": format }, text),
      copyButton(text),
    );
  }
  select("curl");
  return [tabs, container];
}

/**
 * Return a reply as it is, indented if it is JSON.
 *
 * @param {string} text
 */
export function rawPanel(text) {
  let formatted = text;
  try {
    // Lists of numbers stay in their line: masks and points would be thousands of lines.
    formatted = JSON.stringify(JSON.parse(text), null, 2).replace(
      /\[\s+(-?[\d.e+-]+(?:,\s+-?[\d.e+-]+)*)\s+\]/g,
      (_, inner) => `[${inner.replace(/,\s+/g, ", ")}]`,
    );
  } catch {
    // It is shown as it is.
  }
  const isLong = formatted.length > MAX_CHARACTERS;
  return [
    h("pre", { class: "code", tabindex: 0 }, isLong ? formatted.slice(0, MAX_CHARACTERS) : formatted),
    isLong &&
      h("p", { class: "muted" }, `… ${formatted.length - MAX_CHARACTERS} more characters; copy gives all`),
    copyButton(text),
  ];
}
