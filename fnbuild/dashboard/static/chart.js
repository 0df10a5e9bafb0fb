// A chart of samples over time, as lines or bars.

import { h, setChildren, svg, timeElement } from "./dom.js";

const HEIGHT = 170;
const LEFT = 52;
const RIGHT = 12;
const TOP = 10;
const BOTTOM = 24;

/**
 * @typedef {object} Sample
 * @property {number} time in seconds
 * @property {number} requests
 * @property {number} errors
 * @property {number | null} [p50]
 * @property {number | null} [p95]
 * @property {number | null} [p99]
 * @property {number | null} [busy]
 * @property {number | null} [workers]
 * @property {Record<string, [lower: number, upper: number | null]>} [bounds]
 */

/**
 * @typedef {object} Series
 * @property {string} key
 * @property {string} name
 * @property {(sample: Sample) => number | null | undefined} of
 * @property {(sample: Sample) => string} [text]
 */

/** @typedef {{key: string, title: string, unit: string, bars?: boolean, series: Series[]}} ChartOptions */

/**
 * @typedef {object} Layout
 * @property {number} width
 * @property {number} step
 * @property {(index: number) => number} x
 * @property {(value: number) => number} y
 */

/**
 * Return a chart. The arrow keys and the pointer read its values.
 *
 * @param {ChartOptions} options
 */
export function createChart({ key, title, unit, series, bars = false }) {
  const drawing = svg("svg", {
    class: "chart",
    role: "img",
    tabindex: "0",
    "aria-label": title,
    "aria-describedby": `reading-${key}`,
  });
  const reading = h("p", { class: "reading", id: `reading-${key}`, role: "status", "aria-live": "off" });
  const legend = h(
    "ul",
    { class: "legend" },
    series.map((item) =>
      h(
        "li",
        { class: item.key },
        svg(
          "svg",
          { viewBox: "0 0 20 8", "aria-hidden": "true" },
          bars
            ? svg("rect", { width: 10, height: 8, x: 5, class: `bar-${item.key}` })
            : svg("path", { d: "M0 4h20", class: `line ${item.key}` }),
        ),
        item.name,
      ),
    ),
  );
  const node = h(
    "figure",
    { class: "card", "data-chart": key },
    h("figcaption", { class: "head" }, h("h2", {}, unit ? `${title} (${unit})` : title), legend),
    drawing,
    reading,
  );
  /** @type {Sample[]} */
  let samples = [];
  let interval = 0;
  /** @type {number | null} */
  let cursor = null;
  /** @type {Layout | null} */
  let layout = null;
  drawing.addEventListener("pointermove", (event) => setCursor(indexAtPointer(event)));
  drawing.addEventListener("pointerleave", () => setCursor(null));
  drawing.addEventListener("blur", () => setCursor(null));
  drawing.addEventListener("keydown", (event) => {
    const step = event.key === "ArrowLeft" ? -1 : event.key === "ArrowRight" ? 1 : 0;
    if (!step || !samples.length) return;
    event.preventDefault();
    setCursor(Math.min(samples.length - 1, Math.max(0, (cursor ?? samples.length) + step)));
  });
  return { node, draw };

  function draw(newSamples = samples, newInterval = interval) {
    samples = newSamples;
    interval = newInterval;
    const width = Math.max(200, drawing.clientWidth || 600);
    drawing.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const values = samples
      .flatMap((sample) => series.map(({ of }) => of(sample) ?? null))
      .filter((value) => value !== null);
    if (!values.some((value) => value > 0)) {
      layout = null;
      setChildren(
        drawing,
        svg(
          "text",
          { x: width / 2, y: HEIGHT / 2, "text-anchor": "middle", class: "tick" },
          "No requests in this time",
        ),
      );
      return showReading();
    }
    const ticks = axisTicks(Math.max(...values), key === "latency" ? 0 : 1);
    const maximum = ticks[ticks.length - 1];
    const plotWidth = width - LEFT - RIGHT;
    /** @type {Layout} */
    const plot = {
      width,
      x: (index) =>
        LEFT +
        (bars
          ? ((index + 0.5) / samples.length) * plotWidth
          : (index / Math.max(1, samples.length - 1)) * plotWidth),
      y: (value) => TOP + (1 - value / maximum) * (HEIGHT - TOP - BOTTOM),
      step: plotWidth / samples.length,
    };
    layout = plot;
    const drawSeries = bars ? seriesBars : seriesLine;
    const seriesElements = series.map((item) => drawSeries(plot, item));
    setChildren(drawing, grid(plot, ticks), timeAxis(plot), seriesElements, cursorLine(plot));
    showReading();
  }

  /**
   * @param {Layout} layout
   * @param {number[]} ticks
   */
  function grid(layout, ticks) {
    return ticks.map((tick) => [
      svg("line", {
        class: "grid",
        x1: LEFT,
        x2: layout.width - RIGHT,
        y1: layout.y(tick),
        y2: layout.y(tick),
      }),
      svg(
        "text",
        { class: "tick", x: LEFT - 8, y: layout.y(tick) + 4, "text-anchor": "end" },
        formatNumber(tick),
      ),
    ]);
  }

  /** @param {Layout} layout */
  function timeAxis(layout) {
    const [first, last] = [samples[0].time, samples[samples.length - 1].time];
    return ["start", "middle", "end"].map((textAnchor, index) => {
      const fraction = index / 2;
      const text = clockTime(first + fraction * (last - first));
      return svg(
        "text",
        {
          class: "tick",
          x: LEFT + fraction * (layout.width - LEFT - RIGHT),
          y: HEIGHT - 6,
          "text-anchor": textAnchor,
        },
        text,
      );
    });
  }

  /**
   * Return the line of a series. Without requests there is no latency: the line has a gap, an isolated
   * value is a dot.
   *
   * @param {Layout} layout
   * @param {Series} series
   */
  function seriesLine(layout, { key: name, of }) {
    let path = "";
    /** @type {SVGElement[]} */
    const isolated = [];
    samples.forEach((sample, index) => {
      const value = of(sample);
      if (value === null || value === undefined) return;
      /** @param {number} other */
      const hasValue = (other) => samples[other] && (of(samples[other]) ?? null) !== null;
      const point = `${layout.x(index).toFixed(1)} ${layout.y(value).toFixed(1)}`;
      path += `${hasValue(index - 1) ? "L" : "M"}${point}`;
      if (!hasValue(index - 1) && !hasValue(index + 1))
        isolated.push(
          svg("circle", { class: `dot ${name}`, cx: layout.x(index), cy: layout.y(value), r: 2.5 }),
        );
    });
    return [svg("path", { class: `line ${name}`, d: path }), isolated];
  }

  /**
   * @param {Layout} layout
   * @param {Series} series
   */
  function seriesBars(layout, { key: name, of }) {
    const base = layout.y(0);
    const barWidth = Math.max(1, layout.step - Math.min(2, layout.step * 0.25));
    return samples.map((sample, index) => {
      const value = of(sample) ?? 0;
      if (!value) return null;
      const y = Math.min(layout.y(value), base - 1);
      return svg("rect", {
        class: `bar-${name}`,
        x: (layout.x(index) - barWidth / 2).toFixed(1),
        y: y.toFixed(1),
        width: barWidth.toFixed(1),
        height: (base - y).toFixed(1),
      });
    });
  }

  /** @param {Layout} layout */
  function cursorLine(layout) {
    if (cursor === null || !samples[cursor]) return null;
    const x = layout.x(cursor);
    return svg("line", { class: "cursor", x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM });
  }

  /** @param {number | null} index */
  function setCursor(index) {
    if (index === cursor) return;
    cursor = index;
    reading.setAttribute("aria-live", index === null ? "off" : "polite");
    if (layout) draw();
  }

  /** @param {PointerEvent} event */
  function indexAtPointer(event) {
    if (!layout || !samples.length) return null;
    const box = drawing.getBoundingClientRect();
    const fraction = (event.clientX - box.left - LEFT) / (layout.width - LEFT - RIGHT);
    return Math.min(
      samples.length - 1,
      Math.max(0, bars ? Math.floor(fraction * samples.length) : Math.round(fraction * (samples.length - 1))),
    );
  }

  function showReading() {
    /** @param {Sample} sample */
    const hasValues = (sample) => series.some(({ of }) => (of(sample) ?? null) !== null);
    const selected = cursor === null ? (samples.findLast(hasValues) ?? samples.at(-1)) : samples[cursor];
    if (!selected) return setChildren(reading, "No measurements yet.");
    const readings = series.map(
      ({ name, of, text = (sample) => formatNumber(of(sample)) }) =>
        `${name} ${text(selected)}${unit && of(selected) !== null ? ` ${unit}` : ""}`,
    );
    const perInterval = bars && interval ? ` in ${interval} s` : "";
    setChildren(
      reading,
      cursor === null ? "Last, at " : "At ",
      timeElement(selected.time * 1000),
      ": ",
      readings.join(", "),
      perInterval,
    );
  }
}

