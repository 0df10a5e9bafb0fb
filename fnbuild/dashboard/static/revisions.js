// The tab `#/functions/NAME/revisions`: the history of a function, differences, rollback.

import { call, functionPath } from "./api.js";
import { confirmAction } from "./dialogs.js";
import { append, button, h, setChildren, table, timeElement } from "./dom.js";
import { whenConnected } from "./live.js";
import { watchOperation } from "./operation.js";
import { errorBox, firstLine, isServing, pill } from "./states.js";

const COLUMNS = ["Revision", "State", "Deployed", "Code", "", ""];
/** @type {Record<string, string>} */
const LINE_CLASSES = { "+": "added", "-": "removed", "@": "place" };

/**
 * @param {HTMLElement} root
 * @param {Record<string, string>} params
 * @param {TabContext} context
 */
export async function show(root, { name }, { signal, onChange, current }) {
  const output = h("div");
  const list = h("div");
  const diffCard = h("section", { class: "card", "aria-labelledby": "difference", hidden: true });
  append(root, output, list, diffCard);
  let drawnSignature = "";
  await draw();
  onChange(() => signature() !== drawnSignature && draw());

  /** Return the values of the function on which the list depends. */
  function signature() {
    const { revision, state, operation } = current()?.status ?? {};
    return [revision, state, operation?.id, operation?.state].join(" ");
  }

  async function draw() {
    drawnSignature = signature();
    try {
      const { revisions } = await call("GET", functionPath(name, "revisions"), { signal });
      const rows = revisions.map((/** @type {Revision} */ revision, /** @type {number} */ index) =>
        row(revision, revisions[index + 1]),
      );
      const attributes = { class: "rows", "aria-label": `Revisions of ${name}` };
      const none = h("p", { class: "empty" }, "No revisions yet.");
      setChildren(list, rows.length ? table(COLUMNS, rows, attributes) : none);
    } catch (error) {
      if (signal.aborted) return;
      setChildren(list, errorBox(error));
      if (error.status === 0) whenConnected(draw, signal);
    }
  }

  /**
   * @param {Revision} revision
   * @param {Revision | undefined} previous
   */
  function row(revision, previous) {
    const { number, state, message, created, digest = "" } = revision;
    const cells = [
      String(number),
      [pill(state), message ? h("span", { class: "reason" }, firstLine(message)) : null],
      timeElement(created),
      h("code", { title: digest }, digest.replace("sha256:", "").slice(0, 12)),
      previous &&
        button(`Compare with ${previous.number}`, () => compare(previous.number, number), { class: "small" }),
      state === "superseded" && button("Roll back", () => rollBack(revision), { class: "small" }),
    ];
    return h(
      "tr",
      { role: "row", "data-revision": number },
      cells.map((cell, index) => h("td", { role: "cell", "data-label": COLUMNS[index] || null }, cell || "")),
    );
  }

  /**
   * @param {number} from
   * @param {number} to
   */
  async function compare(from, to) {
    diffCard.hidden = false;
    setChildren(diffCard, h("p", { class: "waiting" }, "Comparing…"));
    try {
      const diff = await call("GET", functionPath(name, `revisions/${to}/difference?with=${from}`), {
        signal,
      });
      setChildren(
        diffCard,
        h("h2", { id: "difference", tabindex: "-1" }, `From revision ${diff.from} to ${diff.to}`),
        diffSection("Configuration", diff.configuration),
        diff.code === null
          ? h("p", { class: "muted" }, "The code of these revisions is not available here.")
          : diffSection("Code", diff.code),
      );
      diffCard.querySelector("h2")?.focus();
    } catch (error) {
      if (!signal.aborted) setChildren(diffCard, errorBox(error));
    }
  }

  /** @param {Revision} revision */
  async function rollBack({ number }) {
    const question = [`Revision ${number} is deployed again as a new revision.`];
    if (isServing(current())) question.push("The current revision serves until the new one is ready.");
    if (
      !(await confirmAction(`Roll back ${name} to revision ${number}?`, question, {
        confirmLabel: "Roll back",
      }))
    )
      return;
    try {
      await call("POST", functionPath(name, "rollback"), { json: { revision: number } });
      await watchOperation(output, name, { title: `Rolling back to revision ${number}`, signal });
      if (!signal.aborted) draw();
    } catch (error) {
      if (!signal.aborted) setChildren(output, errorBox(error));
    }
  }
}

/**
 * @param {string} title
 * @param {string} text
 */
function diffSection(title, text) {
  if (!text) return h("p", {}, `${title}: no difference.`);
  return h(
    "figure",
    { class: "stack" },
    h("figcaption", {}, title),
    h("pre", { class: "diff", tabindex: "0", "aria-label": title }, text.trimEnd().split("\n").map(diffLine)),
  );
}

/** @param {string} text */
function diffLine(text) {
  const kind = /^(\+\+\+|---)/.test(text) ? "file" : (LINE_CLASSES[text[0]] ?? "");
  return h("span", { class: kind }, `${text}\n`);
}
