// The tab `#/functions/NAME/charts`: latency, requests and errors, workers, of the last minutes.

import { call, inFunction } from "./api.js";
import { fill, h, put, svg, when } from "./dom.js";
import { drawErrors, lastChange } from "./errors.js";
import { problem } from "./states.js";

const HEIGHT = 170;
const LEFT = 52;
const RIGHT = 12;
const TOP = 10;
const BOTTOM = 24;
const TABLE_ROWS = 60;

// A series differs from the others by its dash too, not by its colour alone.
const CHARTS = [
  {
    key: "latency",
    title: "Latency",
    unit: "ms",
    series: [
      { key: "p50", name: "p50", of: (one) => one.p50, told: (one) => known(one, "p50") },
      { key: "p95", name: "p95", of: (one) => one.p95, told: (one) => known(one, "p95") },
      { key: "p99", name: "p99", of: (one) => one.p99, told: (one) => known(one, "p99") },
    ],
  },
  {
    key: "requests",
    title: "Requests and errors",
    unit: "",
    bars: true,
    series: [
      { key: "requests", name: "requests", of: (one) => one.requests },
      { key: "errors", name: "errors", of: (one) => one.errors },
    ],
  },
  {
    key: "workers",
    title: "Workers",
    unit: "",
    series: [
      { key: "busy", name: "busy", of: (one) => one.busy },
      { key: "workers", name: "there are", of: (one) => one.workers },
    ],
  },
];

export async function show(root, { name }, { current, signal }) {
  const said = h("div");
  const tiles = h("dl", { class: "tiles" });
  const figures = CHARTS.map(chart);
  const table = h("tbody");
  const errors = h("div");
  put(
    root,
    said,
    tiles,
    figures.map((one) => one.node),
    h("section", { class: "card" }, h("h2", {}, "Last errors"), errors),
    h(
      "details",
      { class: "card" },
      h("summary", {}, "The figures as a table"),
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
              ["Time", "Requests", "Errors", "p50 ms", "p95 ms", "p99 ms", "Busy"].map((one) =>
                h("th", { scope: "col" }, one),
              ),
            ),
          ),
          table,
        ),
      ),
    ),
  );
  let timer = 0;
  const sizes = new ResizeObserver(() => figures.forEach((one) => one.draw()));
  sizes.observe(root);
  await ask();
  return () => {
    clearTimeout(timer);
    sizes.disconnect();
  };

  async function ask() {
    let interval = 5;
    try {
      if (!document.hidden) {
        const found = await call("GET", inFunction(name, "statistics"), { signal });
        interval = found.interval || interval;
        fill(said);
        drawAll(found);
      }
    } catch (error) {
      if (signal.aborted) return;
      fill(said, problem(error));
    }
    if (!signal.aborted) timer = setTimeout(ask, Math.min(Math.max(interval, 1), 10) * 1000);
  }

  function drawAll(found) {
    const samples = found.samples ?? [];
    fill(tiles, tilesOf(found, samples));
    for (const one of figures) one.draw(samples, found.interval);
    fill(
      table,
      samples
        .slice(-TABLE_ROWS)
        .reverse()
        .map((one) =>
          h(
            "tr",
            {},
            h("td", {}, when(one.time * 1000)),
            [
              number(one.requests),
              number(one.errors),
              ...["p50", "p95", "p99"].map((key) => known(one, key)),
              number(one.busy),
            ].map((text) => h("td", {}, text)),
          ),
        ),
    );
    drawErrors(errors, found.errors ?? [], { ...lastChange(current()), most: 20 });
  }
}

