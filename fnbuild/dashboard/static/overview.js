// The tab `#/functions/NAME`: state, endpoint, errors and details of a function.

import { call, functionPath, loadModule } from "./api.js";
import { append, copyButton, h, hasChanged, setChildren, webLink, withCode } from "./dom.js";
import { drawErrors, lastChange } from "./errors.js";
import { operationTitle, watchOperation } from "./operation.js";
import { drawFindings } from "./reply_findings.js";
import { pill, replicasOf, shownStateOf, stateOf } from "./states.js";

/** @typedef {[name: string, value: Child]} Fact */

const SERVING_NOTE = /; (revision \d+ goes on serving)/;

/** @type {Tab} */
export function show(root, { name }, { current, onChange, signal }) {
  const operation = h("div");
  const state = h("section", { class: "card", "aria-labelledby": "state" });
  const errors = h("section", { class: "card", "aria-labelledby": "errors" });
  const findings = h("section", { class: "card", "aria-labelledby": "reply-findings", hidden: true });
  const endpointCard = h("section", { class: "card", "aria-labelledby": "endpoint" });
  const labels = h("section", { class: "card", "aria-labelledby": "model-labels", hidden: true });
  const group = h("section", { class: "card", "aria-labelledby": "gpu-group", hidden: true });
  const detailsCard = h("section", { class: "card", "aria-labelledby": "details" });
  const errorList = h("div");
  append(errors, h("h2", { id: "errors" }, "Last errors"), errorList);
  append(
    root,
    operation,
    h("div", { class: "columns" }, state, endpointCard),
    group,
    labels,
    findings,
    errors,
    detailsCard,
  );
  /** @type {string[]} */
  let replicas = [];
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
    if (!hasChanged(state, fn, replicas)) return;
    drawState(fn);
    drawEndpoint(fn);
    drawGroup(group, fn.status?.sleep?.group);
    drawLabels(labels, fn.metadata?.annotations ?? {});
    drawDetails(detailsCard, fn);
  }

  /** Load errors and replicas, which the stream of functions does not have. */
  async function poll() {
    if (document.hidden) return;
    try {
      const [statistics, names, watched] = await Promise.all([
        call("GET", functionPath(name, "statistics"), { signal }),
        call("GET", functionPath(name, "replicas"), { signal }),
        call("GET", functionPath(name, "findings"), { signal }),
      ]);
      replicas = names.names ?? [];
      drawFindings(findings, watched);
      drawErrors(errorList, statistics.errors ?? [], lastChange(current()));
      draw();
    } catch {
      if (!signal.aborted && !errorList.hasChildNodes()) drawErrors(errorList, []);
    }
  }

  /**
   * Show the operation that is running, that has failed, or that began since the page was opened: a change
   * may be over before its start is announced.
   *
   * @param {FunctionObject} fn
   */
  function followOperation(fn) {
    const { operation: latest } = fn.status ?? {};
    if (isOutdatedFailure(fn)) return setChildren(operation);
    if (!latest || latest.id === followedId) return undefined;
    followedId = latest.id;
    return watchOperation(operation, name, { title: operationTitle(latest.action, name), signal });
  }

  /** @param {FunctionObject} fn */
  function drawState({ status = {}, spec = {} }) {
    setChildren(
      state,
      h("h2", { id: "state" }, "State"),
      spec.description && h("p", {}, spec.description),
      stateMessage(status),
      status.setAside && h("p", { class: "note warn" }, withCode(`Excluded from CVAT: ${status.setAside}`)),
      (status.notes ?? []).map((text) => h("p", { class: "note" }, withCode(text))),
      (status.warnings ?? []).map((text) => h("p", { class: "note warn" }, withCode(text))),
      factList([
        ["State", pill(shownStateOf({ status }))],
        ["Revision", status.revision ? String(status.revision) : ""],
        ["Platform", status.platform],
        ["Replicas", replicasOf({ status })],
        ["Replica names", replicas.some((replica) => replica !== name) && replicas.join(", ")],
        ["GPU", status.gpu ? String(status.gpu) : ""],
      ]),
    );
  }

  /** @param {FunctionObject} fn */
  function drawEndpoint(fn) {
    const { status = {} } = fn;
    const url = status.url || (status.httpPort ? `http://127.0.0.1:${status.httpPort}` : "");
    /** @param {string[]} [urls] */
    const otherAddresses = (urls = []) => urls.filter((address) => !url.endsWith(`//${address}`)).join(", ");
    const curl = url && curlCommand(url, fn);
    setChildren(
      endpointCard,
      h("h2", { id: "endpoint" }, "Endpoint"),
      factList([
        ["Port", status.httpPort ? String(status.httpPort) : ""],
        ["Address", url && webLink(url)],
        ["Internal", otherAddresses(status.internalInvocationUrls)],
        ["External", otherAddresses(status.externalInvocationUrls)],
      ]),
      url
        ? [h("pre", { class: "code" }, curl), h("p", { class: "actions" }, copyButton(curl, "Copy command"))]
        : h("p", { class: "muted" }, "No endpoint: the function is not running."),
    );
  }
}

