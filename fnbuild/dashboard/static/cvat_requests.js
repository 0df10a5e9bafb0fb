// Requests as CVAT sends them to each kind of function, and the same requests as programs.
//
// A request is a list of [key, value] in CVAT's order; pictures among the values are sent as base64.

/**
 * @typedef {object} Input
 * @property {Picture} picture
 * @property {Picture} [second] of re-identification
 * @property {Point[]} [pos]
 * @property {Point[]} [neg]
 * @property {Box | null} [box]
 * @property {Box[][]} [boxes] of re-identification, for each picture
 * @property {unknown[]} [shapes] of a tracker
 * @property {unknown[]} [states] of a tracker
 * @property {number} [threshold]
 */

import { ApiError, settings } from "./api.js";

export const MODEL_TYPES = ["detector", "interactor", "tracker", "reid"];
const PATH = "/api/function_invocations";
const TIMEOUT = "120s";

/**
 * Return the request to a kind of function, as cvat/apps/lambda_manager/views.py has it.
 *
 * @param {string} kind
 * @param {Input} input
 * @returns {RequestEntry[]}
 */
export function requestEntries(kind, { picture, second, pos, neg, box, boxes = [[], []], ...input }) {
  /** @type {Record<string, RequestEntry[]>} */
  const kinds = {
    detector: [["image", picture]],
    interactor: [
      ["image", picture],
      ["pos_points", pos],
      ["neg_points", neg],
      ["obj_bbox", box ? [box.slice(0, 2), box.slice(2)] : []],
    ],
    tracker: [
      ["image", picture],
      ["shapes", input.shapes],
      ["states", input.states],
    ],
    reid: [
      ["image0", picture],
      ["image1", second],
      ["boxes0", boxes[0].map((points, index) => rectangle(points, index, 0))],
      ["boxes1", boxes[1].map((points, index) => rectangle(points, index, 1))],
    ],
  };
  const entries = kinds[kind];
  // CVAT omits a threshold of 0.
  if (input.threshold) entries.push(["threshold", input.threshold]);
  return entries;
}

/**
 * Return a rectangle as CVAT's database has it, which it sends for re-identification.
 *
 * @param {Box} points
 * @param {number} id
 * @param {number} frame
 */
function rectangle(points, id, frame) {
  return {
    id,
    type: "rectangle",
    frame,
    label_id: 1,
    group: 0,
    source: "manual",
    occluded: false,
    outside: false,
    z_order: 0,
    rotation: 0,
    points,
    attributes: [],
    path_id: id,
  };
}

/** @param {any} value */
const isPicture = (value) => value?.blob instanceof Blob;

/** @param {Blob} blob */
async function base64(blob) {
  /** @type {string} */
  const url = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(new Error("the picture cannot be read any more: choose it again"));
    reader.readAsDataURL(blob);
  });
  return url.slice(url.indexOf(",") + 1);
}

/**
 * Call a function. Throws an `ApiError` if there is no response.
 *
 * @param {string} name
 * @param {RequestEntry[]} entries
 * @param {AbortSignal} signal
 * @returns {Promise<Invocation>}
 */
export async function invoke(name, entries, signal) {
  /** @type {Record<string, unknown>} */
  const values = {};
  for (const [key, value] of entries) values[key] = isPicture(value) ? await base64(value.blob) : value;
  const body = JSON.stringify(values);
  /** @type {RequestInit} */
  const request = { method: "POST", body, signal, headers: requestHeaders(name), cache: "no-store" };
  const start = performance.now();
  let response = await sendInvocation(request);
  if (response.status === 401 && (await settings.askForToken())) response = await sendInvocation(request);
  const text = await response.text();
  const ms = performance.now() - start;
  const stages = parseServerTiming(response.headers.get("Server-Timing"));
  return { status: response.status, text, ms, stages, size: body.length };
}

/**
 * Send a request to a function. Throws an `ApiError` if there is no response.
 *
 * @param {RequestInit} request
 */
export async function sendInvocation(request) {
  try {
    return await fetch(PATH, request);
  } catch (error) {
    if (request.signal?.aborted) throw error;
    const hint =
      "try again: browsers drop requests when the machine's network changes. " +
      "If that does not help, check that `fnbuild dashboard` is running";
    throw new ApiError(0, { error: "the dashboard does not answer", hint });
  }
}

/**
 * Return the milliseconds of each stage from a header such as `queue;dur=0.1, handler;dur=20`.
 *
 * @param {string | null} header
 * @returns {StageTime[]}
 */