function tilesOf(found, samples) {
  const sum = (key) => samples.reduce((all, one) => all + (one[key] ?? 0), 0);
  const last = samples.findLast((one) => one.bounds?.p95);
  const since = samples.length ? [" since ", clock(samples[0].time - found.interval)] : "";
  const now = samples.at(-1);
  const rows = [
    [["Requests", since], number(sum("requests"))],
    [["Errors", since], number(sum("errors"))],
    [last ? ["p95 at ", clock(last.time)] : "p95", last ? `${known(last, "p95")} ms` : "–"],
    ["Workers", now && now.workers !== null ? `${number(now.busy)} busy of ${number(now.workers)}` : "–"],
    ["Restarts", number(found.restarts ?? 0)],
    found.gpuMemory ? ["GPU memory", `${number(found.gpuMemory / 1024 ** 2)} MiB`] : null,
  ];
  return rows.filter(Boolean).map(([key, value]) => h("div", {}, h("dt", {}, key), h("dd", {}, value)));
}

/** One figure: `{node, draw(samples?, interval?)}`. The arrow keys and the pointer read its values. */
function chart({ key, title, unit, series, bars = false }) {
  const drawing = svg("svg", {
    class: "chart",
    role: "img",
    tabindex: "0",
    "aria-label": title,
    "aria-describedby": `read-${key}`,
  });
  const read = h("p", { class: "reading", id: `read-${key}`, role: "status", "aria-live": "off" });
  const legend = h(
    "ul",
    { class: "legend" },
    series.map((one) =>
      h(
        "li",
        { class: one.key },
        svg(
          "svg",
          { viewBox: "0 0 20 8", "aria-hidden": "true" },
          bars
            ? svg("rect", { width: 10, height: 8, x: 5, class: `bar-${one.key}` })
            : svg("path", { d: "M0 4h20", class: `line ${one.key}` }),
        ),
        one.name,
      ),
    ),
  );
  const node = h(
    "figure",
    { class: "card", "data-chart": key },
    h("figcaption", { class: "head" }, h("h2", {}, unit ? `${title} (${unit})` : title), legend),
    drawing,
    read,
  );
  let samples = [];
  let interval = 0;
  let cursor = null;
  let place = null;
  drawing.addEventListener("pointermove", (event) => point(indexAt(event)));
  drawing.addEventListener("pointerleave", () => point(null));
  drawing.addEventListener("blur", () => point(null));
  drawing.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1 };
    if (!(event.key in steps) || !samples.length) return;
    event.preventDefault();
    point(Math.min(samples.length - 1, Math.max(0, (cursor ?? samples.length) + steps[event.key])));
  });
  return { node, draw };

  function draw(given = samples, every = interval) {
    samples = given;
    interval = every;
    const width = Math.max(200, drawing.clientWidth || 600);
    drawing.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const values = samples
      .flatMap((one) => series.map(({ of }) => of(one)))
      .filter((one) => one !== null && one !== undefined);
    if (!values.some((one) => one > 0)) {
      place = null;
      fill(
        drawing,
        svg(
          "text",
          { x: width / 2, y: HEIGHT / 2, "text-anchor": "middle", class: "tick" },
          "No requests in this time",
        ),
      );
      return say();
    }
    const ticks = ticksTo(Math.max(...values), key === "latency" ? 0 : 1);
    const top = ticks.at(-1);
    const wide = width - LEFT - RIGHT;
    place = {
      width,
      x: (index) =>
        LEFT +
        (bars ? ((index + 0.5) / samples.length) * wide : (index / Math.max(1, samples.length - 1)) * wide),
      y: (value) => TOP + (1 - value / top) * (HEIGHT - TOP - BOTTOM),
      step: wide / samples.length,
    };
    fill(drawing, grid(ticks), times(), bars ? series.map(barsOf) : series.map(lineOf), mark());
    say();
  }

  function grid(ticks) {
    return ticks.map((one) => [
      svg("line", { class: "grid", x1: LEFT, x2: place.width - RIGHT, y1: place.y(one), y2: place.y(one) }),
      svg("text", { class: "tick", x: LEFT - 8, y: place.y(one) + 4, "text-anchor": "end" }, number(one)),
    ]);
  }

  function times() {
    const [first, last] = [samples[0].time, samples.at(-1).time];
    return [
      [0, "start"],
      [0.5, "middle"],
      [1, "end"],
    ].map(([part, anchor]) => {
      const text = clock(first + part * (last - first));
      return svg(
        "text",
        {
          class: "tick",
          x: LEFT + part * (place.width - LEFT - RIGHT),
          y: HEIGHT - 6,
          "text-anchor": anchor,
        },
        text,
      );
    });
  }

  // Where nothing was asked there is no latency: the line has a gap, a lonely value is a dot.
  function lineOf({ key: name, of }) {
    let path = "";
    const dots = [];
    samples.forEach((one, index) => {
      const value = of(one);
      if (value === null || value === undefined) return;
      const there = (other) =>
        samples[other] && of(samples[other]) !== null && of(samples[other]) !== undefined;
      const at = `${place.x(index).toFixed(1)} ${place.y(value).toFixed(1)}`;
      path += `${there(index - 1) ? "L" : "M"}${at}`;
      if (!there(index - 1) && !there(index + 1))
        dots.push(svg("circle", { class: `dot ${name}`, cx: place.x(index), cy: place.y(value), r: 2.5 }));
    });
    return [svg("path", { class: `line ${name}`, d: path }), dots];
  }

  function barsOf({ key: name, of }) {
    const base = place.y(0);
    const thick = Math.max(1, place.step - Math.min(2, place.step * 0.25));
    return samples.map((one, index) => {
      const value = of(one) ?? 0;
      if (!value) return null;
      const y = Math.min(place.y(value), base - 1);
      return svg("rect", {
        class: `bar-${name}`,
        x: (place.x(index) - thick / 2).toFixed(1),
        y: y.toFixed(1),
        width: thick.toFixed(1),
        height: (base - y).toFixed(1),
      });
    });
  }

  function mark() {
    if (cursor === null || !samples[cursor]) return null;
    const x = place.x(cursor);
    return svg("line", { class: "cursor", x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM });
  }

  function point(index) {
    if (index === cursor) return;
    cursor = index;
    read.setAttribute("aria-live", index === null ? "off" : "polite");
    if (place) draw();
  }

  function indexAt(event) {
    if (!place || !samples.length) return null;
    const box = drawing.getBoundingClientRect();
    const part = (event.clientX - box.left - LEFT) / (place.width - LEFT - RIGHT);
    return Math.min(
      samples.length - 1,
      Math.max(0, bars ? Math.floor(part * samples.length) : Math.round(part * (samples.length - 1))),
    );
  }

  function say() {
    const there = (one) => series.some(({ of }) => of(one) !== null && of(one) !== undefined);
    const one = cursor === null ? (samples.findLast(there) ?? samples.at(-1)) : samples[cursor];
    if (!one) return fill(read, "Nothing measured yet.");
    const words = series.map(
      ({ name, of, told = (sample) => number(of(sample)) }) =>
        `${name} ${told(one)}${unit && of(one) !== null ? ` ${unit}` : ""}`,
    );
    const each = bars && interval ? ` in ${interval} s` : "";
    fill(read, cursor === null ? "Last, at " : "At ", when(one.time * 1000), ": ", words.join(", "), each);
  }
}

/** A percentile as it is known: exact, or the bounds of the bucket it is in. */
function known({ bounds }, key) {
  if (!bounds?.[key]) return "–";
  const [least, most] = bounds[key];
  if (most === null) return `> ${number(least)}`;
  if (least === most) return number(most);
  return least ? `${number(least)}–${number(most)}` : `≤ ${number(most)}`;
}

/** A time in seconds as the hour, minute and second. */
const clock = (seconds) =>
  new Date(seconds * 1000).toLocaleTimeString(undefined, { timeStyle: "medium", hourCycle: "h23" });

/** About four round numbers from 0 to at least `most`, at least `step` apart. */
function ticksTo(most, step) {
  const rough = Math.max(most, Number.EPSILON) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const each = Math.max(
    step,
    [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough),
  );
  const count = Math.ceil(most / each - 1e-9);
  return Array.from({ length: count + 1 }, (_, index) => index * each);
}

function number(value) {
  if (value === null || value === undefined) return "–";
  const digits = Math.abs(value) >= 100 || Number.isInteger(value) ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return Number(value).toLocaleString(undefined, { maximumFractionDigits: digits });
}
