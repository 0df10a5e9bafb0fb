// Requests as CVAT makes them, for each kind of function, and the same as programs.
//
// A request is a list of [key, value] in CVAT's order; a picture among the values is sent as base64.
// What there is to ask about is `work`: {pictures, pos, neg, box, boxes, shapes, states, threshold}.

import { ApiError, settings } from "./api.js";

export const MODEL_TYPES = ["detector", "interactor", "tracker", "reid"];
const PATH = "/api/function_invocations";
const TIMEOUT = "120s";

/** What a function of a kind is asked, as cvat/apps/lambda_manager/views.py has it. */
export function requestEntries(kind, input) {
  const entries = {
    detector: () => [["image", input.picture]],
    interactor: () => [
      ["image", input.picture],
      ["pos_points", input.pos],
      ["neg_points", input.neg],
      ["obj_bbox", input.box ? [input.box.slice(0, 2), input.box.slice(2)] : []],
    ],
    tracker: () => [
      ["image", input.picture],
      ["shapes", input.shapes],
      ["states", input.states],
    ],
    reid: () => [
      ["image0", input.picture],
      ["image1", input.second],
      ["boxes0", input.boxes[0].map((points, i) => rectangle(points, i, 0))],
      ["boxes1", input.boxes[1].map((points, i) => rectangle(points, i, 1))],
    ],
  }[kind]();
  // CVAT leaves a threshold of 0 out.
  if (input.threshold) entries.push(["threshold", input.threshold]);
  return entries;
}

/** A rectangle as CVAT's database has it, which re-identification gets. */
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

const isPicture = (value) => value?.blob instanceof Blob;

async function base64(blob) {
  const url = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error("the picture cannot be read any more: choose it again"));
    reader.readAsDataURL(blob);
  });
  return url.slice(url.indexOf(",") + 1);
}

/** Call a function. Gives {status, text, ms, stages, size}; raises `Refused` when nothing answers. */
export async function invoke(name, entries, { signal } = {}) {
  const body = {};
  for (const [key, value] of entries) body[key] = isPicture(value) ? await base64(value.blob) : value;
  const request = {
    method: "POST",
    body: JSON.stringify(body),
    signal,
    headers: {
      "Content-Type": "application/json",
      "X-Nuclio-Function-Name": name,
      "X-Nuclio-Path": "/",
      "X-Nuclio-Invoke-Timeout": TIMEOUT,
      ...(settings.namespace && { "X-Nuclio-Function-Namespace": settings.namespace }),
    },
    cache: "no-store",
  };
  const start = performance.now();
  let response = await sendInvocation(request);
  if (response.status === 401 && (await settings.askForToken())) response = await sendInvocation(request);
  const text = await response.text();
  const ms = performance.now() - start;
  const stages = parseServerTiming(response.headers.get("Server-Timing"));
  return { status: response.status, text, ms, stages, size: request.body.length };
}

/** One request to a function; raises `Refused` when nothing answers. */
export async function sendInvocation(request) {
  try {
    return await fetch(PATH, request);
  } catch (error) {
    if (request.signal?.aborted) throw error;
    const hint =
      "ask again: browsers drop requests when the machine's network changes. " +
      "If that does not help, look whether `fnbuild dashboard` still runs";
    throw new ApiError(0, { error: "the dashboard does not answer", hint });
  }
}

/** Milliseconds by stage, from `queue;dur=0.1, handler;dur=20`. */
export function parseServerTiming(header) {
  const matches = [...(header ?? "").matchAll(/([\w-]+)[^,]*?;\s*dur=([\d.]+)/g)];
  return matches.map(([, name, duration]) => [name, Number(duration)]);
}

/** What a refusal says: the function's own message, and its traceback if there is one. */
export function replyError(name, { status, text }) {
  let [message, hint, detail] = [text.trim(), "", ""];
  try {
    const answer = JSON.parse(text);
    if (typeof answer === "string") message = answer;
    else if (answer?.error)
      [message, hint, detail] = [String(answer.error), answer.hint ?? "", answer.errorStackTrace ?? ""];
  } catch {
    // Plain text is how a handler's traceback comes.
  }
  const lines = message.split("\n").filter((line) => line.trim());
  if (lines[0]?.startsWith("Traceback")) [message, detail] = [lines.at(-1), message];
  const error = new ApiError(status, {
    error: `${name} answered ${status}: ${message || "nothing"}`,
    hint,
    errorStackTrace: detail,
  });
  return error;
}

/** What CVAT would say to a reply: [{severity, path, message, hint}]. */
export async function checkReply(kind, spec, entries, reply, size, { signal } = {}) {
  const values = Object.fromEntries(entries);
  const counts = {
    tracker: () => [values.shapes.length],
    reid: () => [values.boxes0.length, values.boxes1.length],
  };
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
      counts: counts[kind]?.() ?? [],
      follows: Boolean(values.states?.length),
    }),
  });
  const answer = await response.json();
  if (!response.ok) throw new ApiError(response.status, answer);
  return answer.findings;
}

const shellQuote = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** The headers of a request, as programs write them. */
const requestHeaders = (name) => ({
  "Content-Type": "application/json",
  "X-Nuclio-Function-Name": name,
  ...(settings.namespace && { "X-Nuclio-Function-Namespace": settings.namespace }),
  "X-Nuclio-Path": "/",
  "X-Nuclio-Invoke-Timeout": TIMEOUT,
});

/** The request as a line for a shell: pictures are read from files of their names. */
export function asCurl(name, entries) {
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

/** The same in Python, with nothing but its standard library. */
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
