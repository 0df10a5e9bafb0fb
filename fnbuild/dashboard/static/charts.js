// The tab `#/functions/NAME/charts`: latency, requests, errors and workers of the last minutes.

import { call, functionPath } from "./api.js";
import { clockTime, createChart, formatNumber, percentileText } from "./chart.js";
import { append, h, setChildren, timeElement } from "./dom.js";
import { drawErrors, lastChange } from "./errors.js";
import { errorBox } from "./states.js";

const TABLE_ROWS = 60;

/** @typedef {import("./chart.js").Sample} Sample */
/** @typedef {import("./chart.js").Series} Series */
/** @typedef {import("./chart.js").ChartOptions} ChartOptions */

/**
 * @typedef {object} Statistics
 * @property {number} interval
 * @property {Sample[]} [samples]
 * @property {FunctionError[]} [errors]
 * @property {number} [restarts]
 * @property {number} [gpuMemory]
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
  const figures = CHARTS.map(createChart);
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
              formatNumber(sample.requests),
              formatNumber(sample.errors),
              ...["p50", "p95", "p99"].map((key) => percentileText(sample, key)),
              formatNumber(sample.busy),
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
    [["Requests", since], formatNumber(sum("requests"))],
    [["Errors", since], formatNumber(sum("errors"))],
    [last ? ["p95 at ", clockTime(last.time)] : "p95", last ? `${percentileText(last, "p95")} ms` : "–"],
    [
      "Workers",
      latest && latest.workers !== null
        ? `${formatNumber(latest.busy)} busy of ${formatNumber(latest.workers)}`
        : "–",
    ],
    ["Restarts", formatNumber(statistics.restarts ?? 0)],
  ];
  if (statistics.gpuMemory)
    rows.push(["GPU memory", `${formatNumber(statistics.gpuMemory / 1024 ** 2)} MiB`]);
  return rows.map(([key, value]) => h("div", {}, h("dt", {}, key), h("dd", {}, value)));
}
