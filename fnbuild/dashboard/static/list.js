// The view `#/`: all functions by project, updated live.

import { call, functionPath, loadModule } from "./api.js";
import { append, button, h, setChildren, wordFilter } from "./dom.js";
import { listFunctions, live, watch } from "./live.js";
import { functionRow, projectSection, updateChildren } from "./function_table.js";
import {
  errorBox,
  firstLine,
  isHealthy,
  projectOf,
  revisionSince,
  stateOf,
  titleOf,
  typeOf,
} from "./states.js";

const ERRORS_MS = 10_000;
const FIRST_ERRORS_MS = 500; // after the first paint
const MAX_REQUESTS = 30;
const LOG_LINES = 200; // of each log
const MIN_ROW_PX = 36;

/** @type {Record<string, [name: string, matches: (fn: FunctionObject) => boolean]>} */
const FILTERS = {
  all: ["All", () => true],
  ready: ["Ready", (fn) => stateOf(fn) === "ready" && !fn.status?.setAside],
  unhealthy: ["Unhealthy", (fn) => !isHealthy(stateOf(fn))],
  excluded: ["Excluded", (fn) => Boolean(fn.status?.setAside)],
};

let query = "";
let activeFilter = "all";

/** @type {View} */
export function show(root, _params, { title, signal }) {
  title("Functions");
  const search = h("input", {
    type: "search",
    "data-filter": true,
    placeholder: "Filter by name, type, state, platform",
    "aria-label": "Filter functions",
    value: query,
    oninput: onSearch,
  });
  const filterBar = h("div", { class: "chips", role: "group", "aria-label": "Show" });
  const notices = h("div", { class: "notices" });
  const body = h("div");
  const announcements = h("div", { class: "visually-hidden", role: "log", "aria-label": "Changes" });
  append(
    root,
    h(
      "div",
      { class: "head" },
      h("h1", {}, "Functions"),
      h("div", { class: "tools" }, search, h("a", { class: "button primary", href: "#/deploy" }, "Deploy")),
    ),
    notices,
    filterBar,
    body,
    announcements,
  );
  /** @type {Map<string, string | undefined> | null} */
  let previousStates = null;
  /** @type {Map<string, ReturnType<typeof projectSection>>} */
  const sections = new Map();
  /** @type {Map<string, LogRecord>} */
  const errors = new Map();
  const stop = watch(draw);
  const timer = setInterval(fetchErrors, ERRORS_MS);
  draw();
  // Not needed for the first paint; without the dashboard there are no notices.
  loadModule("./notices.js").then(
    (module) => signal.aborted || module.showNotices(notices, signal),
    () => {},
  );
  setTimeout(fetchErrors, FIRST_ERRORS_MS);
  return () => {
    stop();
    clearInterval(timer);
  };

  /** Load the last errors of the visible functions: the stream has no log records. */
  async function fetchErrors() {
    if (document.hidden) return;
    /** @type {NodeListOf<HTMLElement>} */
    const rows = body.querySelectorAll("tbody tr");
    const keys = [...rows].flatMap((row) => {
      const { key = "" } = row.dataset;
      const { top, bottom } = row.getBoundingClientRect();
      const isVisible = bottom > 0 && top < innerHeight;
      return isVisible && live.functions[key]?.status?.httpPort ? [key] : [];
    });
    await Promise.all(keys.slice(0, MAX_REQUESTS).map(fetchError));
    draw();
  }

  /** @param {string} key */
  async function fetchError(key) {
    try {
      const path = functionPath(key, `logs?level=error&tail=${LOG_LINES}`);
      const { records } = await call("GET", path, { signal });
      if (records.length) errors.set(key, records.at(-1));
      else errors.delete(key);
    } catch {
      errors.delete(key); // a function without a log, or a deleted one
    }
  }

  /**
   * Return the last error, which must belong to the active revision.
   *
   * @param {ListedFunction} fn
   */
  function currentError(fn) {
    const error = errors.get(fn.key);
    return error && error.time * 1000 >= revisionSince(fn) ? error : undefined;
  }

  function draw() {
    if (signal.aborted) return;
    if (!live.loaded) return showWaiting();
    const functions = listFunctions();
    announceChanges(functions);
    drawFilters(functions);
    if (!functions.length) return showPlaceholder(emptyDashboard);
    const matching = functions.filter((fn) => FILTERS[activeFilter][1](fn) && matchesText(fn, query));
    if (!matching.length) return showPlaceholder(emptyResult);
    const visibleCount = Math.ceil(innerHeight / MIN_ROW_PX);
    const isPartial = !sections.size && matching.length > visibleCount;
    drawSections(matching, isPartial ? visibleCount : Infinity);
    if (isPartial) requestAnimationFrame(() => setTimeout(draw)); // after the first paint
  }

  function showWaiting() {
    const { error } = live;
    if (error) return showPlaceholder(() => connectionError(error));
    if (live.connection === "connecting") showPlaceholder(() => h("p", { class: "waiting" }, "Loading…"));
  }

  /** @param {() => HTMLElement} render */
  function showPlaceholder(render) {
    sections.clear();
    setChildren(body, render());
  }

  function emptyResult() {
    return h("div", { class: "empty" }, h("p", {}, "No matching functions."), button("Show all", clear));
  }

  function onSearch() {
    query = search.value;
    draw();
  }

  function clear() {
    query = search.value = "";
    activeFilter = "all";
    draw();
    search.focus();
  }

  /** @param {ListedFunction[]} functions */
  function drawFilters(functions) {
    const chips = Object.entries(FILTERS).map(([key, [name, matches]]) => ({
      key,
      name,
      count: functions.filter(matches).length,
    }));
    const visible = chips.filter(({ key, count }) => key === "all" || key === activeFilter || count > 0);
    updateChildren(
      filterBar,
      visible,
      ({ key }) => key,
      (chip) =>
        h(
          "button",
          {
            type: "button",
            class: "chip",
            "aria-pressed": String(activeFilter === chip.key),
            onclick: () => ((activeFilter = chip.key), draw()),
          },
          `${chip.name} `,
          h("span", { class: "count" }, String(chip.count)),
        ),
      () => activeFilter,
    );
  }

  /**
   * Draw the sections with their first `limit` rows.
   *
   * @param {ListedFunction[]} functions
   * @param {number} limit
   */
  function drawSections(functions, limit) {
    const projects = [...new Set(functions.map(projectOf))].sort((a, b) => a.localeCompare(b));
    if (!sections.size) setChildren(body);
    for (const [name, section] of sections) {
      if (!projects.includes(name)) (section.node.remove(), sections.delete(name));
    }
    projects.forEach((name, index) => {
      const section = sections.get(name) ?? projectSection(name);
      sections.set(name, section);
      const { node, rows, count } = section;
      if (body.children[index] !== node) body.insertBefore(node, body.children[index] ?? null);
      const members = functions.filter((fn) => projectOf(fn) === name);
      count.textContent = String(members.length);
      const shownFunctions = members.slice(0, limit);
      limit -= shownFunctions.length;
      updateChildren(
        rows,
        shownFunctions.map((fn) => ({ ...fn, error: currentError(fn) })),
        (fn) => fn.key,
        functionRow,
      );
    });
  }

  /**
   * Announce changed states to screen readers.
   *
   * @param {ListedFunction[]} functions
   */
  function announceChanges(functions) {
    const states = new Map(functions.map((fn) => [fn.key, stateOf(fn)]));
    for (const [key, state] of states) {
      if (!previousStates || previousStates.get(key) === state) continue;
      const reason = firstLine(live.functions[key].status?.message);
      announcements.append(h("p", {}, `${key} is ${state}${reason ? `: ${reason}` : ""}`));
    }
    while (announcements.children.length > 20) announcements.firstChild?.remove();
    previousStates = states;
  }
}

