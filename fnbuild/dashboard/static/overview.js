// The tab `#/functions/NAME`: how the function is, where it is reached, what it is made of.

import { call, functionPath, loadModule } from "./api.js";
import { copyButton, setChildren, h, webLink, withCode, append } from "./dom.js";
import { drawErrors, lastChange } from "./errors.js";
import { operationTitle, watchOperation } from "./operation.js";
import { pill, replicasOf, stateOf } from "./states.js";

const SERVING_NOTE = /; (revision \d+ goes on serving)/;

export function show(root, { name }, { current, onChange, signal }) {
  const operation = h("div");
  const state = h("section", { class: "card", "aria-labelledby": "state" });
  const errors = h("section", { class: "card", "aria-labelledby": "errors" });
  const endpointCard = h("section", { class: "card", "aria-labelledby": "reach" });
  const labels = h("section", { class: "card", "aria-labelledby": "model-labels", hidden: true });
  const detailsCard = h("section", { class: "card", "aria-labelledby": "made" });
  const errorList = h("div");
  append(errors, h("h2", { id: "errors" }, "Last errors"), errorList);
  append(root, operation, h("div", { class: "columns" }, state, endpointCard), labels, errors, detailsCard);
  let replicas = [];
  let drawnSignature = "";
  let followedId = endedId(current()?.status?.operation);
  onChange(draw);
  draw();
  poll();
  const timer = setInterval(poll, 3000);
  return () => clearInterval(timer);

  function draw() {
    const fn = current();
    if (!fn) return;
    followOperation(fn);
    const signature = JSON.stringify([fn, replicas]);
    if (signature === drawnSignature) return;
    drawnSignature = signature;
    drawState(fn);
    drawEndpoint(fn);
    drawLabels(labels, fn.metadata?.annotations ?? {});
    drawDetails(detailsCard, fn);
  }

  // The state comes by itself; what failed and which replicas there are is asked for.
  async function poll() {
    if (document.hidden) return;
    try {
      const [statistics, names] = await Promise.all([
        call("GET", functionPath(name, "statistics"), { signal }),
        call("GET", functionPath(name, "replicas"), { signal }),
      ]);
      replicas = names.names ?? [];
      drawErrors(errorList, statistics.errors ?? [], lastChange(current()));
      draw();
    } catch {
      if (!signal.aborted && !errorList.hasChildNodes()) drawErrors(errorList, []);
    }
  }

  // What is under way, what has failed, and what began since the page was opened: a change may be
  // over before anybody is told that it began.
  function followOperation(fn) {
    const { operation: latest } = fn.status ?? {};
    if (isOutdatedFailure(fn)) return setChildren(operation);
    if (!latest || latest.id === followedId) return undefined;
    followedId = latest.id;
    return watchOperation(operation, name, { title: operationTitle(latest.action, name), signal });
  }

  function drawState({ status = {}, spec = {} }) {
    setChildren(
      state,
      h("h2", { id: "state" }, "State"),
      spec.description && h("p", {}, spec.description),
      stateMessage(status),
      status.setAside && h("p", { class: "note warn" }, withCode(`Set aside: ${status.setAside}`)),
      (status.notes ?? []).map((text) => h("p", { class: "note" }, withCode(text))),
      (status.warnings ?? []).map((text) => h("p", { class: "note warn" }, withCode(text))),
      factList([
        ["State", pill(stateOf({ status }))],
        ["Revision", status.revision && String(status.revision)],
        ["Platform", status.platform],
        ["Replicas", replicasOf({ status })],
        ["Names", replicas.some((replica) => replica !== name) && replicas.join(", ")],
        ["GPU", status.gpu && String(status.gpu)],
      ]),
    );
  }

  function drawEndpoint({ status = {}, metadata = {} }) {
    const url = status.url || (status.httpPort ? `http://127.0.0.1:${status.httpPort}` : "");
    const otherAddresses = (urls) =>
      (urls ?? []).filter((address) => !url.endsWith(`//${address}`)).join(", ");
    const curl = url && curlCommand(url, metadata.annotations?.type);
    setChildren(
      endpointCard,
      h("h2", { id: "reach" }, "Where to reach it"),
      factList([
        ["Port", status.httpPort ? String(status.httpPort) : ""],
        ["Address", url && webLink(url)],
        ["Inside", otherAddresses(status.internalInvocationUrls)],
        ["Outside", otherAddresses(status.externalInvocationUrls)],
      ]),
      url
        ? [
            h("pre", { class: "code" }, curl),
            h("p", { class: "actions" }, copyButton(curl, "Copy the command")),
          ]
        : h("p", { class: "quiet-text" }, "It has no address now: nothing of it runs."),
    );
  }
}

