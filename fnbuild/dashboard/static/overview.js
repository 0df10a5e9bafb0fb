// The tab `#/functions/NAME`: how the function is, where it is reached, what it is made of.

import { call, inFunction, load } from "./api.js";
import { copyButton, fill, h, link, prose, put } from "./dom.js";
import { drawErrors, lastChange } from "./errors.js";
import { doing, watchOperation } from "./operation.js";
import { pill, replicasOf, wordOf } from "./states.js";

const SERVES = /; (revision \d+ goes on serving)/;

export function show(root, { name }, { current, onChange, signal }) {
  const operation = h("div");
  const state = h("section", { class: "card", "aria-labelledby": "state" });
  const errors = h("section", { class: "card", "aria-labelledby": "errors" });
  const reach = h("section", { class: "card", "aria-labelledby": "reach" });
  const labels = h("section", { class: "card", "aria-labelledby": "model-labels", hidden: true });
  const made = h("section", { class: "card", "aria-labelledby": "made" });
  const list = h("div");
  put(errors, h("h2", { id: "errors" }, "Last errors"), list);
  put(root, operation, h("div", { class: "columns" }, state, reach), labels, errors, made);
  let replicas = [];
  let drawn = "";
  let followed = settled(current()?.status?.operation);
  onChange(draw);
  draw();
  ask();
  const timer = setInterval(ask, 3000);
  return () => clearInterval(timer);

  function draw() {
    const one = current();
    if (!one) return;
    followOperation(one);
    const says = JSON.stringify([one, replicas]);
    if (says === drawn) return;
    drawn = says;
    drawState(one);
    drawReach(one);
    drawLabels(labels, one.metadata?.annotations ?? {});
    drawMade(made, one);
  }

  // The state comes by itself; what failed and which replicas there are is asked for.
  async function ask() {
    if (document.hidden) return;
    try {
      const [found, names] = await Promise.all([
        call("GET", inFunction(name, "statistics"), { signal }),
        call("GET", inFunction(name, "replicas"), { signal }),
      ]);
      replicas = names.names ?? [];
      drawErrors(list, found.errors ?? [], lastChange(current()));
      draw();
    } catch {
      if (!signal.aborted && !list.hasChildNodes()) drawErrors(list, []);
    }
  }

  // What is under way, what has failed, and what began since the page was opened: a change may be
  // over before anybody is told that it began.
  function followOperation(one) {
    const { operation: now } = one.status ?? {};
    if (isOver(one)) return fill(operation);
    if (!now || now.id === followed) return undefined;
    followed = now.id;
    return watchOperation(operation, name, { title: doing(now.action, name), signal });
  }

  function drawState({ status = {}, spec = {} }) {
    fill(
      state,
      h("h2", { id: "state" }, "State"),
      spec.description && h("p", {}, spec.description),
      said(status),
      status.setAside && h("p", { class: "note warn" }, prose(`Set aside: ${status.setAside}`)),
      (status.notes ?? []).map((text) => h("p", { class: "note" }, prose(text))),
      (status.warnings ?? []).map((text) => h("p", { class: "note warn" }, prose(text))),
      facts([
        ["State", pill(wordOf({ status }))],
        ["Revision", status.revision && String(status.revision)],
        ["Platform", status.platform],
        ["Replicas", replicasOf({ status })],
        ["Names", replicas.some((one) => one !== name) && replicas.join(", ")],
        ["GPU", status.gpu && String(status.gpu)],
      ]),
    );
  }

  function drawReach({ status = {}, metadata = {} }) {
    const url = status.url || (status.httpPort ? `http://127.0.0.1:${status.httpPort}` : "");
    const others = (urls) => (urls ?? []).filter((one) => !url.endsWith(`//${one}`)).join(", ");
    const curl = url && shellLine(url, metadata.annotations?.type);
    fill(
      reach,
      h("h2", { id: "reach" }, "Where to reach it"),
      facts([
        ["Port", status.httpPort ? String(status.httpPort) : ""],
        ["Address", url && link(url)],
        ["Inside", others(status.internalInvocationUrls)],
        ["Outside", others(status.externalInvocationUrls)],
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
function said({ message, operation: change }) {
  if (!message) return null;
  const first = change?.state === "failed" && change.message.split("\n")[0].replace(SERVES, "");
  if (!first || !message.startsWith(first)) return h("pre", { class: "message" }, message);
  const serves = message.match(SERVES)?.[1];
  return h("p", {}, serves ? `The last change failed; ${serves}.` : "The last change failed.");
}

// A model wants a picture; the playground writes the requests that want more than that.
function shellLine(url, type) {
  if (type !== "detector") return `curl -X POST -d '' ${url}`;
  const body = "{ printf '{\"image\":\"'; base64 < picture.jpg | tr -d '\\n'; printf '\"}'; }";
  return `${body} |\n  curl -H 'Content-Type: application/json' --data-binary @- ${url}`;
}

// A failure ends with its revision: another one is ready since.
function isOver({ status = {} }) {
  const { operation: change, revision } = status;
  return (
    change?.state === "failed" &&
    Boolean(revision) &&
    revision !== change.revision &&
    wordOf({ status }) === "ready"
  );
}

// Of what ended well before there is nothing to show.
const settled = (operation) => (operation?.state === "done" ? operation.id : null);

function partsOf(spec) {
  const resources = Object.entries(spec.resources ?? {}).map(
    ([kind, amounts]) =>
      `${kind}: ${Object.entries(amounts ?? {})
        .map(([key, value]) => `${key} ${value}`)
        .join(", ")}`,
  );
  const triggers = Object.entries(spec.triggers ?? {}).map(
    ([key, one]) => `${key} (${one?.kind ?? "?"}, ${one?.numWorkers ?? one?.maxWorkers ?? 1} workers)`,
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
async function drawLabels(place, { type, spec = "" }) {
  const key = `${type} ${spec}`;
  if (place.key === key) return;
  place.key = key;
  // Most functions are no models: only the page of one that is loads what draws labels.
  const modules =
    type && spec && (await Promise.all([load("./shapes.js"), load("./panels.js")]).catch(() => null));
  if (place.key !== key) return;
  const found = modules ? modules[0].labelsOf(spec) : [];
  place.hidden = !found.length;
  if (!found.length) return;
  fill(
    place,
    h("h2", { id: "model-labels" }, "Labels ", h("span", { class: "count" }, String(found.length))),
    h(
      "ul",
      { class: "labels" },
      found.map((one) => labelItem(one, modules[1].swatch)),
    ),
  );
}

function labelItem({ name, type, colour, attributes, sublabels }, swatch) {
  const more = [
    type !== "any" && type,
    sublabels.length && `${sublabels.length} points: ${sublabels.join(", ")}`,
    attributes.length && `attributes: ${attributes.join(", ")}`,
  ];
  const about = more.filter(Boolean).join(" · ");
  return h("li", {}, swatch(colour), h("span", {}, name, about && h("span", { class: "about" }, about)));
}

function drawMade(place, { spec = {}, metadata = {} }) {
  const pairs = (values) => Object.entries(values ?? {}).map(([key, value]) => [key, String(value)]);
  fill(
    place,
    h("h2", { id: "made" }, "What it is made of"),
    facts(partsOf(spec)),
    group(
      "Environment",
      (spec.env ?? []).map((one) => [one.name, one.value ?? "from a secret or field"]),
    ),
    group("Labels", pairs(metadata.labels)),
    group("Annotations", pairs(metadata.annotations)),
  );
}

function group(title, rows) {
  const there = rows.filter(([, value]) => value);
  if (!there.length) return null;
  return h("details", {}, h("summary", {}, `${title} (${there.length})`), facts(there));
}

function facts(rows) {
  const there = rows.filter(([, value]) => value);
  return h(
    "dl",
    { class: "facts" },
    there.map(([key, value]) => [h("dt", {}, key), h("dd", {}, value)]),
  );
}