/**
 * @param {ListedFunction} fn
 * @param {string} search
 */
function matchesText(fn, search) {
  const { platform, message, setAside, notes, httpPort } = fn.status ?? {};
  const texts = [fn.key, titleOf(fn), typeOf(fn), projectOf(fn), stateOf(fn), fn.spec?.description];
  return wordFilter(search)(...texts, platform, message, setAside, notes, httpPort);
}

/** @param {import("./api.js").ApiError} error */
function connectionError(error) {
  if (error.status === 401) {
    return h(
      "div",
      { class: "empty" },
      h("h2", {}, "Not signed in"),
      h("p", {}, "This dashboard shows its functions only with a token."),
      h("a", { class: "button primary", href: "#/session" }, "Sign in"),
    );
  }
  return errorBox(error);
}

function emptyDashboard() {
  return h(
    "div",
    { class: "empty" },
    h("h2", {}, "No functions here yet"),
    h(
      "div",
      { class: "start-options" },
      h(
        "section",
        { class: "card" },
        h("h3", {}, "From this page"),
        h("p", {}, "Drop a folder, a zip or a single Python file, or select one from the library."),
        h("a", { class: "button primary", href: "#/deploy" }, "Deploy a function"),
      ),
      h(
        "section",
        { class: "card" },
        h("h3", {}, "From the command line"),
        h("pre", {}, "fnbuild init my-detector\nfnbuild deploy --path my-detector"),
        h("p", { class: "muted" }, "It appears here automatically."),
      ),
    ),
  );
}
