// Client of the dashboard's API: requests, errors with their remedy, event streams, modules of the page.
//
// A request that is refused for lack of a token asks the user for one and is sent again: every method but
// GET, or as the option `askForToken` says. A GET without a response is sent two more times: browsers drop
// requests when a network interface of the machine appears or goes, as it does when a container starts.

/**
 * @typedef {object} RequestOptions
 * @property {unknown} [json] the body, sent as JSON
 * @property {BodyInit} [body]
 * @property {string} [type] the body's media type
 * @property {Record<string, string>} [headers]
 * @property {AbortSignal} [signal]
 * @property {boolean} [askForToken]
 */

// In milliseconds.
const RETRY_DELAYS = [250, 1000];
const RECONNECT_DELAYS = [500, 1000, 2000, 4000, 8000];
const IDLE_TIMEOUT = 40_000; // the dashboard sends something every 15 s
const PERMANENT_STATUSES = [400, 401, 403, 404];

/** The namespace of all requests, and the function that asks the user for a token; set by app.js. */
export const settings = { namespace: "", askForToken: async () => false };

/** An error response, or the lack of a response, with the status 0. */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {any} answer the response's JSON
   */
  constructor(status, answer) {
    super(answer.error || `the dashboard answered ${status}`);
    this.name = "ApiError";
    this.status = status;
    this.hint = answer.hint || "";
    this.code = answer.code || "";
    this.detail = answer.errorStackTrace || "";
    /** @type {Diagnostic[]} */
    this.diagnostics = answer.diagnostics || [];
  }
}

/**
 * Return the API's path of a function, or of something below it.
 *
 * @param {string} name
 */
export function functionPath(name, remainder = "") {
  return `/api/functions/${encodeURIComponent(name)}${remainder ? `/${remainder}` : ""}`;
}

/**
 * Send a request; return the response's body, JSON or text. Throws an `ApiError`, or the error of an abort.
 *
 * @param {string} method
 * @param {string} path
 * @param {RequestOptions} [options]
 */
export async function call(method, path, options = {}) {
  return (await callWithHeaders(method, path, options)).body;
}

/**
 * Send a request as `call` does; return the response's body and headers.
 *
 * @param {string} method
 * @param {string} path
 * @param {RequestOptions} [options]
 * @returns {Promise<{body: any, headers: Headers}>}
 */
export async function callWithHeaders(method, path, options = {}) {
  let response = await fetchWithRetries(method, path, options);
  const { askForToken = method !== "GET" } = options;
  if (response.status === 401 && askForToken) {
    if (await settings.askForToken()) response = await fetchWithRetries(method, path, options);
  }
  if (!response.ok) throw await errorFromResponse(response);
  const { headers } = response;
  if (response.status === 204) return { body: null, headers };
  const text = await response.text();
  if (!(headers.get("content-type") || "").includes("json")) return { body: text, headers };
  return { body: text ? JSON.parse(text) : null, headers };
}

/**
 * @param {string} method
 * @param {string} path
 * @param {RequestOptions} options
 */
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

/**
 * @param {string} method
 * @param {string} path
 * @param {RequestOptions} options
 */
async function sendRequest(method, path, { json, body, type, headers = {}, signal }) {
  /** @type {Record<string, string>} */
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
      hint: "check that `fnbuild dashboard` is running; this page reconnects automatically",
    });
  }
}

/** @param {Response} response */
async function errorFromResponse(response) {
  let answer = null;
  try {
    answer = await response.clone().json();
  } catch {
    // A proxy's response, of which only the status is known.
  }
  return new ApiError(response.status, answer ?? {});
}

/**
 * Yield the events of a stream until it ends. `data` is parsed JSON; `onActivity` is called at every chunk.
 *
 * @param {string} path
 * @param {{signal?: AbortSignal, onActivity?: () => void}} options
 * @returns {AsyncGenerator<{event: string, data: any}>}
 */
export async function* eventStream(path, { signal, onActivity = () => {} }) {
  const response = await sendRequest("GET", path, {
    signal,
    headers: { Accept: "text/event-stream" },
  });
  if (!response.ok) throw await errorFromResponse(response);
  if (!response.body) return;
  const decoder = /** @type {ReadableWritablePair<string, any>} */ (new TextDecoderStream());
  const reader = response.body.pipeThrough(decoder).getReader();
  let remainder = "";
  let pending = newEvent();
  for (;;) {
    const { value: chunk, done } = await reader.read();
    if (done) return;
    onActivity();
    const lines = (remainder + chunk).split(/\r\n|\n/);
    remainder = lines.pop() ?? "";
    for (const line of lines) {
      if (line === "" && pending.data.length) {
        yield { event: pending.event, data: JSON.parse(pending.data.join("\n")) };
        pending = newEvent();
      } else if (line.startsWith("event:")) pending.event = line.slice(6).trim();
      else if (line.startsWith("data:")) pending.data.push(line.slice(5).replace(/^ /, ""));
      else if (line === "") pending = newEvent();
    }
  }
}

const newEvent = () => ({ event: "message", data: /** @type {string[]} */ ([]) });

/**
 * Pass every event of a stream to `handle` and reconnect after interruptions, until `signal` is aborted.
 *
 * A function as `path` is called before each connection. `onState` is called with `live`, and with `lost`
 * and the dashboard's error, if there was one. An error that no retry can resolve is thrown.
 *
 * @param {string | (() => string)} path
 * @param {(event: {event: string, data: any}) => unknown} handle
 * @param {{signal: AbortSignal, onState: (state: string, error: ApiError | null) => void}} options
 */
export async function follow(path, handle, { signal, onState }) {
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

/**
 * Return a signal that aborts after a time without activity: after a sleep of the machine, dead connections
 * look open.
 *
 * @param {number} milliseconds
 * @param {AbortSignal} parentSignal
 */
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

/**
 * Wait for a time, or until `signal` is aborted.
 *
 * @param {number} milliseconds
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
export function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

/** @type {Map<string, any>} */
const modules = new Map();
/** @type {Map<string, number>} */
const loadFailures = new Map();

/**
 * Import a module of the page, such as "./logs.js". Throws an `ApiError` of status 0 if it cannot be loaded.
 *
 * @param {string} path
 */
export async function loadModule(path) {
  for (const wait of [...RETRY_DELAYS, null]) {
    const attempts = loadFailures.get(path) ?? 0;
    try {
      // Some browsers never load an address again that failed once.
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
    hint: "check that `fnbuild dashboard` is running; it is loaded automatically once the dashboard answers",
  });
}
