// Talking to the dashboard: requests, refusals with their remedy, streams of events.
//
//   call(method, path, {json, body, type, headers, signal, ask}) -> the answer, as JSON or text
//   received(method, path, the same)                            -> {body, headers} of the answer
//   events(path, {signal})                                      -> async iterator of {event, data}
//   follow(path, handle, {signal, onstate})                     -> the same for ever, connecting again
//   inFunction(name, rest)                                      -> the path of something of a function
//   load(path)                                                  -> a part of the page, as its module
//   Refused                                                     -> message, hint, status, diagnostics
//
// What is refused for want of a token asks for one (see session.js) and is made again: every method
// but GET, or as `ask` says. A GET that got no answer is made twice more: browsers drop what is on
// its way when an interface of the machine appears or goes, as it does when a container starts.

/** How long to wait before each new try of what got no answer, in milliseconds. */
export const RETRY_DELAYS = [250, 1000];
const RECONNECT_DELAYS = [500, 1000, 2000, 4000, 8000];
const IDLE_TIMEOUT = 40_000; // the dashboard says something every 15 s
const PERMANENT_STATUSES = [400, 401, 403, 404];

/** Set by app.js: the namespace shown, and who asks for a token. */
export const settings = { namespace: "", askForToken: async () => false };

/** An answer that says no. `status` is 0 when there was none. */
export class ApiError extends Error {
  constructor(status, answer = {}) {
    super(answer.error || `the dashboard answered ${status}`);
    this.name = "ApiError";
    this.status = status;
    this.hint = answer.hint || "";
    this.code = answer.code || "";
    this.detail = answer.errorStackTrace || "";
    this.diagnostics = answer.diagnostics || [];
  }
}

/** The path of a function, or of something that belongs to it. */
export function functionPath(name, remainder = "") {
  return `/api/functions/${encodeURIComponent(name)}${remainder ? `/${remainder}` : ""}`;
}

/** One request. Raises `Refused`; an abort by `signal` raises what `fetch` does. */
export async function call(method, path, options = {}) {
  return (await callWithHeaders(method, path, options)).body;
}

/** One request as `call` makes it; the body of the answer and its headers. */
export async function callWithHeaders(method, path, options = {}) {
  let response = await fetchWithRetries(method, path, options);
  const { ask = method !== "GET" } = options;
  if (response.status === 401 && ask) {
    if (await settings.askForToken()) response = await fetchWithRetries(method, path, options);
  }
  if (!response.ok) throw await errorFromResponse(response);
  const { headers } = response;
  if (response.status === 204) return { body: null, headers };
  const text = await response.text();
  if (!(headers.get("content-type") || "").includes("json")) return { body: text, headers };
  return { body: text ? JSON.parse(text) : null, headers };
}

async function fetchWithRetries(method, path, options) {
  for (const wait of method === "GET" ? RETRY_DELAYS : []) {
    try {
      return await sendRequest(method, path, options);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
    }
    await pause(wait, options.signal);
  }
  return sendRequest(method, path, options);
}

async function sendRequest(method, path, { json, body, type, headers = {}, signal } = {}) {
  const allHeaders = { Accept: "application/json", ...headers };
  if (settings.namespace) {
    allHeaders["X-Nuclio-Function-Namespace"] = settings.namespace;
    allHeaders["X-Nuclio-Project-Namespace"] = settings.namespace;
  }
  if (json !== undefined) allHeaders["Content-Type"] = "application/json";
  else if (type) allHeaders["Content-Type"] = type;
  try {
    return await fetch(path, {
      method,
      headers: allHeaders,
      body: json === undefined ? body : JSON.stringify(json),
      signal,
      credentials: "same-origin",
      cache: "no-store",
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, {
      error: "the dashboard does not answer",
      hint: "look whether `fnbuild dashboard` still runs; this page connects again by itself",
    });
  }
}

async function errorFromResponse(response) {
  let answer = {};
  try {
    answer = await response.clone().json();
  } catch {
    // Not the dashboard's own answer: a proxy's, whose status is all there is to say.
  }
  return new ApiError(response.status, answer ?? {});
}

/** The events of a stream until it ends. `data` is read as JSON; `onbytes` hears that it lives. */
export async function* eventStream(path, { signal, onActivity = () => {} } = {}) {
  const response = await sendRequest("GET", path, {
    signal,
    headers: { Accept: "text/event-stream" },
  });
  if (!response.ok) throw await errorFromResponse(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let remainder = "";
  let pending = { event: "message", data: [] };
  for (;;) {
    const { value: chunk, done } = await reader.read();
    if (done) return;
    onActivity();
    const lines = (remainder + chunk).split(/\r\n|\n/);
    remainder = lines.pop();
    for (const line of lines) {
      if (line === "" && pending.data.length) {
        yield { event: pending.event, data: JSON.parse(pending.data.join("\n")) };
        pending = { event: "message", data: [] };
      } else if (line.startsWith("event:")) pending.event = line.slice(6).trim();
      else if (line.startsWith("data:")) pending.data.push(line.slice(5).replace(/^ /, ""));
      else if (line === "") pending = { event: "message", data: [] };
    }
  }
}

/**
 * Hand every event of a stream to `handle`, connecting again when it breaks, until `signal`.
 *
 * `path` may be a function, asked before each connection. `onstate(state, error)` hears `live`, and
 * `lost` with the refusal or null. What no second try mends is thrown.
 */
export async function follow(path, handle, { signal, onState = () => {} }) {
  for (let failures = 0; !signal.aborted;) {
    let apiError = null;
    const idle = idleTimer(IDLE_TIMEOUT, signal);
    try {
      const options = { signal: idle.signal, onActivity: idle.restart };
      for await (const event of eventStream(typeof path === "function" ? path() : path, options)) {
        failures = 0;
        onState("live", null);
        handle(event);
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ApiError && PERMANENT_STATUSES.includes(error.status)) throw error;
      apiError = error instanceof ApiError ? error : null;
    } finally {
      idle.end();
    }
    if (signal.aborted) return;
    onState("lost", apiError);
    await pause(RECONNECT_DELAYS[Math.min(failures++, RECONNECT_DELAYS.length - 1)], signal);
  }
}

// Aborts when nothing was heard for a while: a machine that slept leaves connections that look open.
function idleTimer(milliseconds, parentSignal) {
  const controller = new AbortController();
  let timer = 0;
  const restart = () => {
    clearTimeout(timer);
    timer = setTimeout(() => controller.abort(), milliseconds);
  };
  restart();
  return {
    signal: AbortSignal.any([controller.signal, parentSignal]),
    restart,
    end: () => (clearTimeout(timer), controller.abort()),
  };
}

/** Wait, until `signal` at the longest. */
export function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

const modules = new Map(); // modules by path
const loadFailures = new Map(); // by path, how often it did not come

/**
 * The module at `path`, such as "./logs.js", also after the dashboard was away. Raises `Refused` of
 * status 0 when it does not come.
 */
export async function loadModule(path) {
  for (const wait of [...RETRY_DELAYS, null]) {
    const attempts = loadFailures.get(path) ?? 0;
    try {
      // Some browsers remember for good that nothing came from an address.
      if (!modules.has(path)) modules.set(path, await import(attempts ? `${path}?again=${attempts}` : path));
      return modules.get(path);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      loadFailures.set(path, attempts + 1);
    }
    if (wait !== null) await pause(wait);
  }
  throw new ApiError(0, {
    error: "the dashboard does not answer, so this part of the page could not be loaded",
    hint: "look whether `fnbuild dashboard` still runs; it is loaded by itself when the dashboard is back",
  });
}
