// The frame of the page: routes, the bar at the top, and the keys.
//
// A view is a module with `show(root, params, context)`: it draws into `root` and may return a function that
// is called when the user leaves. `context` has
//   title(text)    sets the window's title
//   signal         is aborted on leaving: pass it to requests and streams
//   reload()       shows the view again
//   navigate(hash) opens another view
//   previousHash   is the hash of the previous view, "" for the first

import { call, loadModule, settings } from "./api.js";
import { elementById, h, loadStyleSheet, setChildren } from "./dom.js";
import { connect, live, loadSession, onSession, session, watch, whenConnected } from "./live.js";
import { errorBox } from "./states.js";

/** @type {{parts: string[], path: string, style: string}[]} */
const views = [];

/**
 * Show the module at `path`, with its style sheet, for hashes that match `pattern`, such as
 * `functions/:name/:tab?`. The first match wins.
 *
 * @param {string} pattern
 * @param {string} path
 */
function register(pattern, path, style = "") {
  views.push({ parts: pattern.split("/").filter(Boolean), path, style });
}

register("", "./list.js");
register("functions/:name/:tab?", "./function.js", "function.css");
register("deploy", "./deploy.js", "function.css");
register("audit", "./audit.js");
register("session", "./session.js");

const SIGN_IN = "#token=";

const main = elementById("main", HTMLElement);
let leaveView = () => {};
/** @type {string[] | null} */
let currentParts = null;
let shownError = "";

/** @param {string[]} parts */
function matchRoute(parts) {
  for (const view of views) {
    const params = matchParams(view.parts, parts);
    if (params) return { view, params };
  }
  return null;
}

/**
 * @param {string[]} pattern
 * @param {string[]} parts
 */
function matchParams(pattern, parts) {
  if (parts.length > pattern.length) return null;
  /** @type {Record<string, string>} */
  const params = {};
  for (const [index, segment] of pattern.entries()) {
    const part = parts[index];
    if (segment.startsWith(":")) {
      if (part === undefined && !segment.endsWith("?")) return null;
      params[segment.slice(1).replace("?", "")] = part ?? "";
    } else if (segment !== part) return null;
  }
  return params;
}

async function route() {
  if (location.hash.startsWith(SIGN_IN)) signInByLink();
  const parts = location.hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(decodePart);
  const previous = currentParts;
  currentParts = parts;
  leaveView();
  const controller = new AbortController();
  const { signal } = controller;
  /** @type {CleanUp | void} */
  let cleanUp;
  leaveView = () => {
    controller.abort();
    cleanUp?.();
  };
  const root = h("div", { class: "view" });
  /** @type {ViewContext} */
  const context = {
    signal,
    title: (text) => (document.title = `${text} · fnbuild`),
    navigate: (hash) => (location.hash = hash),
    reload: route,
    previousHash: previous ? `#/${previous.map(encodeURIComponent).join("/")}` : "",
  };
  markCurrent(parts);
  const match = matchRoute(parts);
  try {
    if (!match) throw new Error(`there is no page at ${location.hash}`);
    const { path, style } = match.view;
    const [module] = await Promise.all([loadModule(path), style && loadStyleSheet(style)]);
    if (signal.aborted) return;
    setChildren(main, root);
    if (previous) resetScroll(previous, parts);
    cleanUp = await module.show(root, match.params, context);
    if (signal.aborted) cleanUp?.();
  } catch (error) {
    if (signal.aborted) return;
    showError(error);
    if (error.status === 0) whenConnected(route, signal);
  }
  if (previous) keepFocus();
}

/**
 * Show an error instead of the view. A retry that fails in the same way is not announced again.
 *
 * @param {any} error
 */
function showError(error) {
  if (main.querySelector(".failed-view") && shownError === error.message) return;
  shownError = error.message;
  const title = error.status === 0 ? "Not connected" : "Something went wrong";
  const link = h("a", { href: "#/" }, "All functions");
  setChildren(main, h("div", { class: "view failed-view" }, h("h1", {}, title), errorBox(error, link)));
}

/** Sign in by a link from the terminal. Neither the address bar nor the history keeps its code. */
async function signInByLink() {
  const code = decodePart(location.hash.slice(SIGN_IN.length));
  history.replaceState(null, "", `${location.pathname}#/`);
  const module = await loadModule("./session.js");
  await module.signInByLink(code);
}

