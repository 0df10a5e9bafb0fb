// The tab `#/functions/NAME/logs`: records as they are written, by level and text.

import { follow, inFunction } from "./api.js";
import { fill, h, put } from "./dom.js";
import { problem } from "./states.js";

const KEPT = 20_000; // records in memory
const ROWS = 2_000; // records on the page
const DRAW_MS = 100;
const TAIL = 500;
const OVERLAP_SECONDS = 2;
const LEVELS = ["debug", "info", "warning", "error"];
const COLOURS = /\u001b\[[0-9;]*[A-Za-z]/g;

export function show(root, { name }, { signal }) {
  const records = [];
  let waiting = [];
  let dropped = 0;
  let paused = false;
  let least = 0;
  let words = [];
  const seen = new Set();
  let newest = 0;
  let resumed = 0;

  const search = h("input", {
    type: "search",
    "data-filter": true,
    placeholder: "Filter by text",
    "aria-label": "Filter by text",
    oninput: choose,
  });
  const level = h(
    "select",
    { "aria-label": "Level", onchange: choose },
    LEVELS.map((one, index) =>
      h(
        "option",
        { value: index },
        index === 0
          ? "All levels"
          : index === 3
            ? "Errors"
            : `${one[0].toUpperCase()}${one.slice(1)} and above`,
      ),
    ),
  );
  const pause = h("button", { type: "button", "aria-pressed": "false", onclick: hold }, "Pause");
  const count = h("span", { class: "quiet-text", role: "status", "aria-live": "off" });
  const connection = h("span", { class: "connection" }, "Connecting…");
  const rows = h("ol", { class: "records", tabindex: "0", "aria-label": `Log of ${name}` });
  const newer = h("button", { type: "button", class: "small", hidden: true, onclick: toEnd }, "↓ Newest");
  const said = h("div");
  put(
    root,
    h(
      "div",
      { class: "head" },
      search,
      level,
      pause,
      h("button", { type: "button", onclick: clear }, "Clear"),
      h("button", { type: "button", onclick: save }, "Save as file"),
      connection,
    ),
    said,
    h("div", { class: "log" }, rows, newer),
    count,
  );
  rows.addEventListener("scroll", () => (newer.hidden = atEnd()));
  const timer = setInterval(draw, DRAW_MS);
  draw();
  follow(path, ({ event, data }) => event === "record" && take(data), { signal, onstate }).catch((error) =>
    fill(said, problem(error)),
  );
  return () => clearInterval(timer);

  // Workers and replicas write side by side: a record may be older than the one before it. So after
  // a break a little more is asked for than was missed, and what was here already is left out.
  function path() {
    resumed = newest;
    return inFunction(
      name,
      `logs?follow=true&${newest ? `since=${newest - OVERLAP_SECONDS}` : `tail=${TAIL}`}`,
    );
  }

  function onstate(state, refused) {
    // A refusal may end, as when a function is deployed: the page goes on asking.
    fill(said, refused && problem(refused));
    count.hidden = refused !== null && !records.length;
    connection.dataset.state = state;
    connection.textContent = state === "live" ? "Live" : "Connecting again…";
  }

  function take(record) {
    const says = JSON.stringify(record);
    if (record.time <= resumed && seen.has(says)) return;
    seen.add(says);
    if (seen.size > KEPT) seen.delete(seen.values().next().value);
    newest = Math.max(newest, record.time);
    waiting.push(record);
  }

  function draw() {
    if (!paused && waiting.length) {
      const end = atEnd();
      const arrived = waiting;
      waiting = [];
      records.push(...arrived);
      if (records.length > KEPT) dropped += records.splice(0, records.length - KEPT).length;
      rows.append(...arrived.filter(fits).slice(-ROWS).map(row));
      trim();
      if (end) toEnd();
      else newer.hidden = false;
    }
    showCount();
  }

  function showCount() {
    const parts = [`${records.length + dropped} records`, `${rows.childElementCount} shown`];
    if (dropped) parts.push(`the oldest ${dropped} are not kept here`);
    if (paused) parts.push(`${waiting.length} new while paused`);
    const text =
      records.length || waiting.length
        ? parts.join(" · ")
        : "Nothing written yet. Records appear here as the function writes them.";
    if (count.textContent !== text) count.textContent = text;
  }

  function choose() {
    least = Number(level.value);
    words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    fill(rows, records.filter(fits).slice(-ROWS).map(row));
    toEnd();
    showCount();
  }

  function fits(record) {
    if (rank(record) < least) return false;
    if (!words.length) return true;
    const text = `${record.message} ${fieldsOf(record)} ${record.replica ?? ""}`.toLowerCase();
    return words.every((word) => text.includes(word));
  }

  function hold() {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Go on" : "Pause";
    draw();
  }

  function clear() {
    records.length = 0;
    waiting = [];
    dropped = 0;
    fill(rows);
    showCount();
  }

  function save() {
    const text = records
      .map((one) => `${stamp(one.time)} ${one.level} ${one.message} ${fieldsOf(one)}`.trimEnd())
      .join("\n");
    const address = URL.createObjectURL(new Blob([text, "\n"], { type: "text/plain" }));
    h("a", { href: address, download: `${name}.log` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  }

  function trim() {
    for (let extra = rows.childElementCount - ROWS; extra > 0; extra--) rows.firstChild.remove();
  }

  function atEnd() {
    return rows.scrollHeight - rows.scrollTop - rows.clientHeight < 24;
  }

  function toEnd() {
    rows.scrollTop = rows.scrollHeight;
    newer.hidden = true;
  }
}

function rank({ level }) {
  const at = LEVELS.indexOf(level === "warn" ? "warning" : level);
  return at < 0 ? (["fatal", "critical"].includes(level) ? 3 : 1) : at;
}

/** A record as the log shows it: `{time (seconds), level, message, worker, fields, replica}`. */
export function row(record) {
  const fields = fieldsOf(record);
  const level = LEVELS[rank(record)];
  return h(
    "li",
    { class: level },
    h("time", { title: record.replica }, stamp(record.time)),
    h("span", { class: "level" }, level),
    h(
      "span",
      { class: "text" },
      String(record.message ?? "").replace(COLOURS, ""),
      fields && h("span", { class: "fields" }, ` ${fields}`),
    ),
  );
}

function fieldsOf({ fields, worker }) {
  const pairs = Object.entries(fields ?? {});
  if (worker !== null && worker !== undefined) pairs.unshift(["worker", worker]);
  return pairs
    .map(([key, value]) => `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(" ");
}

function stamp(time) {
  const at = new Date(typeof time === "number" ? time * 1000 : time);
  if (Number.isNaN(at.getTime())) return "";
  const two = (value) => String(value).padStart(2, "0");
  const clock = [at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(":");
  return `${clock}.${String(at.getMilliseconds()).padStart(3, "0")}`;
}