/**
 * Return a percentile: its value, or the bounds of its bucket.
 *
 * @param {Sample} sample
 * @param {string} key
 */
export function percentileText({ bounds }, key) {
  if (!bounds?.[key]) return "–";
  const [lower, upper] = bounds[key];
  if (upper === null) return `> ${formatNumber(lower)}`;
  if (lower === upper) return formatNumber(upper);
  return lower ? `${formatNumber(lower)}–${formatNumber(upper)}` : `≤ ${formatNumber(upper)}`;
}

/**
 * Format a time in seconds as hours, minutes and seconds.
 *
 * @param {number} seconds
 */
export const clockTime = (seconds) =>
  new Date(seconds * 1000).toLocaleTimeString(undefined, { timeStyle: "medium", hourCycle: "h23" });

/**
 * Return about four round numbers from 0 to at least `maximum`, at least `minimumStep` apart.
 *
 * @param {number} maximum
 * @param {number} minimumStep
 */
function axisTicks(maximum, minimumStep) {
  const rough = Math.max(maximum, Number.EPSILON) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const tickStep = Math.max(
    minimumStep,
    [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough) ?? 0,
  );
  const count = Math.ceil(maximum / tickStep - 1e-9);
  return Array.from({ length: count + 1 }, (_, index) => index * tickStep);
}

/**
 * Format a number with up to two decimals, fewer for large numbers; "–" stands for none.
 *
 * @param {number | null | undefined} value
 */
export function formatNumber(value) {
  if (value === null || value === undefined) return "–";
  const digits = Math.abs(value) >= 100 || Number.isInteger(value) ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return Number(value).toLocaleString(undefined, { maximumFractionDigits: digits });
}