export function parseServerTiming(header) {
  const matches = [...(header ?? "").matchAll(/([\w-]+)[^,]*?;\s*dur=([\d.]+)/g)];
  return matches.map(([, name, duration]) => [name, Number(duration)]);
}

/**
 * Return an error response as an error, with the function's own message and its traceback, if there is one.
 *
 * @param {string} name
 * @param {{status: number, text: string}} response
 */
export function replyError(name, { status, text }) {
  let [message, hint, detail] = [text.trim(), "", ""];
  try {
    const answer = JSON.parse(text);
    if (typeof answer === "string") message = answer;
    else if (answer?.error)
      [message, hint, detail] = [String(answer.error), answer.hint ?? "", answer.errorStackTrace ?? ""];
  } catch {
    // A handler's traceback is plain text.
  }
  const lines = message.split("\n").filter((line) => line.trim());
  if (lines[0]?.startsWith("Traceback")) [message, detail] = [lines.at(-1) ?? "", message];
  return new ApiError(status, {
    error: `${name} answered ${status}: ${message || "nothing"}`,
    hint,
    errorStackTrace: detail,
  });
}

/**
 * Check a reply as CVAT would read it.
 *
 * @param {string} kind
 * @param {string} spec
 * @param {RequestEntry[]} entries
 * @param {string} reply
 * @param {Size} size
 * @param {AbortSignal} signal
 * @returns {Promise<Finding[]>}
 */
export async function checkReply(kind, spec, entries, reply, size, signal) {
  const values = Object.fromEntries(entries);
  /** @type {Record<string, any[][]>} */
  const counted = { tracker: [values.shapes], reid: [values.boxes0, values.boxes1] };
  const response = await fetch("/api/checks", {
    method: "POST",
    signal,
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({
      kind,
      spec,
      reply,
      width: size.width,
      height: size.height,
      counts: (counted[kind] ?? []).map((items) => items.length),
      follows: Boolean(values.states?.length),
    }),
  });
  const answer = await response.json();
  if (!response.ok) throw new ApiError(response.status, answer);
  return answer.findings;
}

/** @param {string} text */
const shellQuote = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/**
 * @param {string} name
 * @returns {Record<string, string>}
 */
const requestHeaders = (name) => ({
  "Content-Type": "application/json",
  "X-Nuclio-Function-Name": name,
  ...(settings.namespace && { "X-Nuclio-Function-Namespace": settings.namespace }),
  "X-Nuclio-Path": "/",
  "X-Nuclio-Invoke-Timeout": TIMEOUT,
});

/**
 * Return the request as a shell command that reads pictures from files.
 *
 * @param {string} name
 * @param {RequestEntry[]} entries
 */
export function asCurl(name, entries) {
  /** @type {string[]} */
  const steps = [];
  let text = "{";
  entries.forEach(([key, value], i) => {
    text += `${i ? "," : ""}${JSON.stringify(key)}:`;
    if (!isPicture(value)) {
      text += JSON.stringify(value);
      return;
    }
    steps.push(`printf %s ${shellQuote(`${text}"`)}`, `base64 < ${shellQuote(value.name)} | tr -d '\\n'`);
    text = '"';
  });
  steps.push(`printf %s ${shellQuote(`${text}}`)}`);
  const headers = Object.entries(requestHeaders(name)).map(
    ([key, value]) => `  -H ${shellQuote(`${key}: ${value}`)} \\\n`,
  );
  const url = shellQuote(`${location.origin}${PATH}`);
  const curl = `curl --fail-with-body -sS \\\n${headers.join("")}  --data-binary @- ${url}`;
  return `{ ${steps.join("\n  ")}\n} | ${curl}\n`;
}

/**
 * Return the request as a program for Python, which needs only the standard library.
 *
 * @param {string} name
 * @param {RequestEntry[]} entries
 */
export function asPython(name, entries) {
  const values = entries.map(([key, value]) => {
    const expression = isPicture(value)
      ? `base64.b64encode(open(${JSON.stringify(value.name)}, "rb").read()).decode()`
      : `json.loads(${JSON.stringify(JSON.stringify(value))})`;
    return `    ${JSON.stringify(key)}: ${expression},\n`;
  });
  const headers = Object.entries(requestHeaders(name)).map(
    ([key, value]) => `    ${JSON.stringify(key)}: ${JSON.stringify(value)},\n`,
  );
  return [
    "import base64\nimport json\nimport urllib.request\n",
    `body = {\n${values.join("")}}`,
    `headers = {\n${headers.join("")}}`,
    `url = ${JSON.stringify(`${location.origin}${PATH}`)}`,
    'request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")',
    "with urllib.request.urlopen(request) as reply:\n    print(reply.read().decode())\n",
  ].join("\n");
}
