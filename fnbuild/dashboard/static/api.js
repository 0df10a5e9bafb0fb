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
export const AGAIN = [250, 1000];
const PATIENCE = [500, 1000, 2000, 4000, 8000];
const SILENCE = 40_000; // the dashboard says something every 15 s
const FINAL = [400, 401, 403, 404];

/** Set by app.js: the namespace shown, and who asks for a token. */
export const settings = { namespace: "", askForToken: async () => false };

/** An answer that says no. `status` is 0 when there was none. */
export class Refused extends Error {
  constructor(status, answer = {}) {
    super(answer.error || `the dashboard answered ${status}`);
    this.name = "Refused";
    this.status = status;
    this.hint = answer.hint || "";
    this.code = answer.code || "";
    this.detail = answer.errorStackTrace || "";
    this.diagnostics = answer.diagnostics || [];
  }
}

/** The path of a function, or of something that belongs to it. */
export function inFunction(name, rest = "") {
  return `/api/functions/${encodeURIComponent(name)}${rest ? `/${rest}` : ""}`;
}

/** One request. Raises `Refused`; an abort by `signal` raises what `fetch` does. */
export async function call(method, path, options = {}) {
  return (await received(method, path, options)).body;
}

/** One request as `call` makes it; the body of the answer and its headers. */
export async function received(method, path, options = {}) {
  let response = await answered(method, path, options);
  const { ask = method !== "GET" } = options;
  if (response.status === 401 && ask) {
    if (await settings.askForToken()) response = await answered(method, path, options);
  }
  if (!response.ok) throw await refusal(response);
  const { headers } = response;
  if (response.status === 204) return { body: null, headers };
  const text = await response.text();
  if (!(headers.get("content-type") || "").includes("json")) return { body: text, headers };
  return { body: text ? JSON.parse(text) : null, headers };
}

async function answered(method, path, options) {
  for (const wait of method === "GET" ? AGAIN : []) {
    try {
      return await requested(method, path, options);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
    }
    await pause(wait, options.signal);
  }
  return requested(method, path, options);
}

async function requested(method, path, { json, body, type, headers = {}, signal } = {}) {
  const sent = { Accept: "application/json", ...headers };
  if (settings.namespace) {
    sent["X-Nuclio-Function-Namespace"] = settings.namespace;
    sent["X-Nuclio-Project-Namespace"] = settings.namespace;
  }
  if (json !== undefined) sent["Content-Type"] = "application/json";
  else if (type) sent["Content-Type"] = type;
  try {
    return await fetch(path, {
      method,
      headers: sent,
      body: json === undefined ? body : JSON.stringify(json),
      signal,
      credentials: "same-origin",
      cache: "no-store",
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refused(0, {
      error: "the dashboard does not answer",
      hint: "look whether `fnbuild dashboard` still runs; this page connects again by itself",
    });
  }
}

async function refusal(response) {
  let answer = {};
  try {
    answer = await response.clone().json();
  } catch {
    // Not the dashboard's own answer: a proxy's, whose status is all there is to say.
  }
  return new Refused(response.status, answer ?? {});
}

/** The events of a stream until it ends. `data` is read as JSON; `onbytes` hears that it lives. */
export async function* events(path, { signal, onbytes = () => {} } = {}) {
  const response = await requested("GET", path, {
    signal,
    headers: { Accept: "text/event-stream" },
  });
  if (!response.ok) throw await refusal(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let made = { event: "message", data: [] };
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    onbytes();
    const lines = (rest + value).split(/\r\n|\n/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === "" && made.data.length) {
        yield { event: made.event, data: JSON.parse(made.data.join("\n")) };
        made = { event: "message", data: [] };
      } else if (line.startsWith("event:")) made.event = line.slice(6).trim();
      else if (line.startsWith("data:")) made.data.push(line.slice(5).replace(/^ /, ""));
      else if (line === "") made = { event: "message", data: [] };
    }
  }
}

/**
 * Hand every event of a stream to `handle`, connecting again when it breaks, until `signal`.
 *
 * `path` may be a function, asked before each connection. `onstate(state, error)` hears `live`, and
 * `lost` with the refusal or null. What no second try mends is thrown.
 */
export async function follow(path, handle, { signal, onstate = () => {} }) {
  for (let failures = 0; !signal.aborted;) {
    let refused = null;
    const silence = silent(SILENCE, signal);
    try {
      const options = { signal: silence.signal, onbytes: silence.again };
      for await (const one of events(typeof path === "function" ? path() : path, options)) {
        failures = 0;
        onstate("live", null);
        handle(one);
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refused && FINAL.includes(error.status)) throw error;
      refused = error instanceof Refused ? error : null;
    } finally {
      silence.end();
    }
    if (signal.aborted) return;
    onstate("lost", refused);
    await pause(PATIENCE[Math.min(failures++, PATIENCE.length - 1)], signal);
  }
}

// Aborts when nothing was heard for a while: a machine that slept leaves connections that look open.
function silent(milliseconds, outer) {
  const stop = new AbortController();
  let timer = 0;
  const again = () => {
    clearTimeout(timer);
    timer = setTimeout(() => stop.abort(), milliseconds);
  };
  again();
  return {
    signal: AbortSignal.any([stop.signal, outer]),
    again,
    end: () => (clearTimeout(timer), stop.abort()),
  };
}

/** Wait, until `signal` at the longest. */
export function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

const loaded = new Map(); // modules by path
const failures = new Map(); // by path, how often it did not come

/**
 * The module at `path`, such as "./logs.js", also after the dashboard was away. Raises `Refused` of
 * status 0 when it does not come.
 */
export async function load(path) {
  for (const wait of [...AGAIN, null]) {
    const failed = failures.get(path) ?? 0;
    try {
      // Some browsers remember for good that nothing came from an address.
      if (!loaded.has(path)) loaded.set(path, await import(failed ? `${path}?again=${failed}` : path));
      return loaded.get(path);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      failures.set(path, failed + 1);
    }
    if (wait !== null) await pause(wait);
  }
  throw new Refused(0, {
    error: "the dashboard does not answer, so this part of the page could not be loaded",
    hint: "look whether `fnbuild dashboard` still runs; it is loaded by itself when the dashboard is back",
  });
}
