// The tab `#/functions/NAME/configuration`: the stored function.yaml, to read and to change.

import { call, inFunction, received } from "./api.js";
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
  let { text: stored, revision } = await latest();
  const said = h("div");
  const under = h("div");
  const save = h("button", { type: "button", class: "primary", onclick: deploy }, "Save and deploy");
  const undo = h("button", { type: "button", onclick: discard }, "Discard changes");
  const draft = drafts.get(name);
  let noted = null; // makes the note's words
  const paper = editor({
    label: `Configuration of ${name}`,
    text: draft ?? stored,
    name,
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
        h(
          "p",
          { class: "quiet-text" },
          "Saving deploys a new revision. Secrets stand as [redacted] and stay as they are.",
        ),
      ),
      said,
      paper.node,
      h("p", { class: "actions" }, save, undo),
    ),
    under,
  );
  if (draft !== undefined)
    note(draft === failed.get(name) ? notServed : () => "Here are your changes from before, not saved yet.");
  buttons();
  onChange(look);
  addEventListener("beforeunload", hold, { signal });

  // The stored text with its own revision: what the list says may be older or newer.
  async function latest() {
    const { body, headers } = await received("GET", inFunction(name, "configuration"), { signal });
    return { text: body, revision: Number(headers.get("x-fnbuild-revision")) };
  }

  function changed(text) {
    if (text === stored) drafts.delete(name);
    else drafts.set(name, text);
    buttons();
  }

  // What saving it would make is another function, without code.
  function otherName({ function: written }, text) {
    const own = name.split("@")[0];
    if (!written || written === own) return [];
    const line =
      text.split("\n").findIndex((one) => /^\s+["']?name["']?:/.test(one) && one.includes(written)) + 1;
    const message = `the name cannot be changed here: this is the configuration of ${own}`;
    const hint = `leave the name ${own}; under another name it is deployed from the page Deploy`;
    return [
      {
        severity: "error",
        rule: "other-name",
        message,
        hint,
        line: line || null,
        column: 1,
        endLine: line,
        endColumn: 1,
      },
    ];
  }

  function notServed() {
    const { revision: number } = current()?.status ?? {};
    const serving = serves(current()) && number ? `revision ${number} goes on serving` : "nothing of it runs";
    const remedy = "Discard changes brings back what is stored.";
    return `This text does not run: its deploy failed, and ${serving}. ${remedy}`;
  }

  function buttons() {
    save.disabled = undo.disabled = !drafts.has(name);
  }

  function hold(event) {
    if (drafts.has(name)) event.preventDefault();
  }

  async function discard() {
    const yes = await confirmed("Discard your changes?", `What you wrote goes; ${name} stays as it is.`, {
      yes: "Discard",
      danger: true,
    });
    if (!yes) return;
    drafts.delete(name);
    failed.delete(name);
    await reload();
  }

  // What is written while the answer is on its way stays.
  async function reload() {
    try {
      ({ text: stored, revision } = await latest());
    } catch (error) {
      if (signal.aborted) return;
      refused(error);
      if (error.status === 0) whenBack(reload, signal);
      return;
    }
    if (drafts.has(name)) return changed(paper.text());
    if (paper.text() !== stored) paper.write(stored);
    changed(stored);
    paper.show([]);
    note(null);
  }

  // A newer revision is shown at once, unless there are changes here. An older one comes from a list
  // that is behind, or from a rollback, which makes a newer text of an older revision.
  function look(one) {
    const now = one?.status?.revision;
    if (now && now !== revision && !save.saving) newer(now);
    else if (noted) draw();
  }

  async function newer(now) {
    if (!drafts.has(name)) return reload();
    const seen = await latest().catch(() => null);
    if (!seen || seen.revision === revision || save.saving) return undefined;
    ({ text: stored, revision } = seen);
    if (drafts.has(name))
      note(() => `Revision ${now} was deployed meanwhile. Saving puts your text over it.`);
    return undefined;
  }

  // The note says how things are now, also after a later event: `words` is asked again at each.
  function note(words) {
    noted = words;
    fill(said);
    draw();
  }

  function refused(error) {
    note(null);
    fill(said, problem(error));
  }

  function draw() {
    const text = noted?.();
    if (text && said.textContent !== text) fill(said, h("p", { class: "note warn", role: "status" }, text));
  }

  async function deploy() {
    if (save.disabled) return;
    save.saving = save.disabled = true;
    note(null);
    fill(under);
    const text = paper.text();
    try {
      const [other] = otherName(await paper.check(), text);
      if (other) return refused(other);
      await call("PUT", inFunction(name), { body: text, type: "application/yaml" });
      toast(`${name} is being deployed`);
      const last = await watchOperation(under, name, { title: `Deploying ${name}`, signal, inView: true });
      if (last?.state === "done") {
        if (drafts.get(name) === text) drafts.delete(name);
        await reload();
      } else if (last) {
        failed.set(name, text);
        note(notServed);
      }
    } catch (error) {
      if (signal.aborted) return;
      refused(error);
      if (error.diagnostics?.length) paper.show(error.diagnostics);
    } finally {
      save.saving = false;
      buttons();
    }
  }
}
