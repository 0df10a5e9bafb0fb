// The form of the view `#/deploy`: name, project and platform of uploaded code, its configuration.

import { call, functionPath } from "./api.js";
import { append, button, h, setChildren } from "./dom.js";
import { createEditor } from "./editor.js";
import { listFunctions, live, onSession, session, watch } from "./live.js";
import { watchOperation } from "./operation.js";
import { errorBox, isServing, projectOf } from "./states.js";

const CVAT = "cvat"; // the only project that CVAT reads
const PROJECT = "nuclio.io/project-name";
const NAME_RULES = ["name", "name-missing"]; // the rules that the field checks
const NAME_RULE = {
  pattern: /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/,
  help: "Letters, digits, -, _ and ., starting with a letter or a digit",
};
const CLUSTER_NAME_RULE = {
  pattern: /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/,
  help: "In a cluster: lower-case letters and digits, with - between them",
};

/**
 * Return the form for uploaded code. The operation and its result are shown in `output`.
 *
 * @param {Upload} upload
 * @param {{signal: AbortSignal, output: HTMLElement}} options
 */
export function deployForm(upload, { signal, output }) {
  const { annotations = {}, labels = {} } = upload.metadata ?? {};
  const projects = new Set(["default", ...listFunctions().map(projectOf)]);
  const projectList = h("datalist", { id: "projects" });
  const name = h("input", {
    id: "name",
    maxlength: 63,
    value: upload.name ?? "",
    autocomplete: "off",
    spellcheck: "false",
    oninput: update,
  });
  const project = h("input", {
    id: "project",
    list: "projects",
    value: labels[PROJECT] ?? (annotations.type ? CVAT : ""),
    placeholder: "default",
    autocomplete: "off",
    spellcheck: "false",
    oninput: () => ((projectEdited = true), update()),
  });
  const platform = h("select", { id: "platform", onchange: update });
  const nameHelp = h("small", { id: "name-help" });
  const nameError = h("small", { id: "name-error", class: "field-error", role: "alert" });
  const note = h("p", { class: "note", role: "status", hidden: true });
  const cvatNote = h(
    "p",
    { class: "note warn notice", role: "status", hidden: true },
    h("span", {}, "CVAT shows the functions of the project cvat only."),
    button("Use project cvat", useCvatProject, { class: "small" }),
  );
  const feedback = h("div");
  const submitButton = h("button", { class: "primary" }, "Deploy");
  const blockingErrors = (upload.diagnostics ?? []).filter(
    (finding) => finding.severity === "error" && !NAME_RULES.includes(finding.rule ?? ""),
  );
  const { node: configurationNode, goToError } = configurationSection(upload, signal);
  let projectEdited = false; // by the user
  let deployedName = "";
  signal.addEventListener("abort", watch(update));
  signal.addEventListener("abort", onSession(drawPlatforms));
  drawPlatforms();
  drawProjects();
  update();
  return h(
    "form",
    { class: "card", novalidate: true, onsubmit: deploy },
    h("h2", {}, "Destination"),
    h(
      "div",
      { class: "form-fields" },
      formField("name", "Name", name, nameHelp, nameError),
      formField(
        "project",
        "Project",
        project,
        h("small", { id: "project-help" }, "Created if it does not exist. CVAT shows only the project cvat"),
      ),
      formField("platform", "Platform", platform, h("small", { id: "platform-help" }, "Where it runs")),
    ),
    projectList,
    cvatNote,
    note,
    !upload.configuration &&
      h(
        "p",
        { class: "note" },
        "There is no function.yaml, so enter a name. The handler is ",
        h("code", {}, "handler"),
        " in main.py.",
      ),
    configurationNode,
    feedback,
    h("p", { class: "actions" }, submitButton),
  );

  function drawPlatforms() {
    const before = platform.value || session.platform;
    setChildren(
      platform,
      session.platforms.map((item) =>
        h("option", { value: item.name, selected: item.name === before }, item.name),
      ),
    );
  }

  /** @param {string} name */
  async function createProject(name) {
    try {
      await call("POST", "/api/projects", { json: { metadata: { name }, spec: {} } });
    } catch (error) {
      if (error.status !== 409) throw error; // 409: it was created meanwhile
    }
    projects.add(name);
  }

  async function drawProjects() {
    try {
      for (const projectName of Object.keys(await call("GET", "/api/projects", { signal })))
        projects.add(projectName);
    } catch {
      // Without this list, the form offers the projects of the functions.
    }
    setChildren(
      projectList,
      [...projects].sort().map((projectName) => h("option", { value: projectName })),
    );
  }

  function useCvatProject() {
    project.value = CVAT;
    projectEdited = true;
    update();
    project.focus();
  }

  function update() {
    if (submitButton.disabled) return; // the deploy creates the function that the list has now
    const existing = live.functions[name.value];
    platform.disabled = Boolean(existing);
    if (existing?.status?.platform) platform.value = existing.status.platform;
    if (existing && !projectEdited) project.value = projectOf(existing);
    note.hidden = !existing;
    if (existing) note.textContent = noteOf(name.value, existing);
    submitButton.textContent = existing ? `Update ${name.value}` : "Deploy";
    cvatNote.hidden = !annotations.type || (project.value.trim() || "default") === CVAT;
    nameHelp.textContent = nameRule().help;
    if (name.ariaInvalid === "true") checkName();
  }

  /**
   * @param {string} name
   * @param {FunctionObject} fn
   */
  function noteOf(name, { status = {} }) {
    const { revision } = status;
    if (deployedName === name)
      return `This is what ${name} has now${revision ? `, as revision ${revision}` : ""}.`;
    const location = `on ${status.platform}${revision ? ` as revision ${revision}` : ""}`;
    const running = isServing({ status })
      ? "the current revision serves until the new one is ready."
      : "it is not running.";
    return `${name} already exists, ${location}. Deploying replaces it; ${running}`;
  }

  function nameRule() {
    const selected = session.platforms.find((item) => item.name === platform.value);
    return selected?.clusterNames ? CLUSTER_NAME_RULE : NAME_RULE;
  }

  function checkName() {
    const { pattern } = nameRule();
    const isValid = pattern.test(name.value);
    const text = isValid ? "" : name.value ? `${name.value} cannot be a name` : "A function needs a name";
    if (nameError.textContent !== text) nameError.textContent = text;
    name.ariaInvalid = String(!isValid);
    return isValid;
  }

  /** @param {SubmitEvent} event */
  async function deploy(event) {
    event.preventDefault();
    setChildren(feedback);
    if (blockingErrors.length) {
      const text = "function.yaml has errors. Fix them in your files and choose the files again.";
      setChildren(feedback, h("p", { class: "note warn", role: "alert" }, text));
      return goToError();
    }
    if (!checkName()) return name.focus();
    submitButton.disabled = true;
    const existing = live.functions[name.value];
    const projectName = project.value.trim();
    const projectLabels = projectName ? { [PROJECT]: projectName } : {};
    const body = {
      metadata: { name: name.value, labels: projectLabels },
      spec: { build: { path: upload.path } },
    };
    try {
      if (projectName && !projects.has(projectName)) await createProject(projectName);
      await call(existing ? "PUT" : "POST", existing ? functionPath(name.value) : "/api/functions", {
        json: body,
        headers: existing ? {} : { "X-Fnbuild-Platform": platform.value },
      });
      const operation = await watchOperation(output, name.value, {
        title: `Deploying ${name.value}`,
        signal,
        inView: true,
      });
      deployedName = operation?.state === "done" ? name.value : "";
      if (operation) append(output, resultLinks(operation, name.value));
    } catch (error) {
      if (!signal.aborted) setChildren(feedback, errorBox(error), findingList(error.diagnostics));
    }
    submitButton.disabled = false;
    update();
  }
}

