// The tab `#/functions/NAME/revisions`: what was deployed before, what differs, the way back.

import { call, functionPath } from "./api.js";
import { confirmAction } from "./dialogs.js";
import { setChildren, h, append, timeElement } from "./dom.js";
import { whenConnected } from "./live.js";
import { isServing, watchOperation } from "./operation.js";
import { firstLine, pill, errorBox } from "./states.js";

export async function show(root, { name }, { signal, onChange, current }) {
  const output = h("div");
  const list = h("div");
  const diffCard = h("section", { class: "card", "aria-labelledby": "difference", hidden: true });
  append(root, output, list, diffCard);
  let drawnSignature = "";
  await draw();
  onChange(() => signature() !== drawnSignature && draw());

  // What of the function changes the list.
  function signature() {
    const { revision, state, operation } = current()?.status ?? {};
    return [revision, state, operation?.id, operation?.state].join(" ");
  }

  async function draw() {
    drawnSignature = signature();
    try {
      const { revisions } = await call("GET", functionPath(name, "revisions"), { signal });
      setChildren(
        list,
        revisions.length ? table(revisions) : h("p", { class: "empty" }, "Nothing was deployed yet."),
      );
    } catch (error) {
      if (signal.aborted) return;
      setChildren(list, errorBox(error));
      if (error.status === 0) whenConnected(draw, signal);
    }
  }

  function table(revisions) {
    const titles = ["Revision", "State", "Deployed", "Code", "", ""];
    return h(
      "table",
      { class: "rows", role: "table", "aria-label": `Revisions of ${name}` },
      h(
        "thead",
        { role: "rowgroup" },
        h(
          "tr",
          { role: "row" },
          titles.map((title) =>
            h(
              "th",
              { role: "columnheader", scope: "col" },
              title || h("span", { class: "unseen" }, "Actions"),
            ),
          ),
        ),
      ),
      h(
        "tbody",
        { role: "rowgroup" },
        revisions.map((revision, index) => row(revision, revisions[index + 1], titles)),
      ),
    );
  }

  function row(revision, previous, titles) {
    const cells = [
      String(revision.number),
      [pill(revision.state), revision.message && h("span", { class: "reason" }, firstLine(revision.message))],
      timeElement(revision.created),
      h(
        "code",
        { title: revision.digest },
        String(revision.digest ?? "")
          .replace("sha256:", "")
          .slice(0, 12),
      ),
      previous &&
        h(
          "button",
          { type: "button", class: "small", onclick: () => compare(previous.number, revision.number) },
          `Compare with ${previous.number}`,
        ),
      revision.state === "superseded" &&
        h("button", { type: "button", class: "small", onclick: () => rollBack(revision) }, "Roll back to it"),
    ];
    return h(
      "tr",
      { role: "row", "data-revision": revision.number },
      cells.map((value, index) =>
        h("td", { role: "cell", "data-label": titles[index] || null }, value || ""),
      ),
    );
  }

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
          ? h("p", { class: "quiet-text" }, "The code of these two is not kept here.")
          : diffSection("Code", diff.code),
      );
      diffCard.querySelector("h2").focus();
    } catch (error) {
      if (!signal.aborted) setChildren(diffCard, errorBox(error));
    }
  }

  async function rollBack({ number }) {
    const question = [
      `What was deployed as revision ${number} is deployed again, as a new revision.`,
      isServing(current()) && "What runs now serves until it is ready.",
    ].filter(Boolean);
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

function diffSection(title, text) {
  if (!text) return h("p", {}, `${title}: no difference.`);
  return h(
    "figure",
    { class: "stack" },
    h("figcaption", {}, title),
    h("pre", { class: "diff", tabindex: "0", "aria-label": title }, text.trimEnd().split("\n").map(diffLine)),
  );
}

function diffLine(text) {
  const kinds = { "+": "added", "-": "removed", "@": "place" };
  const kind = /^(\+\+\+|---)/.test(text) ? "file" : (kinds[text[0]] ?? "");
  return h("span", { class: kind }, `${text}\n`);
}