/** @param {string} part */
function decodePart(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/**
 * Scroll to the top of a new view; a step between two tabs of a function keeps the position.
 *
 * @param {string[]} previous
 * @param {string[]} parts
 */
function resetScroll(previous, parts) {
  if (parts.length > 1 && previous[0] === parts[0] && previous[1] === parts[1]) return;
  window.scrollTo(0, 0);
  main.focus({ preventScroll: true });
}

/** Focus the current tab: the element that was clicked has been replaced. */
function keepFocus() {
  if (document.activeElement !== document.body) return;
  /** @type {HTMLElement | null} */ (main.querySelector("nav [aria-current=page]"))?.focus({
    preventScroll: true,
  });
}

/** @param {string[]} parts */
function markCurrent(parts) {
  const currentHref = parts[0] === "functions" || !parts.length ? "#/" : `#/${parts[0]}`;
  for (const link of document.querySelectorAll(".bar a")) {
    if (link.classList.contains("brand")) continue;
    if (link.getAttribute("href") === currentHref) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

/** @type {Record<string, string>} */
const CONNECTION_LABELS = { live: "Live", lost: "Not connected", connecting: "Connecting…" };

function showConnection() {
  const status = elementById("connection", HTMLElement);
  const label = CONNECTION_LABELS[live.connection];
  if (status.textContent !== label) status.textContent = label;
  status.dataset.state = live.connection;
  const banner = elementById("connection-banner", HTMLElement);
  const isLost = live.connection === "lost" && live.error?.status !== 401;
  banner.hidden = !isLost;
  const reason = live.error?.status ? live.error.message : "The dashboard does not answer";
  const text = isLost ? `${reason}. This page may be out of date; it reconnects automatically.` : "";
  if (banner.textContent !== text) banner.textContent = text;
}

function showSession() {
  elementById("session-link", HTMLElement).textContent = session.role === "write" ? "Signed in" : "Sign in";
}

async function showNamespaces() {
  const { namespaces } = await call("GET", "/api/namespaces");
  /** @type {string[]} */
  const names = namespaces?.names ?? [];
  if (!names.includes(session.namespace)) names.unshift(session.namespace);
  const select = elementById("namespace", HTMLSelectElement);
  select.hidden = names.length < 2;
  setChildren(
    select,
    names.map((name) => h("option", { selected: name === session.namespace }, name)),
  );
  select.onchange = () => {
    settings.namespace = select.value;
    connect();
    location.hash = "#/";
    route();
  };
}

/** @param {KeyboardEvent} event */
function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const target = /** @type {HTMLInputElement} */ (event.target);
  const isTyping = target.matches?.("input, textarea, select, [contenteditable]");
  if (event.key === "Escape" && isTyping && target.matches("[data-filter]") && target.value) {
    target.value = "";
    target.dispatchEvent(new Event("input", { bubbles: true }));
    return;
  }
  if (isTyping || document.querySelector("dialog[open]")) return;
  if (event.key === "/") {
    const filter = /** @type {HTMLInputElement | null} */ (main.querySelector("[data-filter]"));
    if (!filter) return;
    event.preventDefault();
    filter.focus();
    filter.select();
  } else if (event.key === "?") showKeys();
  else if (event.key === "n") location.hash = "#/deploy";
  else if (event.key === "g") location.hash = "#/";
}

async function showKeys() {
  const module = await loadModule("./dialogs.js").catch(() => null); // the bar shows the lost connection
  if (!document.querySelector("dialog[open]")) module?.showKeys();
}

settings.askForToken = async () => (await loadModule("./session.js")).askForToken();

let wasConnected = live.connection !== "lost";
watch(showConnection);
showConnection();
onSession(showSession);
watch(() => {
  const isConnected = live.connection === "live";
  if (isConnected && !wasConnected) loadEnvironment();
  wasConnected = isConnected;
});
addEventListener("hashchange", route);
addEventListener("keydown", onKey);
elementById("keys", HTMLElement).addEventListener("click", showKeys);
// The link itself would change the hash, which is the route.
document.querySelector(".skip")?.addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
route().then(loadEnvironment);

/** Load what the first view does not need; again after a lost connection, as it may be another dashboard. */
async function loadEnvironment() {
  try {
    await loadSession();
    await showNamespaces();
  } catch {
    // The stream of functions shows a lost connection, the view an error.
  }
}