/**
 * @param {Operation} operation
 * @param {string} name
 */
function resultLinks(operation, name) {
  const address = `#/functions/${encodeURIComponent(name)}`;
  const done = operation.state === "done";
  return h(
    "p",
    { class: "actions", role: "status" },
    done && h("a", { class: "button primary", href: `${address}/playground` }, `Try ${name}`),
    h("a", { class: "button", href: address }, `Open ${name}`),
    !done && h("a", { class: "button", href: `${address}/logs` }, "Log"),
  );
}

/**
 * @param {Upload} upload
 * @param {AbortSignal} signal
 */
function configurationSection({ configuration, diagnostics = [] }, signal) {
  if (!configuration) return { node: null, goToError: () => {} };
  const source = createEditor({
    label: "function.yaml of the upload",
    text: configuration,
    signal,
    readonly: true,
  });
  source.show(diagnostics);
  const node = h("details", { open: diagnostics.length > 0 }, h("summary", {}, "function.yaml"), source.node);
  return { node, goToError: () => ((node.open = true), source.goToError()) };
}

/** @param {Diagnostic[] | undefined} list */
function findingList(list) {
  if (!list?.length) return null;
  return h(
    "ul",
    { class: "findings" },
    list.map((finding) =>
      h(
        "li",
        { class: `finding ${finding.severity}` },
        finding.line ? `Line ${finding.line}: ` : "",
        finding.message,
        finding.hint ? ` → ${finding.hint}` : "",
      ),
    ),
  );
}

/**
 * @param {string} id
 * @param {string} label
 * @param {HTMLElement} control
 * @param {...HTMLElement} help
 */
function formField(id, label, control, ...help) {
  control.setAttribute("aria-describedby", help.map((element) => element.id).join(" "));
  return h("div", { class: "field" }, h("label", { for: id }, label), control, help);
}
