// The tab `#/functions/NAME/configuration`: the stored function.yaml, to read and to change.

import { call, inFunction } from "./api.js";
import { confirmed, toast } from "./dialogs.js";
import { fill, h, put } from "./dom.js";
import { editor } from "./editor.js";
import { whenBack } from "./live.js";
import { serves, watchOperation } from "./operation.js";
import { problem } from "./states.js";

// What was written and does not run, by function: another tab or page does not lose it.
const drafts = new Map();
const failed = new Map(); // of these, the text whose deploy failed

export async function show(root, { name }, { signal, current, onChange }) {
  let stored = await call("GET", inFunction(name, "configuration"), { signal });
  let revision = current()?.status?.revision;
  const said = h("div");
  const under = h("div");
  const save = h("button", { type: "button", class: "primary", onclick: deploy }, "Save and deploy");
  const undo = h("button", { type: "button", onclick: discard }, "Discard changes");
  const draft = drafts.get(name);
  const paper = editor({
    label: `Configuration of ${name}`,
    text: draft ?? stored,
    signal,
    more: otherName,
    onchange: changed,
    onsave: deploy,
  });
  put(
    root,
    h(
      "section",
      { class: "card" },
      h(
        "div",
        { class: "head" },
        h("h2", {}, "function.yaml"),
        h("p", { class: "quiet-text" }, "Saving deploys a new revision. Secrets stand as [redacted] and stay as they are."),
      ),
      said,
      paper.node,
      h("p", { class: "actions" }, save, undo),
    ),
    under,
  );
  if (draft !== undefined) tell(draft === failed.get(name) ? notServed() : "Here are your changes from before, not saved yet.");
  buttons();
  onChange(look);
  addEventListener("beforeunload", hold, { signal });

  function changed(text) {
    if (text === stored) drafts.delete(name);
    else drafts.set(name, text);
    buttons();
  }

  // What saving it would make is another function, without code.
  function otherName({ function: written }, text) {
    const own = name.split("@")[0];
    if (!written || written === own) return [];
    const line = text.split("\n").findIndex((one) => /^\s+["']?name["']?:/.test(one) && one.includes(written)) + 1;
    const message = `the name cannot be changed here: this is the configuration of ${own}`;
    const hint = `leave the name ${own}; under another name it is deployed from the page Deploy`;
    return [{ severity: "error", rule: "other-name", message, hint, line: line || null, column: 1, endLine: line, endColumn: 1 }];
  }

  function notServed() {
    const { revision: number } = current()?.status ?? {};
    const serving = serves(current()) && number ? `revision ${number} goes on serving` : "nothing of it runs";
    return `This text does not run: its deploy failed, and ${serving}. Discard changes brings back what is stored.`;
  }

  function buttons() {
    save.disabled = undo.disabled = !drafts.has(name);
  }

  function hold(event) {
    if (drafts.has(name)) event.preventDefault();
  }

  async function discard() {
    const yes = await confirmed("Discard your changes?", `What you wrote goes; ${name} stays as it is.`, { yes: "Discard", danger: true });
    if (!yes) return;
    drafts.delete(name);
    failed.delete(name);
    await reload();
  }

  // What is written while the answer is on its way stays.
  async function reload() {
    try {
      stored = await call("GET", inFunction(name, "configuration"), { signal });
    } catch (error) {
      if (signal.aborted) return;
      fill(said, problem(error));
      if (error.status === 0) whenBack(reload, signal);
      return;
    }
    if (drafts.has(name)) return changed(paper.text());
    revision = current()?.status?.revision;
    if (paper.text() !== stored) paper.write(stored);
    changed(stored);
    paper.show([]);
    fill(said);
  }

  // Somebody else deployed a revision: without changes here it is shown, else it is told.
  function look(one) {
    const now = one?.status?.revision;
    if (!now || now === revision || save.saving) return;
    revision = now;
    if (!drafts.has(name)) reload();
    else tell(`Revision ${now} was deployed meanwhile. Saving puts your text over it.`);
  }

  function tell(text) {
    fill(said, h("p", { class: "note warn", role: "status" }, text));
  }

  async function deploy() {
    if (save.disabled) return;
    save.saving = save.disabled = true;
    fill(said);
    fill(under);
    const text = paper.text();
    try {
      const [other] = otherName(await paper.check(), text);
      if (other) return fill(said, problem(other));
      await call("PUT", inFunction(name), { body: text, type: "application/yaml" });
      toast(`${name} is being deployed`);
      const last = await watchOperation(under, name, { title: `Deploying ${name}`, signal });
      if (last?.state === "done") {
        if (drafts.get(name) === text) drafts.delete(name);
        await reload();
      } else if (last) {
        failed.set(name, text);
        tell(notServed());
      }
    } catch (error) {
      if (signal.aborted) return;
      fill(said, problem(error));
      if (error.diagnostics?.length) paper.show(error.diagnostics);
    } finally {
      save.saving = false;
      buttons();
    }
  }
}
