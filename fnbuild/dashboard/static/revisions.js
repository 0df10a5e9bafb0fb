// The tab `#/functions/NAME/revisions`: what was deployed before, what differs, the way back.

import { call, inFunction } from "./api.js";
import { confirmed } from "./dialogs.js";
import { fill, h, put, when } from "./dom.js";
import { whenBack } from "./live.js";
import { serves, watchOperation } from "./operation.js";
import { firstLine, pill, problem } from "./states.js";

export async function show(root, { name }, { signal, onChange, current }) {
  const under = h("div");
  const list = h("div");
  const difference = h("section", { class: "card", "aria-labelledby": "difference", hidden: true });
  put(root, under, list, difference);
  let drawn = "";
  await draw();
  onChange(() => mark() !== drawn && draw());

  // What of the function changes the list.
  function mark() {
    const { revision, state, operation } = current()?.status ?? {};
    return [revision, state, operation?.id, operation?.state].join(" ");
  }

  async function draw() {
    drawn = mark();
    try {
      const { revisions } = await call("GET", inFunction(name, "revisions"), { signal });
      fill(
        list,
        revisions.length ? table(revisions) : h("p", { class: "empty" }, "Nothing was deployed yet."),
      );
    } catch (error) {
      if (signal.aborted) return;
      fill(list, problem(error));
      if (error.status === 0) whenBack(draw, signal);
    }
  }

  function table(revisions) {
    const head = ["Revision", "State", "Deployed", "Code", "", ""];
    return h(
      "table",
      { class: "rows", role: "table", "aria-label": `Revisions of ${name}` },
      h(
        "thead",
        { role: "rowgroup" },
        h(
          "tr",
          { role: "row" },
          head.map((one) =>
            h("th", { role: "columnheader", scope: "col" }, one || h("span", { class: "unseen" }, "Actions")),
          ),
        ),
      ),
      h(
        "tbody",
        { role: "rowgroup" },
        revisions.map((one, index) => row(one, revisions[index + 1], head)),
      ),
    );
  }

  function row(one, before, head) {
    const cells = [
      String(one.number),
      [pill(one.state), one.message && h("span", { class: "reason" }, firstLine(one.message))],
      when(one.created),
      h(
        "code",
        { title: one.digest },
        String(one.digest ?? "")
          .replace("sha256:", "")
          .slice(0, 12),
      ),
      before &&
        h(
          "button",
          { type: "button", class: "small", onclick: () => compare(before.number, one.number) },
          `Compare with ${before.number}`,
        ),
      one.state === "superseded" &&
        h("button", { type: "button", class: "small", onclick: () => back(one) }, "Roll back to it"),
    ];
    return h(
      "tr",
      { role: "row", "data-revision": one.number },
      cells.map((value, index) => h("td", { role: "cell", "data-label": head[index] || null }, value || "")),
    );
  }

  async function compare(from, to) {
    difference.hidden = false;
    fill(difference, h("p", { class: "waiting" }, "Comparing…"));
    try {
      const found = await call("GET", inFunction(name, `revisions/${to}/difference?with=${from}`), {
        signal,
      });
      fill(
        difference,
        h("h2", { id: "difference", tabindex: "-1" }, `From revision ${found.from} to ${found.to}`),
        part("Configuration", found.configuration),
        found.code === null
          ? h("p", { class: "quiet-text" }, "The code of these two is not kept here.")
          : part("Code", found.code),
      );
      difference.querySelector("h2").focus();
    } catch (error) {
      if (!signal.aborted) fill(difference, problem(error));
    }
  }

  async function back({ number }) {
    const question = [
      `What was deployed as revision ${number} is deployed again, as a new revision.`,
      serves(current()) && "What runs now serves until it is ready.",
    ].filter(Boolean);
    if (!(await confirmed(`Roll back ${name} to revision ${number}?`, question, { yes: "Roll back" })))
      return;
    try {
      await call("POST", inFunction(name, "rollback"), { json: { revision: number } });
      await watchOperation(under, name, { title: `Rolling back to revision ${number}`, signal });
      if (!signal.aborted) draw();
    } catch (error) {
      if (!signal.aborted) fill(under, problem(error));
    }
  }
}

function part(title, text) {
  if (!text) return h("p", {}, `${title}: no difference.`);
  return h(
    "figure",
    { class: "stack" },
    h("figcaption", {}, title),
    h("pre", { class: "diff", tabindex: "0", "aria-label": title }, text.trimEnd().split("\n").map(line)),
  );
}

function line(text) {
  const kinds = { "+": "added", "-": "removed", "@": "place" };
  const kind = /^(\+\+\+|---)/.test(text) ? "file" : (kinds[text[0]] ?? "");
  return h("span", { class: kind }, `${text}\n`);
}