/**
 * Return the state's message, shortened if the failed change above shows it already.
 *
 * @param {FunctionStatus} status
 */
function stateMessage({ message, operation: change }) {
  if (!message) return null;
  const failure = change?.state === "failed" && change.message.split("\n")[0].replace(SERVING_NOTE, "");
  if (!failure || !message.startsWith(failure)) return h("pre", { class: "message" }, message);
  const serving = message.match(SERVING_NOTE)?.[1];
  return h("p", {}, serving ? `The last change failed; ${serving}.` : "The last change failed.");
}

/**
 * Return a command that calls a function. Detectors need a picture.
 *
 * @param {string} url
 * @param {FunctionObject} fn
 */
export function curlCommand(url, { status = {}, metadata = {}, spec = {} }) {
  const { name, namespace, annotations } = metadata;
  const needsToken =
    status.platform === "torchserve" && spec.platform?.attributes?.torchserve?.tokens !== false;
  if (needsToken) {
    const command = `fnbuild torchserve token ${name} --namespace ${namespace}`;
    url = `-H "Authorization: Bearer $(${command})" \\\n  ${url}`;
  }
  if (annotations?.type !== "detector") return `curl -X POST -d '' ${url}`;
  const body = "{ printf '{\"image\":\"'; base64 < picture.jpg | tr -d '\\n'; printf '\"}'; }";
  return `${body} |\n  curl -H 'Content-Type: application/json' --data-binary @- ${url}`;
}

/**
 * Return true if another revision is ready since the failed change.
 *
 * @param {FunctionObject} fn
 */
function isOutdatedFailure({ status = {} }) {
  const { operation: change, revision } = status;
  return (
    change?.state === "failed" &&
    Boolean(revision) &&
    revision !== change.revision &&
    stateOf({ status }) === "ready"
  );
}

/**
 * Return the id of an operation that needs no mention because it succeeded.
 *
 * @param {Operation | undefined} operation
 */
const endedId = (operation) => (operation?.state === "done" ? operation.id : null);

/**
 * @param {FunctionSpec} spec
 * @returns {Fact[]}
 */
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

/**
 * Draw the members of a GPU group, with the memory that they use.
 *
 * @param {HTMLElement} container
 * @param {GpuGroup | null | undefined} group
 */
function drawGroup(container, group) {
  container.hidden = !group;
  if (!group) return;
  setChildren(
    container,
    h("h2", { id: "gpu-group" }, `GPU group ${group.name}`),
    h("p", {}, group.usage),
    h(
      "ul",
      { class: "labels" },
      group.members.map((member) => h("li", {}, pill(member.state), h("span", {}, member.description))),
    ),
  );
}

/**
 * Draw the labels of a model, as its annotation `spec` declares them for CVAT.
 *
 * @param {HTMLElement} container
 * @param {Record<string, string>} annotations
 */
async function drawLabels(container, { type, spec = "" }) {
  if (!hasChanged(container, type, spec)) return;
  // Only models need these modules.
  const modules =
    type &&
    spec &&
    (await Promise.all([loadModule("./shapes.js"), loadModule("./panels.js")]).catch(() => null));
  /** @type {Label[]} */
  const labels = modules ? modules[0].labelsOf(spec) : [];
  container.hidden = !labels.length;
  if (!modules || !labels.length) return;
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

/**
 * @param {Label} label
 * @param {(colour: Colour) => HTMLElement} swatch
 */
function labelItem({ name, type, colour, attributes, sublabels }, swatch) {
  const details = [
    type !== "any" && type,
    sublabels.length && `${sublabels.length} points: ${sublabels.join(", ")}`,
    attributes.length && `attributes: ${attributes.join(", ")}`,
  ];
  const text = details.filter(Boolean).join(" · ");
  const description = text && h("span", { class: "description" }, text);
  return h("li", {}, swatch(colour), h("span", {}, name, description));
}

/**
 * @param {Element} container
 * @param {FunctionObject} fn
 */
function drawDetails(container, { spec = {}, metadata = {} }) {
  setChildren(
    container,
    h("h2", { id: "details" }, "Details"),
    factList(detailRows(spec)),
    factGroup(
      "Environment",
      (spec.env ?? []).map((variable) => [variable.name, variable.value ?? "from a secret or field"]),
    ),
    factGroup("Labels", Object.entries(metadata.labels ?? {})),
    factGroup("Annotations", Object.entries(metadata.annotations ?? {})),
  );
}

/**
 * @param {string} title
 * @param {Fact[]} rows
 */
function factGroup(title, rows) {
  const filled = rows.filter(([, value]) => value);
  if (!filled.length) return null;
  return h("details", {}, h("summary", {}, `${title} (${filled.length})`), factList(filled));
}

/** @param {Fact[]} rows */
function factList(rows) {
  const filled = rows.filter(([, value]) => value);
  return h(
    "dl",
    { class: "facts" },
    filled.map(([key, value]) => [h("dt", {}, key), h("dd", {}, value)]),
  );
}
