// The view `#/`: all functions by project, as they are now.

import { call, inFunction, load } from "./api.js";
import { fill, h, put } from "./dom.js";
import { all, live, watch } from "./live.js";
import { keyed, row, sectionOf } from "./rows.js";
import { firstLine, isWell, problem, projectOf, revisionSince, titleOf, typeOf, wordOf } from "./states.js";

const ERRORS_MS = 10_000;
const FIRST_MS = 500; // behind the first picture
const ASKED = 30; // functions at once
const LINES = 200; // of each log
const ROW_PX = 36; // no row is less high

const KINDS = {
  all: ["All", () => true],
  ready: ["Ready", (one) => wordOf(one) === "ready" && !one.status?.setAside],
  unwell: ["Not well", (one) => !isWell(wordOf(one))],
  aside: ["Set aside", (one) => Boolean(one.status?.setAside)],
};

let filter = "";
let kind = "all";

export function show(root, _params, { title, signal }) {
  title("Functions");
  const search = h("input", {
    type: "search",
    "data-filter": true,
    placeholder: "Filter by name, type, state, platform",
    "aria-label": "Filter functions",
    value: filter,
    oninput: () => ((filter = search.value), draw()),
  });
  const kinds = h("div", { class: "chips", role: "group", "aria-label": "Show" });
  const notices = h("div", { class: "notices" });
  const body = h("div");
  const spoken = h("div", { class: "unseen", role: "log", "aria-label": "Changes" });
  put(
    root,
    h(
      "div",
      { class: "head" },
      h("h1", {}, "Functions"),
      h("div", { class: "tools" }, search, h("a", { class: "button primary", href: "#/deploy" }, "Deploy")),
    ),
    notices,
    kinds,
    body,
    spoken,
  );
  let before = null;
  const sections = new Map();
  const errors = new Map();
  const stop = watch(draw);
  const timer = setInterval(askForErrors, ERRORS_MS);
  draw();
  // Not part of the first picture; without the dashboard there is nothing to tell.
  load("./notices.js").then(
    (module) => signal.aborted || module.showNotices(notices, signal),
    () => {},
  );
  setTimeout(askForErrors, FIRST_MS);
  return () => {
    stop();
    clearInterval(timer);
  };

  // The stream tells states; the last error is in a function's log, read for those in sight only.
  async function askForErrors() {
    if (document.hidden) return;
    const inSight = [...body.querySelectorAll("tbody tr")].filter((one) => {
      const { top, bottom } = one.getBoundingClientRect();
      return bottom > 0 && top < innerHeight && live.functions[one.dataset.key]?.status?.httpPort;
    });
    await Promise.all(inSight.slice(0, ASKED).map((one) => askForError(one.dataset.key)));
    draw();
  }

  async function askForError(key) {
    try {
      const path = inFunction(key, `logs?level=error&tail=${LINES}`);
      const { records } = await call("GET", path, { signal });
      errors.set(key, records.at(-1));
    } catch {
      errors.delete(key); // no log, or no function any more: its state says so
    }
  }

  // An error ends with its revision.
  function current(one) {
    const error = errors.get(one.key);
    return error && error.time * 1000 >= revisionSince(one) ? error : undefined;
  }

  function draw() {
    if (signal.aborted) return;
    if (!live.known) return waiting();
    const functions = all();
    speak(functions);
    drawKinds(functions);
    if (!functions.length) return showInstead(nothing);
    const chosen = functions.filter((one) => KINDS[kind][1](one) && fits(one, filter));
    if (!chosen.length) return showInstead(noMatch);
    const inSight = Math.ceil(innerHeight / ROW_PX);
    const later = !sections.size && chosen.length > inSight;
    drawSections(chosen, later ? inSight : Infinity);
    if (later) requestAnimationFrame(() => setTimeout(draw)); // behind the first picture
  }

  function waiting() {
    if (live.error) return showInstead(() => refused(live.error));
    if (live.connection === "connecting") showInstead(() => h("p", { class: "waiting" }, "Loading…"));
  }

  function showInstead(make) {
    sections.clear();
    fill(body, make());
  }

  function noMatch() {
    return h(
      "div",
      { class: "empty" },
      h("p", {}, "No function is like that."),
      h("button", { type: "button", onclick: clear }, "Show all"),
    );
  }

  function clear() {
    filter = search.value = "";
    kind = "all";
    draw();
    search.focus();
  }

  function drawKinds(functions) {
    const chips = Object.entries(KINDS).map(([key, [name, is]]) => ({
      key,
      name,
      count: functions.filter(is).length,
    }));
    const shown = chips.filter(({ key, count }) => key === "all" || key === kind || count > 0);
    keyed(
      kinds,
      shown,
      ({ key }) => key,
      (chip) =>
        h(
          "button",
          {
            type: "button",
            class: "chip",
            "aria-pressed": String(kind === chip.key),
            onclick: () => ((kind = chip.key), draw()),
          },
          `${chip.name} `,
          h("span", { class: "count" }, String(chip.count)),
        ),
      () => kind,
    );
  }

  /** The sections with their first `most` rows. */
  function drawSections(functions, most) {
    const projects = [...new Set(functions.map(projectOf))].sort((a, b) => a.localeCompare(b));
    if (!sections.size) fill(body);
    for (const [name, section] of sections) {
      if (!projects.includes(name)) (section.node.remove(), sections.delete(name));
    }
    projects.forEach((name, index) => {
      if (!sections.has(name)) sections.set(name, sectionOf(name));
      const { node, rows, count } = sections.get(name);
      if (body.children[index] !== node) body.insertBefore(node, body.children[index] ?? null);
      const members = functions.filter((one) => projectOf(one) === name);
      count.textContent = String(members.length);
      const drawn = members.slice(0, most);
      most -= drawn.length;
      keyed(
        rows,
        drawn.map((one) => ({ ...one, error: current(one) })),
        (one) => one.key,
        row,
      );
    });
  }

  // What changed since the last look, for those who do not see the colours move.
  function speak(functions) {
    const now = new Map(functions.map((one) => [one.key, wordOf(one)]));
    for (const [key, state] of now) {
      if (!before || before.get(key) === state) continue;
      const reason = firstLine(live.functions[key].status?.message);
      spoken.append(h("p", {}, `${key} is ${state}${reason ? `: ${reason}` : ""}`));
    }
    while (spoken.children.length > 20) spoken.firstChild.remove();
    before = now;
  }
}

