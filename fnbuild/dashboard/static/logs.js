// The tab `#/functions/NAME/logs`: log records, filtered by level and text.

import { follow, functionPath } from "./api.js";
import { append, button, h, setChildren, wordFilter } from "./dom.js";
import { errorBox } from "./states.js";

const MAX_RECORDS = 20_000; // in memory
const MAX_ROWS = 2_000; // on the page
const DRAW_MS = 100;
const TAIL_LINES = 500;
const OVERLAP_SECONDS = 2;
const LEVELS = ["debug", "info", "warning", "error"];
const ANSI_CODES = /\u001b\[[0-9;]*[A-Za-z]/g;

/** @type {Tab} */
export function show(root, { name }, { signal }) {
  /** @type {LogRecord[]} */
  const records = [];
  /** @type {LogRecord[]} */
  let buffered = [];
  let discarded = 0;
  let paused = false;
  let minimumRank = 0;
  let matchesSearch = wordFilter("");
  const seenRecords = new Set();
  let newestTime = 0;
  let resumeTime = 0;

  const search = h("input", {
    type: "search",
    "data-filter": true,
    placeholder: "Filter by text",
    "aria-label": "Filter by text",
    oninput: applyFilter,
  });
  const level = h(
    "select",
    { "aria-label": "Level", onchange: applyFilter },
    LEVELS.map((levelName, index) =>
      h(
        "option",
        { value: index },
        index === 0
          ? "All levels"
          : index === 3
            ? "Errors"
            : `${levelName[0].toUpperCase()}${levelName.slice(1)} and above`,
      ),
    ),
  );
  const pauseButton = button("Pause", togglePause, { "aria-pressed": "false" });
  const count = h("span", { class: "muted", role: "status", "aria-live": "off" });
  const connection = h("span", { class: "connection" }, "Connecting…");
  const rows = h("ol", { class: "records", tabindex: "0", "aria-label": `Log of ${name}` });
  const newestButton = button("↓ Newest", toEnd, { class: "small", hidden: true });
  const feedback = h("div");
  append(
    root,
    h(
      "div",
      { class: "head" },
      search,
      level,
      pauseButton,
      button("Clear", clear),
      button("Save as file", save),
      connection,
    ),
    feedback,
    h("div", { class: "log" }, rows, newestButton),
    count,
  );
  rows.addEventListener("scroll", () => (newestButton.hidden = atEnd()));
  const timer = setInterval(draw, DRAW_MS);
  draw();
  follow(streamPath, ({ event, data }) => event === "record" && receive(data), {
    signal,
    onState,
  }).catch((error) => setChildren(feedback, errorBox(error)));
  return () => clearInterval(timer);

  /**
   * Return the path of the stream. Workers and replicas write concurrently, so a record may be older than
   * its predecessor: after an interruption the overlap is requested again and known records are skipped.
   */
  function streamPath() {
    resumeTime = newestTime;
    return functionPath(
      name,
      `logs?follow=true&${newestTime ? `since=${newestTime - OVERLAP_SECONDS}` : `tail=${TAIL_LINES}`}`,
    );
  }

  /**
   * @param {string} state
   * @param {import("./api.js").ApiError | null} apiError
   */
  function onState(state, apiError) {
    // An error may be temporary, as during a deploy: the page keeps retrying.
    setChildren(feedback, apiError && errorBox(apiError));
    count.hidden = apiError !== null && !records.length;
    connection.dataset.state = state;
    connection.textContent = state === "live" ? "Live" : "Reconnecting…";
  }

  /** @param {LogRecord} record */
  function receive(record) {
    const signature = JSON.stringify(record);
    if (record.time <= resumeTime && seenRecords.has(signature)) return;
    seenRecords.add(signature);
    if (seenRecords.size > MAX_RECORDS) seenRecords.delete(seenRecords.values().next().value);
    newestTime = Math.max(newestTime, record.time);
    buffered.push(record);
  }

  function draw() {
    if (!paused && buffered.length) {
      const wasAtEnd = atEnd();
      const batch = buffered;
      buffered = [];
      records.push(...batch);
      if (records.length > MAX_RECORDS) discarded += records.splice(0, records.length - MAX_RECORDS).length;
      rows.append(...batch.filter(matches).slice(-MAX_ROWS).map(logRow));
      trim();
      if (wasAtEnd) toEnd();
      else newestButton.hidden = false;
    }
    showCount();
  }

  function showCount() {
    const parts = [`${records.length + discarded} records`, `${rows.childElementCount} shown`];
    if (discarded) parts.push(`the oldest ${discarded} were discarded`);
    if (paused) parts.push(`${buffered.length} new while paused`);
    const text =
      records.length || buffered.length
        ? parts.join(" · ")
        : "No records yet. Records appear here as the function writes them.";
    if (count.textContent !== text) count.textContent = text;
  }

  function applyFilter() {
    minimumRank = Number(level.value);
    matchesSearch = wordFilter(search.value);
    setChildren(rows, records.filter(matches).slice(-MAX_ROWS).map(logRow));
    toEnd();
    showCount();
  }

  /** @param {LogRecord} record */
  function matches(record) {
    return (
      levelRank(record) >= minimumRank &&
      matchesSearch(record.message, fieldsOf(record), record.replica ?? "")
    );
  }

  function togglePause() {
    paused = !paused;
    pauseButton.setAttribute("aria-pressed", String(paused));
    pauseButton.textContent = paused ? "Resume" : "Pause";
    draw();
  }

  function clear() {
    records.length = 0;
    buffered = [];
    discarded = 0;
    setChildren(rows);
    showCount();
  }

  function save() {
    const text = records
      .map((record) =>
        `${clockTime(record.time)} ${record.level} ${record.message} ${fieldsOf(record)}`.trimEnd(),
      )
      .join("\n");
    const address = URL.createObjectURL(new Blob([text, "\n"], { type: "text/plain" }));
    h("a", { href: address, download: `${name}.log` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  }

  function trim() {
    for (let excess = rows.childElementCount - MAX_ROWS; excess > 0; excess--) rows.firstChild?.remove();
  }

  function atEnd() {
    return rows.scrollHeight - rows.scrollTop - rows.clientHeight < 24;
  }

  function toEnd() {
    rows.scrollTop = rows.scrollHeight;
    newestButton.hidden = true;
  }
}

/** @param {LogRecord} record */
function levelRank({ level }) {
  const rank = LEVELS.indexOf(level === "warn" ? "warning" : level);
  return rank < 0 ? (["fatal", "critical"].includes(level) ? 3 : 1) : rank;
}

/**
 * Return a record as a row of the log.
 *
 * @param {LogRecord} record
 */
export function logRow(record) {
  const fields = fieldsOf(record);
  const level = LEVELS[levelRank(record)];
  return h(
    "li",
    { class: level },
    h("time", { title: record.replica }, clockTime(record.time)),
    h("span", { class: "level" }, level),
    h(
      "span",
      { class: "text" },
      String(record.message ?? "").replace(ANSI_CODES, ""),
      fields && h("span", { class: "fields" }, ` ${fields}`),
    ),
  );
}

/** @param {LogRecord} record */
function fieldsOf({ fields, worker }) {
  const pairs = Object.entries(fields ?? {});
  if (worker !== null && worker !== undefined) pairs.unshift(["worker", worker]);
  return pairs
    .map(([key, value]) => `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(" ");
}

/** @param {number | string} time */
function clockTime(time) {
  const date = new Date(typeof time === "number" ? time * 1000 : time);
  if (Number.isNaN(date.getTime())) return "";
  /** @param {number} value */
  const pad = (value) => String(value).padStart(2, "0");
  const clock = [date.getHours(), date.getMinutes(), date.getSeconds()].map(pad).join(":");
  return `${clock}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}