// What the state says, but for a failure that stands above with the change that failed.
function stateMessage({ message, operation: change }) {
  if (!message) return null;
  const failure = change?.state === "failed" && change.message.split("\n")[0].replace(SERVING_NOTE, "");
  if (!failure || !message.startsWith(failure)) return h("pre", { class: "message" }, message);
  const serving = message.match(SERVING_NOTE)?.[1];
  return h("p", {}, serving ? `The last change failed; ${serving}.` : "The last change failed.");
}

// A model wants a picture; the playground writes the requests that want more than that.
function curlCommand(url, type) {
  if (type !== "detector") return `curl -X POST -d '' ${url}`;
  const body = "{ printf '{\"image\":\"'; base64 < picture.jpg | tr -d '\\n'; printf '\"}'; }";
  return `${body} |\n  curl -H 'Content-Type: application/json' --data-binary @- ${url}`;
}

// A failure ends with its revision: another one is ready since.
function isOutdatedFailure({ status = {} }) {
  const { operation: change, revision } = status;
  return (
    change?.state === "failed" &&
    Boolean(revision) &&
    revision !== change.revision &&
    stateOf({ status }) === "ready"
  );
}

// Of what ended well before there is nothing to show.
const endedId = (operation) => (operation?.state === "done" ? operation.id : null);

function detailRows(spec) {
  const resources = Object.entries(spec.resources ?? {}).map(
    ([kind, amounts]) =>
      `${kind}: ${Object.entries(amounts ?? {})
        .map(([key, value]) => `${key} ${value}`)
        .join(", ")}`,
  );
  const triggers = Object.entries(spec.triggers ?? {}).map(
    ([key, trigger]) =>
      `${key} (${trigger?.kind ?? "?"}, ${trigger?.numWorkers ?? trigger?.maxWorkers ?? 1} workers)`,
  );
  return [
    ["Handler", spec.handler],
    ["Runtime", spec.runtime],
    ["Image", spec.image],
    ["Time limit", spec.eventTimeout],
    ["Triggers", triggers.join(", ")],
    ["Resources", resources.join("; ")],
  ];
}

// What the model finds, as its annotation `spec` tells CVAT.
async function drawLabels(container, { type, spec = "" }) {
  const key = `${type} ${spec}`;
  if (container.key === key) return;
  container.key = key;
  // Most functions are no models: only the page of one that is loads what draws labels.
  const modules =
    type &&
    spec &&
    (await Promise.all([loadModule("./shapes.js"), loadModule("./panels.js")]).catch(() => null));
  if (container.key !== key) return;
  const labels = modules ? modules[0].labelsOf(spec) : [];
  container.hidden = !labels.length;
  if (!labels.length) return;
  setChildren(
    container,
    h("h2", { id: "model-labels" }, "Labels ", h("span", { class: "count" }, String(labels.length))),
    h(
      "ul",
      { class: "labels" },
      labels.map((label) => labelItem(label, modules[1].swatch)),
    ),
  );
}

function labelItem({ name, type, colour, attributes, sublabels }, swatch) {
  const details = [
    type !== "any" && type,
    sublabels.length && `${sublabels.length} points: ${sublabels.join(", ")}`,
    attributes.length && `attributes: ${attributes.join(", ")}`,
  ];
  const about = details.filter(Boolean).join(" · ");
  return h("li", {}, swatch(colour), h("span", {}, name, about && h("span", { class: "about" }, about)));
}

function drawDetails(container, { spec = {}, metadata = {} }) {
  const entriesOf = (values) => Object.entries(values ?? {}).map(([key, value]) => [key, String(value)]);
  setChildren(
    container,
    h("h2", { id: "made" }, "What it is made of"),
    factList(detailRows(spec)),
    factGroup(
      "Environment",
      (spec.env ?? []).map((variable) => [variable.name, variable.value ?? "from a secret or field"]),
    ),
    factGroup("Labels", entriesOf(metadata.labels)),
    factGroup("Annotations", entriesOf(metadata.annotations)),
  );
}

function factGroup(title, rows) {
  const filled = rows.filter(([, value]) => value);
  if (!filled.length) return null;
  return h("details", {}, h("summary", {}, `${title} (${filled.length})`), factList(filled));
}

function factList(rows) {
  const filled = rows.filter(([, value]) => value);
  return h(
    "dl",
    { class: "facts" },
    filled.map(([key, value]) => [h("dt", {}, key), h("dd", {}, value)]),
  );
}
