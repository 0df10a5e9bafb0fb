// The frame of the page: which view an address shows, the bar above it, and the keys.
//
// A view is a module with `show(root, params, context)`: it draws into `root` and may return a
// function that is called when somebody leaves. `context` has
//   title(text)    sets the window's title
//   signal         aborted on leaving: pass it to requests and streams
//   again()        shows the view anew
//   navigate(hash) goes elsewhere
//   cameFrom       the hash of the view before, "" when this is the first

import { call, loadModule, settings } from "./api.js";
import { setChildren, h, loadStyleSheet } from "./dom.js";
import { connect, live, loadSession, onSession, session, watch, whenConnected } from "./live.js";
import { errorBox } from "./states.js";

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
let leaveView = () => {};
let currentParts = null;

function matchRoute(parts) {
  for (const view of views) {
    const params = matchParams(view.parts, parts);
    if (params) return { view, params };
  }
  return null;
}

function matchParams(pattern, parts) {
  if (parts.length > pattern.length) return null;
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
  let cleanUp = null;
  leaveView = () => {
    controller.abort();
    cleanUp?.();
  };
  const root = h("div", { class: "view" });
  const context = {
    signal: controller.signal,
    title: (text) => (document.title = `${text} · fnbuild`),
    navigate: (hash) => (location.hash = hash),
    again: route,
    cameFrom: previous ? `#/${previous.map(encodeURIComponent).join("/")}` : "",
  };
  markCurrent(parts);
  const match = matchRoute(parts);
  try {
    if (!match) throw new Error(`there is no page at ${location.hash}`);
    const { path, style } = match.view;
    const [module] = await Promise.all([loadModule(path), style && loadStyleSheet(style)]);
    if (controller.signal.aborted) return;
    setChildren(main, root);
    if (previous) resetScroll(previous, parts);
    cleanUp = await module.show(root, match.params, context);
    if (controller.signal.aborted) cleanUp?.();
  } catch (error) {
    if (controller.signal.aborted) return;
    showFailure(error);
    if (error.status === 0) whenConnected(route, controller.signal);
  }
  if (previous) keepFocus();
}

// What is tried again and fails in the same way stays as it is, and is not read aloud again.
function showFailure(error) {
  if (main.firstChild?.failure === error.message) return;
  const title = error.status === 0 ? "Not connected" : "This did not work";
  const view = h(
    "div",
    { class: "view" },
    h("h1", {}, title),
    errorBox(error, h("a", { href: "#/" }, "All functions")),
  );
  view.failure = error.message;
  setChildren(main, view);
}

// A link that the terminal shows. Neither the address bar nor the history keeps its code.
async function signInByLink() {
  const code = decodePart(location.hash.slice(SIGN_IN.length));
  history.replaceState(null, "", `${location.pathname}#/`);
  const module = await loadModule("./session.js");
  await module.signInByLink(code);
}

function decodePart(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

// A new view begins at its top; a step between two tabs of a function leaves everything in place.
function resetScroll(previous, now) {
  if (now.length > 1 && previous[0] === now[0] && previous[1] === now[1]) return;
  window.scrollTo(0, 0);
  main.focus({ preventScroll: true });
}

// The tab that was pressed is another element now.
function keepFocus() {
  if (document.activeElement === document.body)
    main.querySelector("nav [aria-current=page]")?.focus({ preventScroll: true });
}

function markCurrent(parts) {
  const currentHref = parts[0] === "functions" || !parts.length ? "#/" : `#/${parts[0]}`;
  for (const link of document.querySelectorAll(".bar a")) {
    if (link.classList.contains("brand")) continue;
    if (link.getAttribute("href") === currentHref) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function showConnection() {
  const status = document.getElementById("connection");
  const labels = { live: "Live", lost: "Not connected", connecting: "Connecting…" };
  const label = labels[live.connection];
  if (status.textContent !== label) status.textContent = label;
  status.dataset.state = live.connection;
  const banner = document.getElementById("gone");
  const isLost = live.connection === "lost" && live.error?.status !== 401;
  banner.hidden = !isLost;
  if (isLost) {
    const reason = live.error?.status ? live.error.message : "The dashboard does not answer";
    const text = `${reason}. What you see may be old; this page connects again by itself.`;
    if (banner.textContent !== text) banner.textContent = text;
  } else banner.textContent = "";
}

function showSession() {
  document.getElementById("who").textContent = session.role === "write" ? "Signed in" : "Sign in";
}

async function showNamespaces() {
  const { namespaces } = await call("GET", "/api/namespaces");
  const names = namespaces?.names ?? [];
  if (!names.includes(session.namespace)) names.unshift(session.namespace);
  const select = document.getElementById("namespace");
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

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const target = event.target;
  const isTyping = target.matches?.("input, textarea, select, [contenteditable]");
  if (event.key === "Escape" && isTyping && target.matches("[data-filter]") && target.value) {
    target.value = "";
    target.dispatchEvent(new Event("input", { bubbles: true }));
    return;
  }
  if (isTyping || document.querySelector("dialog[open]")) return;
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
document.getElementById("keys").addEventListener("click", showKeys);
// The link would change the address, which names the view.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
route().then(loadEnvironment);

// Behind the first picture, and after the dashboard was away: it may be another one by then.
async function loadEnvironment() {
  try {
    await loadSession();
    await showNamespaces();
  } catch {
    // The stream of functions tells that the dashboard is gone; a refusal stands in the view.
  }
}
