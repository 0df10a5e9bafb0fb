// What is to be made of code on the view `#/deploy`: its name, project and platform, the live build.

import { call, inFunction } from "./api.js";
import { fill, h, put } from "./dom.js";
import { editor } from "./editor.js";
import { all, live, onSession, session, watch } from "./live.js";
import { serves, watchOperation } from "./operation.js";
import { problem, projectOf } from "./states.js";

const CVAT = "cvat"; // the only project that CVAT looks into
const PROJECT = "nuclio.io/project-name";
const NAMED = ["name", "name-missing"]; // rules that the field settles
const CLUSTERS = ["kube", "nuclio"];
const NAMES = [/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/, "Letters, digits, -, _ and . with a letter or a digit first"];
const CLUSTER_NAMES = [
  /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/,
  "In a cluster: lower-case letters, digits and - between them",
];

/**
 * The form for code as an upload is answered: `{path, name, configuration, diagnostics, metadata}`.
 * What comes of a deploy is shown in `under`.
 */
export function placing(found, { signal, under }) {
  const { annotations = {}, labels = {} } = found.metadata ?? {};
  const projects = new Set(["default", ...all().map(projectOf)]);
  const offered = h("datalist", { id: "projects" });
  const name = h("input", {
    id: "name",
    maxlength: 63,
    value: found.name ?? "",
    autocomplete: "off",
    spellcheck: "false",
    oninput: look,
  });
  const project = h("input", {
    id: "project",
    list: "projects",
    value: labels[PROJECT] ?? (annotations.type ? CVAT : ""),
    placeholder: "default",
    autocomplete: "off",
    spellcheck: "false",
    oninput: () => ((chose = true), look()),
  });
  const platform = h("select", { id: "platform", onchange: look });
  const rule = h("small", { id: "name-help" });
  const wrong = h("small", { id: "name-wrong", class: "wrong", role: "alert" });
  const note = h("p", { class: "note", role: "status", hidden: true });
  const unseen = h(
    "p",
    { class: "note warn notice", role: "status", hidden: true },
    h("span", {}, "CVAT shows the functions of the project cvat only."),
    h("button", { type: "button", class: "small", onclick: intoCvat }, "Use project cvat"),
  );
  const said = h("div");
  const send = h("button", { class: "primary" }, "Deploy");
  const errors = (found.diagnostics ?? []).filter(
    (one) => one.severity === "error" && !NAMED.includes(one.rule),
  );
  const { node: written, goToError } = configurationOf(found, signal);
  let chose = false; // somebody wrote a project
  let deployed = "";
  signal.addEventListener("abort", watch(look));
  signal.addEventListener("abort", onSession(drawPlatforms));
  drawPlatforms();
  drawProjects();
  look();
  return h(
    "form",
    { class: "card", novalidate: true, onsubmit: deploy },
    h("h2", {}, "Where it goes"),
    h(
      "div",
      { class: "form-fields" },
      field("name", "Name", name, rule, wrong),
      field(
        "project",
        "Project",
        project,
        h("small", { id: "project-help" }, "A new one is made. CVAT shows those of the project cvat"),
      ),
      field("platform", "Platform", platform, h("small", { id: "platform-help" }, "Where it runs")),
    ),
    offered,
    unseen,
    note,
    !found.configuration &&
      h(
        "p",
        { class: "note" },
        "There is no function.yaml in it, so give it a name. What is called is ",
        h("code", {}, "handler"),
        " in main.py.",
      ),
    written,
    said,
    h("p", { class: "actions" }, send),
  );

  function drawPlatforms() {
    const before = platform.value || session.platform;
    fill(
      platform,
      session.platforms.map((one) =>
        h("option", { value: one.name, selected: one.name === before }, one.name),
      ),
    );
  }

  async function makeProject(name) {
    try {
      await call("POST", "/api/projects", { json: { metadata: { name }, spec: {} } });
    } catch (error) {
      if (error.status !== 409) throw error; // 409: somebody was faster
    }
    projects.add(name);
  }

  async function drawProjects() {
    try {
      for (const one of Object.keys(await call("GET", "/api/projects", { signal }))) projects.add(one);
    } catch {
      // Those of the functions that are there are known without.
    }
    fill(
      offered,
      [...projects].sort().map((one) => h("option", { value: one })),
    );
  }

  function intoCvat() {
    project.value = CVAT;
    chose = true;
    look();
    project.focus();
  }

  function look() {
    if (send.disabled) return; // what is there now is what is being made
    const there = live.functions[name.value];
    platform.disabled = Boolean(there);
    if (there?.status?.platform) platform.value = there.status.platform;
    if (there && !chose) project.value = projectOf(there);
    note.hidden = !there;
    if (there) note.textContent = noteOf(name.value, there);
    send.textContent = there ? `Update ${name.value}` : "Deploy";
    unseen.hidden = !annotations.type || (project.value.trim() || "default") === CVAT;
    rule.textContent = nameRule()[1];
    if (name.ariaInvalid === "true") checkName();
  }

  function noteOf(name, { status = {} }) {
    const { revision } = status;
    if (deployed === name)
      return `This is what ${name} has now${revision ? `, as revision ${revision}` : ""}.`;
    const place = `on ${status.platform}${revision ? ` as revision ${revision}` : ""}`;
    const running = serves({ status })
      ? "what runs serves until the new revision is ready."
      : "nothing of it runs now.";
    return `${name} is there already, ${place}. Deploying puts this over it; ${running}`;
  }

  function nameRule() {
    return CLUSTERS.includes(platform.value) ? CLUSTER_NAMES : NAMES;
  }

  function checkName() {
    const [pattern] = nameRule();
    const fits = pattern.test(name.value);
    const text = fits ? "" : name.value ? `${name.value} cannot be a name` : "A function needs a name";
    if (wrong.textContent !== text) wrong.textContent = text;
    name.ariaInvalid = String(!fits);
    return fits;
  }

  async function deploy(event) {
    event.preventDefault();
    fill(said);
    if (errors.length) {
      const text = "function.yaml has errors. Mend them in your files and choose these again.";
      fill(said, h("p", { class: "note warn", role: "alert" }, text));
      return goToError();
    }
    if (!checkName()) return name.focus();
    send.disabled = true;
    const there = live.functions[name.value];
    const wanted = project.value.trim();
    const labels = wanted ? { [PROJECT]: wanted } : {};
    const asked = { metadata: { name: name.value, labels }, spec: { build: { path: found.path } } };
    try {
      if (wanted && !projects.has(wanted)) await makeProject(wanted);
      await call(there ? "PUT" : "POST", there ? inFunction(name.value) : "/api/functions", {
        json: asked,
        headers: there ? {} : { "X-Fnbuild-Platform": platform.value },
      });
      const last = await watchOperation(under, name.value, {
        title: `Deploying ${name.value}`,
        signal,
        inView: true,
      });
      deployed = last?.state === "done" ? name.value : "";
      if (last) put(under, outcome(last, name.value));
    } catch (error) {
      if (!signal.aborted) fill(said, problem(error), findings(error.diagnostics));
    }
    send.disabled = false;
    look();
  }
}

