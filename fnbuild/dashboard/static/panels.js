// What stands beside the picture: results and their labels, times, findings, the request, the reply.

import { asCurl, asPython } from "./asking.js";
import { copyButton, fill, h, prose, put } from "./dom.js";
import { css } from "./draw.js";
import { area } from "./masks.js";
import { colourAt, colourOf, summary } from "./shapes.js";

const ROWS = 200;
const SHOWN = 100_000;

const STAGES = {
  queue: "waiting for a worker",
  handover: "handing the request over",
  handler: "the handler",
  reply: "taking the reply",
  way: "way there and back",
};

/** A square of a colour. */
export const swatch = (colour) => {
  const mark = h("span", { class: "swatch", "aria-hidden": "true" });
  mark.style.background = css(colour);
  return mark;
};

const inkOf = (shape, labels) =>
  shape.label || shape.index === undefined ? colourOf(shape.label, labels) : colourAt(shape.index);

/** Buttons that hide and show labels, with how often each was found. */
export function legend(shapes, labels, hidden, toggle) {
  const counts = new Map();
  for (const { label } of shapes) if (label) counts.set(label, (counts.get(label) ?? 0) + 1);
  const order = (name) => labels.findIndex((one) => one.name === name) + 1 || labels.length + 1;
  return [...counts.keys()]
    .sort((a, b) => order(a) - order(b))
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

/** The results as rows; `mark` is called with the shape that somebody looks at, or null. */
export function rows(shapes, labels, mark) {
  const list = h("ul", { class: "results" });
  for (const shape of shapes.slice(0, ROWS)) {
    const name = shape.label || (shape.index === undefined ? shape.type : `${shape.type} ${shape.index + 1}`);
    const where = shape.mask ? `${area(shape.mask).toLocaleString("en")} pixels` : summary(shape);
    put(
      list,
      h(
        "li",
        {
          tabindex: 0,
          onmouseenter: () => mark(shape),
          onmouseleave: () => mark(null),
          onfocus: () => mark(shape),
          onblur: () => mark(null),
        },
        swatch(inkOf(shape, labels)),
        h("span", { class: "what" }, name),
        h("span", { class: "sure" }, shape.confidence === null ? "" : shape.confidence.toFixed(2)),
        h(
          "span",
          { class: "where" },
          shape.label && shape.type !== "rectangle" ? `${shape.type} ${where}` : where,
        ),
      ),
    );
  }
  if (shapes.length > ROWS) put(list, h("li", { class: "quiet-text" }, `and ${shapes.length - ROWS} more`));
  return list;
}

/** Where the milliseconds went. */
export function times({ ms, stages, size }) {
  const known = stages.reduce((sum, [, duration]) => sum + duration, 0);
  const parts = known ? [...stages, ["way", Math.max(0, ms - known)]] : [];
  const bar = h("div", { class: "times", "aria-hidden": "true" });
  for (const [name, duration] of parts) {
    const part = h("span", { class: `time-${name}` });
    part.style.flexGrow = duration;
    put(bar, part);
  }
  const said = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
  return [
    h("p", {}, h("strong", { class: "total" }, said(ms)), ` for ${Math.ceil(size / 1024)} KB sent`),
    parts.length > 0 && bar,
    parts.length > 0 &&
      h(
        "dl",
        { class: "stages" },
        parts.map(([name, duration]) => [
          h(
            "dt",
            {},
            h("span", { class: `swatch time-${name}`, "aria-hidden": "true" }),
            STAGES[name] ?? name,
          ),
          h("dd", {}, said(duration)),
        ]),
      ),
  ];
}

/** What CVAT would make of the reply; `absence` says why it never asks for one. */
export function verdict(findings, absence = "") {
  const unseen = absence && h("p", { class: "note warn" }, prose(`CVAT does not ask it: it is ${absence}`));
  if (!findings.length)
    return [unseen, h("p", { class: unseen ? "" : "fine" }, "✓ CVAT takes this reply as it is.")];
  const refused = findings.filter((one) => one.severity === "error").length;
  return [
    unseen,
    h(
      "p",
      { class: refused ? "refused" : "" },
      refused ? "CVAT would refuse or misread this reply." : "CVAT would leave something out.",
    ),
    h(
      "ul",
      { class: "findings" },
      findings
        .slice(0, 50)
        .map((one) =>
          h(
            "li",
            { class: one.severity },
            h("strong", {}, one.severity === "error" ? "✕ " : "▲ ", one.path && h("code", {}, one.path)),
            ` ${one.message}`,
            one.hint && h("small", {}, ` → ${one.hint}`),
          ),
        ),
      findings.length > 50 && h("li", {}, `and ${findings.length - 50} more`),
    ),
  ];
}

/** The request as programs, of which one is shown. */
export function program(name, entries) {
  const ways = { curl: asCurl, Python: asPython };
  const tabs = h("div", { class: "chips", role: "group", "aria-label": "The request in" });
  const place = h("div", { class: "program" });
  function choose(way) {
    const text = ways[way](name, entries);
    fill(
      tabs,
      Object.keys(ways).map((one) =>
        h(
          "button",
          { type: "button", class: "chip", "aria-pressed": String(one === way), onclick: () => choose(one) },
          one,
        ),
      ),
    );
    fill(place, h("pre", { class: "code", tabindex: 0, "aria-label": way }, text), copyButton(text));
  }
  choose("curl");
  return [tabs, place];
}

/** The reply as it came, indented when it is JSON. */
export function raw(text) {
  let shown = text;
  try {
    // Lists of numbers stay in their line: masks and points would be thousands of lines.
    shown = JSON.stringify(JSON.parse(text), null, 2).replace(
      /\[\s+(-?[\d.e+-]+(?:,\s+-?[\d.e+-]+)*)\s+\]/g,
      (_, inner) => `[${inner.replace(/,\s+/g, ", ")}]`,
    );
  } catch {
    // It is shown as it is.
  }
  const long = shown.length > SHOWN;
  return [
    h("pre", { class: "code", tabindex: 0 }, long ? shown.slice(0, SHOWN) : shown),
    long && h("p", { class: "quiet-text" }, `… ${shown.length - SHOWN} more characters; copy gives all`),
    copyButton(text),
  ];
}
