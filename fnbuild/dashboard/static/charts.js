// The tab `#/functions/NAME/charts`: latency, requests, errors and workers of the last minutes.

import { call, functionPath } from "./api.js";
import { append, h, setChildren, svg, timeElement } from "./dom.js";
import { drawErrors, lastChange } from "./errors.js";
import { errorBox } from "./states.js";

const HEIGHT = 170;
const LEFT = 52;
const RIGHT = 12;
const TOP = 10;
const BOTTOM = 24;
const TABLE_ROWS = 60;

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
 * @typedef {object} Statistics
 * @property {number} interval
 * @property {Sample[]} [samples]
 * @property {FunctionError[]} [errors]
 * @property {number} [restarts]
 * @property {number} [gpuMemory]
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

/** @type {(percentile: "p50" | "p95" | "p99") => Series} */
const percentileSeries = (percentile) => ({
  key: percentile,
  name: percentile,
  of: (sample) => sample[percentile],
  text: (sample) => percentileText(sample, percentile),
});

/** @type {ChartOptions[]} */
const CHARTS = [
  {
    key: "latency",
    title: "Latency",
    unit: "ms",
    series: [percentileSeries("p50"), percentileSeries("p95"), percentileSeries("p99")],
  },
  {
    key: "requests",
    title: "Requests and errors",
    unit: "",
    bars: true,
    series: [
      { key: "requests", name: "requests", of: (sample) => sample.requests },
      { key: "errors", name: "errors", of: (sample) => sample.errors },
    ],
  },
  {
    key: "workers",
    title: "Workers",
    unit: "",
    series: [
      { key: "busy", name: "busy", of: (sample) => sample.busy },
      { key: "workers", name: "total", of: (sample) => sample.workers },
    ],
  },
];

/**
 * @param {HTMLElement} root
 * @param {Record<string, string>} params
 * @param {TabContext} context
 */
export async function show(root, { name }, { current, signal }) {
  const feedback = h("div");
  const tiles = h("dl", { class: "tiles" });
  const figures = CHARTS.map(chart);
  const table = h("tbody");
  const errors = h("div");
  append(
    root,
    feedback,
    tiles,
    figures.map((figure) => figure.node),
    h("section", { class: "card" }, h("h2", {}, "Last errors"), errors),
    h(
      "details",
      { class: "card" },
      h("summary", {}, "Data as a table"),
      h(
        "div",
        { class: "scroll", tabindex: "0" },
        h(
          "table",
          { class: "figures" },
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              ["Time", "Requests", "Errors", "p50 ms", "p95 ms", "p99 ms", "Busy"].map((title) =>
                h("th", { scope: "col" }, title),
              ),
            ),
          ),
          table,
        ),
      ),
    ),
  );
  let timer = 0;
  const resizeObserver = new ResizeObserver(() => figures.forEach((figure) => figure.draw()));
  resizeObserver.observe(root);
  await poll();
  return () => {
    clearTimeout(timer);
    resizeObserver.disconnect();
  };

  async function poll() {
    let interval = 5;
    try {
      if (!document.hidden) {
        const statistics = await call("GET", functionPath(name, "statistics"), { signal });
        interval = statistics.interval || interval;
        setChildren(feedback);
        drawAll(statistics);
      }
    } catch (error) {
      if (signal.aborted) return;
      setChildren(feedback, errorBox(error));
    }
    if (!signal.aborted) timer = setTimeout(poll, Math.min(Math.max(interval, 1), 10) * 1000);
  }

  /** @param {Statistics} statistics */
  function drawAll(statistics) {
    const { samples = [] } = statistics;
    setChildren(tiles, summaryTiles(statistics, samples));
    for (const figure of figures) figure.draw(samples, statistics.interval);
    setChildren(
      table,
      samples
        .slice(-TABLE_ROWS)
        .reverse()
        .map((sample) =>
          h(
            "tr",
            {},
            h("td", {}, timeElement(sample.time * 1000)),
            [
              number(sample.requests),
              number(sample.errors),
              ...["p50", "p95", "p99"].map((key) => percentileText(sample, key)),
              number(sample.busy),
            ].map((text) => h("td", {}, text)),
          ),
        ),
    );
    drawErrors(errors, statistics.errors ?? [], { ...lastChange(current()), limit: 20 });
  }
}

/**
 * @param {Statistics} statistics
 * @param {Sample[]} samples
 */
function summaryTiles(statistics, samples) {
  /** @param {"requests" | "errors"} key */
  const sum = (key) => samples.reduce((total, sample) => total + sample[key], 0);
  const last = samples.findLast((sample) => sample.bounds?.p95);
  const since = samples.length ? [" since ", clockTime(samples[0].time - statistics.interval)] : "";
  const latest = samples.at(-1);
  /** @type {[name: Child, value: string][]} */
  const rows = [
    [["Requests", since], number(sum("requests"))],
    [["Errors", since], number(sum("errors"))],
    [last ? ["p95 at ", clockTime(last.time)] : "p95", last ? `${percentileText(last, "p95")} ms` : "–"],
    [
      "Workers",
      latest && latest.workers !== null ? `${number(latest.busy)} busy of ${number(latest.workers)}` : "–",
    ],
    ["Restarts", number(statistics.restarts ?? 0)],
  ];
  if (statistics.gpuMemory) rows.push(["GPU memory", `${number(statistics.gpuMemory / 1024 ** 2)} MiB`]);
  return rows.map(([key, value]) => h("div", {}, h("dt", {}, key), h("dd", {}, value)));
}

/**
 * Return a chart. The arrow keys and the pointer read its values.
 *
 * @param {ChartOptions} options
 */
function chart({ key, title, unit, series, bars = false }) {
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
      svg("text", { class: "tick", x: LEFT - 8, y: layout.y(tick) + 4, "text-anchor": "end" }, number(tick)),
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
      ({ name, of, text = (sample) => number(of(sample)) }) =>
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
function percentileText({ bounds }, key) {
  if (!bounds?.[key]) return "–";
  const [lower, upper] = bounds[key];
  if (upper === null) return `> ${number(lower)}`;
  if (lower === upper) return number(upper);
  return lower ? `${number(lower)}–${number(upper)}` : `≤ ${number(upper)}`;
}

/**
 * Format a time in seconds as hours, minutes and seconds.
 *
 * @param {number} seconds
 */
const clockTime = (seconds) =>
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

/** @param {number | null | undefined} value */
function number(value) {
  if (value === null || value === undefined) return "–";
  const digits = Math.abs(value) >= 100 || Number.isInteger(value) ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return Number(value).toLocaleString(undefined, { maximumFractionDigits: digits });
}