function outcome(last, name) {
  const address = `#/functions/${encodeURIComponent(name)}`;
  const done = last.state === "done";
  return h(
    "p",
    { class: "actions", role: "status" },
    done && h("a", { class: "button primary", href: `${address}/playground` }, `Try ${name}`),
    h("a", { class: "button", href: address }, `Open ${name}`),
    !done && h("a", { class: "button", href: `${address}/logs` }, "Its log"),
  );
}

function configurationOf({ configuration, diagnostics = [] }, signal) {
  if (!configuration) return { node: null, goToError: () => {} };
  const paper = editor({ label: "function.yaml of the upload", text: configuration, signal, readonly: true });
  paper.show(diagnostics);
  const node = h("details", { open: diagnostics.length > 0 }, h("summary", {}, "function.yaml"), paper.node);
  return { node, goToError: () => ((node.open = true), paper.goToError()) };
}

function findings(list) {
  if (!list?.length) return null;
  return h(
    "ul",
    { class: "findings" },
    list.map((one) =>
      h(
        "li",
        { class: `finding ${one.severity}` },
        `${one.line ? `Line ${one.line}: ` : ""}${one.message}${one.hint ? ` → ${one.hint}` : ""}`,
      ),
    ),
  );
}

function field(id, label, control, ...help) {
  control.setAttribute("aria-describedby", help.map((one) => one.id).join(" "));
  return h("div", { class: "field" }, h("label", { for: id }, label), control, help);
}
