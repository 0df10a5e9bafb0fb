// The tab `#/functions/NAME/configuration`: the stored function.yaml, to read and to change.

import { call, callWithHeaders, functionPath } from "./api.js";
import { confirmAction, toast } from "./dialogs.js";
import { append, button, h, setChildren } from "./dom.js";
import { createEditor } from "./editor.js";
import { whenConnected } from "./live.js";
import { watchOperation } from "./operation.js";
import { errorBox, isServing } from "./states.js";

/**
 * Unsaved texts by function: they survive a change of the tab or view.
 *
 * @type {Map<string, string>}
 */
const drafts = new Map();
/**
 * The drafts whose deploy failed, by function.
 *
 * @type {Map<string, string>}
 */
const failedDrafts = new Map();

/**
 * @param {HTMLElement} root
 * @param {Record<string, string>} params
 * @param {TabContext} context
 */
export async function show(root, { name }, { signal, current, onChange }) {
  let saving = false;
  let { text: stored, revision } = await fetchStored();
  const feedback = h("div");
  const output = h("div");
  const saveButton = button("Save and deploy", deploy, { class: "primary" });
  const discardButton = button("Discard changes", discard);
  const initialDraft = drafts.get(name);
  /** @type {(() => string) | null} returns the text of the note */
  let noteText = null;
  const source = createEditor({
    label: `Configuration of ${name}`,
    text: initialDraft ?? stored,
    name,
    signal,
    extraFindings: nameFindings,
    onChange: onChanged,
    onSave: deploy,
  });
  append(
    root,
    h(
      "section",
      { class: "card" },
      h(
        "div",
        { class: "head" },
        h("h2", {}, "function.yaml"),
        h(
          "p",
          { class: "muted" },
          "Saving deploys a new revision. Secrets appear as [redacted] and are kept.",
        ),
      ),
      feedback,
      source.node,
      h("p", { class: "actions" }, saveButton, discardButton),
    ),
    output,
  );
  if (initialDraft !== undefined)
    setNote(
      initialDraft === failedDrafts.get(name)
        ? failedDeployText
        : () => "Your earlier changes, not saved yet.",
    );
  updateButtons();
  onChange(onUpdate);
  addEventListener("beforeunload", confirmUnload, { signal });

  /** Load the stored text with its own revision: that of the list may be older or newer. */
  async function fetchStored() {
    const { body, headers } = await callWithHeaders("GET", functionPath(name, "configuration"), { signal });
    return { text: body, revision: Number(headers.get("x-fnbuild-revision")) };
  }

  /** @param {string} text */
  function onChanged(text) {
    if (text === stored) drafts.delete(name);
    else drafts.set(name, text);
    updateButtons();
  }

  /**
   * Return an error if the text has another name: saving it would create another function, without code.
   *
   * @param {{function?: string}} answer
   * @param {string} text
   * @returns {Diagnostic[]}
   */
  function nameFindings({ function: newName }, text) {
    const own = name.split("@")[0];
    if (!newName || newName === own) return [];
    const lineNumber =
      text
        .split("\n")
        .findIndex((textLine) => /^\s+["']?name["']?:/.test(textLine) && textLine.includes(newName)) + 1;
    const message = `the name cannot be changed here: this is the configuration of ${own}`;
    const hint = `leave the name ${own}; under another name it is deployed from the page Deploy`;
    return [
      {
        severity: "error",
        rule: "other-name",
        message,
        hint,
        line: lineNumber || null,
        column: 1,
        endLine: lineNumber,
        endColumn: 1,
      },
    ];
  }

  function failedDeployText() {
    const { revision: number } = current()?.status ?? {};
    const outcome =
      isServing(current()) && number ? `revision ${number} goes on serving` : "the function is not running";
    const remedy = "Discard changes restores the stored text.";
    return `This text is not deployed: its deploy failed, and ${outcome}. ${remedy}`;
  }

  function updateButtons() {
    saveButton.disabled = discardButton.disabled = !drafts.has(name);
  }

  /** @param {BeforeUnloadEvent} event */
  function confirmUnload(event) {
    if (drafts.has(name)) event.preventDefault();
  }

  async function discard() {
    const agreed = await confirmAction(
      "Discard your changes?",
      `Your text is lost; ${name} stays as it is.`,
      {
        confirmLabel: "Discard",
        danger: true,
      },
    );
    if (!agreed) return;
    drafts.delete(name);
    failedDrafts.delete(name);
    await reload();
  }

  /** Show the stored text, unless the user has typed meanwhile. */
  async function reload() {
    try {
      ({ text: stored, revision } = await fetchStored());
    } catch (error) {
      if (signal.aborted) return;
      showError(error);
      if (error.status === 0) whenConnected(reload, signal);
      return;
    }
    if (drafts.has(name)) return onChanged(source.text());
    if (source.text() !== stored) source.write(stored);
    onChanged(stored);
    source.show([]);
    setNote(null);
  }

  /**
   * Show a newer revision at once unless there is a draft. An older one comes from a list that lags behind,
   * or from a rollback, which creates a newer text of an older revision.
   *
   * @param {FunctionObject | null} fn
   */
  function onUpdate(fn) {
    const newRevision = fn?.status?.revision;
    if (newRevision && newRevision !== revision && !saving) loadNewer(newRevision);
    else if (noteText) drawNote();
  }

  /** @param {number} newRevision */
  async function loadNewer(newRevision) {
    if (!drafts.has(name)) return reload();
    const fetched = await fetchStored().catch(() => null);
    if (!fetched || fetched.revision === revision || saving) return undefined;
    ({ text: stored, revision } = fetched);
    if (drafts.has(name))
      setNote(() => `Revision ${newRevision} was deployed meanwhile. Saving replaces it with your text.`);
    return undefined;
  }

  /**
   * Set the function that returns the note's text; it is called again after every event.
   *
   * @param {(() => string) | null} noteFunction
   */
  function setNote(noteFunction) {
    noteText = noteFunction;
    setChildren(feedback);
    drawNote();
  }

  /** @param {any} error */
  function showError(error) {
    setNote(null);
    setChildren(feedback, errorBox(error));
  }

  function drawNote() {
    const text = noteText?.();
    if (text && feedback.textContent !== text)
      setChildren(feedback, h("p", { class: "note warn", role: "status" }, text));
  }

  async function deploy() {
    if (saveButton.disabled) return;
    saving = saveButton.disabled = true;
    setNote(null);
    setChildren(output);
    const text = source.text();
    try {
      const [nameFinding] = nameFindings(await source.check(), text);
      if (nameFinding) return showError(nameFinding);
      await call("PUT", functionPath(name), { body: text, type: "application/yaml" });
      toast(`${name} is being deployed`);
      const last = await watchOperation(output, name, { title: `Deploying ${name}`, signal, inView: true });
      if (last?.state === "done") {
        if (drafts.get(name) === text) drafts.delete(name);
        await reload();
      } else if (last) {
        failedDrafts.set(name, text);
        setNote(failedDeployText);
      }
    } catch (error) {
      if (signal.aborted) return;
      showError(error);
      if (error.diagnostics?.length) source.show(error.diagnostics);
    } finally {
      saving = false;
      updateButtons();
    }
  }
}