function fits(one, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const { status = {}, spec = {} } = one;
  const said = [one.key, titleOf(one), typeOf(one), projectOf(one), wordOf(one), status.platform]
    .concat(status.message, status.setAside, status.notes, spec.description, status.httpPort)
    .join(" ")
    .toLowerCase();
  return words.every((word) => said.includes(word));
}

function refused(error) {
  if (error.status === 401) {
    return h(
      "div",
      { class: "empty" },
      h("h2", {}, "Not signed in"),
      h("p", {}, "This dashboard shows its functions to those who have a token."),
      h("a", { class: "button primary", href: "#/session" }, "Sign in"),
    );
  }
  return problem(error);
}

function nothing() {
  return h(
    "div",
    { class: "empty" },
    h("h2", {}, "No functions here yet"),
    h(
      "div",
      { class: "ways" },
      h(
        "section",
        { class: "card" },
        h("h3", {}, "From this page"),
        h("p", {}, "Drop a folder, a zip or a single Python file, or take one from the library."),
        h("a", { class: "button primary", href: "#/deploy" }, "Deploy a function"),
      ),
      h(
        "section",
        { class: "card" },
        h("h3", {}, "From the command line"),
        h("pre", {}, "fnbuild init my-detector\nfnbuild deploy --path my-detector"),
        h("p", { class: "quiet-text" }, "It shows up here by itself."),
      ),
    ),
  );
}
