// The frame of the page: which view an address shows, the bar above it, and the keys.
//
// A view is a module with `show(root, params, context)`: it draws into `root` and may return a
// function that is called when somebody leaves. `context` has
//   title(text)    sets the window's title
//   signal         aborted on leaving: pass it to requests and streams
//   again()        shows the view anew
//   navigate(hash) goes elsewhere
//   cameFrom       the hash of the view before, "" when this is the first

import { call, load, settings } from "./api.js";
import { fill, h, sheet } from "./dom.js";
import { connect, live, loadSession, onSession, session, watch, whenBack } from "./live.js";
import { problem } from "./states.js";

const views = [];

/**
 * Show the module at `path` at addresses that match `pattern`, as `functions/:name/:tab?`, with a
 * style sheet of its own if it has one. What is registered first wins.
 */
export function register(pattern, path, style = "") {
  views.push({ parts: pattern.split("/").filter(Boolean), path, style });
}

register("", "./list.js");
register("functions/:name/:tab?", "./function.js", "function.css");
register("deploy", "./deploy.js", "function.css");
register("audit", "./audit.js");
register("session", "./session.js");

const SIGN_IN = "#token=";

const main = document.getElementById("main");
let leave = () => {};
let shownParts = null;

function matched(parts) {
  for (const view of views) {
    const params = paramsOf(view.parts, parts);
    if (params) return { view, params };
  }
  return null;
}

function paramsOf(pattern, parts) {
  if (parts.length > pattern.length) return null;
  const params = {};
  for (const [index, one] of pattern.entries()) {
    const given = parts[index];
    if (one.startsWith(":")) {
      if (given === undefined && !one.endsWith("?")) return null;
      params[one.slice(1).replace("?", "")] = given ?? "";
    } else if (one !== given) return null;
  }
  return params;
}

async function route() {
  if (location.hash.startsWith(SIGN_IN)) signInByLink();
  const parts = location.hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(decoded);
  const before = shownParts;
  shownParts = parts;
  leave();
  const stop = new AbortController();
  let undo = null;
  leave = () => {
    stop.abort();
    undo?.();
  };
  const root = h("div", { class: "view" });
  const context = {
    signal: stop.signal,
    title: (text) => (document.title = `${text} · fnbuild`),
    navigate: (hash) => (location.hash = hash),
    again: route,
    cameFrom: before ? `#/${before.map(encodeURIComponent).join("/")}` : "",
  };
  markCurrent(parts);
  const found = matched(parts);
  try {
    if (!found) throw new Error(`there is no page at ${location.hash}`);
    const { path, style } = found.view;
    const [module] = await Promise.all([load(path), style && sheet(style)]);
    if (stop.signal.aborted) return;
    fill(main, root);
    if (before) begin(before, parts);
    undo = await module.show(root, found.params, context);
    if (stop.signal.aborted) undo?.();
  } catch (error) {
    if (stop.signal.aborted) return;
    showFailure(error);
    if (error.status === 0) whenBack(route, stop.signal);
  }
  if (before) keepFocus();
}

// What is tried again and fails in the same way stays as it is, and is not read aloud again.
function showFailure(error) {
  if (main.firstChild?.failure === error.message) return;
  const title = error.status === 0 ? "Not connected" : "This did not work";
  const shown = h(
    "div",
    { class: "view" },
    h("h1", {}, title),
    problem(error, h("a", { href: "#/" }, "All functions")),
  );
  shown.failure = error.message;
  fill(main, shown);
}

// A link that the terminal shows. Neither the address bar nor the history keeps its code.
async function signInByLink() {
  const code = decoded(location.hash.slice(SIGN_IN.length));
  history.replaceState(null, "", `${location.pathname}#/`);
  const module = await load("./session.js");
  await module.signInByLink(code);
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

// A new view begins at its top; a step between two tabs of a function leaves everything in place.
function begin(before, now) {
  if (now.length > 1 && before[0] === now[0] && before[1] === now[1]) return;
  window.scrollTo(0, 0);
  main.focus({ preventScroll: true });
}

// The tab that was pressed is another element now.
function keepFocus() {
  if (document.activeElement === document.body)
    main.querySelector("nav [aria-current=page]")?.focus({ preventScroll: true });
}

function markCurrent(parts) {
  const here = parts[0] === "functions" || !parts.length ? "#/" : `#/${parts[0]}`;
  for (const one of document.querySelectorAll(".bar a")) {
    if (one.classList.contains("brand")) continue;
    if (one.getAttribute("href") === here) one.setAttribute("aria-current", "page");
    else one.removeAttribute("aria-current");
  }
}

function showConnection() {
  const place = document.getElementById("connection");
  const words = { live: "Live", lost: "Not connected", connecting: "Connecting…" };
  const word = words[live.connection];
  if (place.textContent !== word) place.textContent = word;
  place.dataset.state = live.connection;
  const gone = document.getElementById("gone");
  const silent = live.connection === "lost" && live.error?.status !== 401;
  gone.hidden = !silent;
  if (silent) {
    const why = live.error?.status ? live.error.message : "The dashboard does not answer";
    const text = `${why}. What you see may be old; this page connects again by itself.`;
    if (gone.textContent !== text) gone.textContent = text;
  } else gone.textContent = "";
}

function showSession() {
  document.getElementById("who").textContent = session.role === "write" ? "Signed in" : "Sign in";
}

async function offerNamespaces() {
  const { namespaces } = await call("GET", "/api/namespaces");
  const names = namespaces?.names ?? [];
  if (!names.includes(session.namespace)) names.unshift(session.namespace);
  const choice = document.getElementById("namespace");
  choice.hidden = names.length < 2;
  fill(
    choice,
    names.map((one) => h("option", { selected: one === session.namespace }, one)),
  );
  choice.onchange = () => {
    settings.namespace = choice.value;
    connect();
    location.hash = "#/";
    route();
  };
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const target = event.target;
  const writing = target.matches?.("input, textarea, select, [contenteditable]");
  if (event.key === "Escape" && writing && target.matches("[data-filter]") && target.value) {
    target.value = "";
    target.dispatchEvent(new Event("input", { bubbles: true }));
    return;
  }
  if (writing || document.querySelector("dialog[open]")) return;
  if (event.key === "/") {
    const filter = main.querySelector("[data-filter]");
    if (!filter) return;
    event.preventDefault();
    filter.focus();
    filter.select?.();
  } else if (event.key === "?") showKeys();
  else if (event.key === "n") location.hash = "#/deploy";
  else if (event.key === "g") location.hash = "#/";
}

async function showKeys() {
  const module = await load("./dialogs.js").catch(() => null); // the bar tells that the dashboard is gone
  if (!document.querySelector("dialog[open]")) module?.showKeys();
}

settings.askForToken = async () => (await load("./session.js")).askForToken();

let connected = live.connection !== "lost";
watch(showConnection);
showConnection();
onSession(showSession);
watch(() => {
  const now = live.connection === "live";
  if (now && !connected) greet();
  connected = now;
});
addEventListener("hashchange", route);
addEventListener("keydown", onKey);
document.getElementById("keys").addEventListener("click", showKeys);
// The link would change the address, which names the view.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
route().then(greet);

// Behind the first picture, and after the dashboard was away: it may be another one by then.
async function greet() {
  try {
    await loadSession();
    await offerNamespaces();
  } catch {
    // The stream of functions tells that the dashboard is gone; a refusal stands in the view.
  }
}
