// A text area for function.yaml: numbered lines, and the reader's findings at theirs.

import { call } from "./api.js";
import { fill, h, prose } from "./dom.js";

const PAUSE_MS = 300;
const SHAPES = { error: "✕", warning: "▲", note: "●" };

/**
 * Make an editor for the configuration of the function `name`.
 *
 * `onchange(text)` is called at every change, `onsave()` at Ctrl+S. `more(answer, text)` returns
 * findings in addition to those of the dashboard. A `readonly` editor takes no input.
 *
 * Returns `{node, text(), write(text), show(findings), check(), goToError()}`: `show` shows findings
 * from elsewhere, such as those of a refused save; `check` asks the dashboard for findings and
 * returns its answer; `goToError` selects the first error.
 */
export function editor({
  label,
  text = "",
  name = "",
  signal,
  readonly = false,
  more = () => [],
  onchange = () => {},
  onsave = () => {},
}) {
  const area = h("textarea", {
    class: "source",
    wrap: "off",
    spellcheck: "false",
    autocapitalize: "off",
    autocomplete: "off",
    readonly,
    "aria-label": label,
    "aria-describedby": "editor-here",
    oninput: typed,
    onscroll: align,
    onkeydown: onKey,
    onkeyup: tellHere,
    onclick: tellHere,
  });
  const numbers = h("div", { class: "numbers", "aria-hidden": "true" });
  const bands = h("div", { class: "bands", "aria-hidden": "true" });
  const here = h("p", { class: "here", id: "editor-here", role: "status" });
  const list = h("ul", { class: "findings", "aria-label": "Findings" });
  const node = h(
    "div",
    { class: "editor" },
    h(
      "div",
      { class: "paper" },
      h("div", { class: "gutter" }, numbers),
      h("div", { class: "sheet" }, bands, area),
    ),
    here,
    list,
  );
  // The handler is looked for in the code of the function.
  const of = name ? `?function=${encodeURIComponent(name)}` : "";
  let findings = [];
  let timer = 0;
  let asked = 0;
  write(text);
  signal.addEventListener("abort", () => clearTimeout(timer));
  if (!readonly) check();
  return { node, text: () => area.value, write, show, check, goToError };

  function write(value) {
    area.value = value;
    area.setSelectionRange(0, 0);
    number();
  }

  function typed() {
    number();
    onchange(area.value);
    clearTimeout(timer);
    timer = setTimeout(check, PAUSE_MS);
  }

  async function check() {
    clearTimeout(timer);
    const mine = ++asked;
    try {
      const answer = await call("POST", `/api/validations${of}`, {
        body: area.value,
        type: "application/yaml",
        signal,
        ask: false,
      });
      if (mine === asked) show([...(answer.diagnostics ?? []), ...more(answer, area.value)]);
      return answer;
    } catch (error) {
      if (!signal.aborted && mine === asked) here.textContent = `Not checked: ${error.message}`;
      return {};
    }
  }

  function show(found) {
    findings = found.filter((one) => one.line).sort((a, b) => a.line - b.line || a.column - b.column);
    const placeless = found.filter((one) => !one.line);
    mark();
    const focused = list.contains(document.activeElement);
    fill(
      list,
      findings.map((one) =>
        h(
          "li",
          {},
          h(
            "button",
            { type: "button", class: `finding ${one.severity}`, onclick: () => goTo(one) },
            words(one),
          ),
        ),
      ),
      placeless.map((one) => h("li", { class: `finding ${one.severity}` }, words(one))),
    );
    if (focused) area.focus();
    tellHere();
  }

  function words(one) {
    return [
      h("span", { class: "shape", "aria-hidden": "true" }, SHAPES[one.severity] ?? "●"),
      h(
        "span",
        {},
        h("strong", {}, one.line ? `Line ${one.line}: ` : "", prose(one.message)),
        one.hint && h("span", { class: "hint" }, " → ", prose(one.hint)),
        h("span", { class: "quiet-text" }, ` ${one.severity} ${one.rule ?? ""}`),
      ),
    ];
  }

  function number() {
    const lines = area.value.split("\n").length;
    while (numbers.childElementCount > lines) numbers.lastChild.remove();
    while (numbers.childElementCount < lines)
      numbers.append(h("div", {}, String(numbers.childElementCount + 1)));
    mark();
  }

  function mark() {
    const worst = new Map();
    for (const one of findings) if (worst.get(one.line) !== "error") worst.set(one.line, one.severity);
    [...numbers.children].forEach((line, index) => {
      const severity = worst.get(index + 1) ?? "";
      if (line.className === severity) return;
      line.className = severity;
      line.dataset.shape = SHAPES[severity] ?? "";
    });
    fill(
      bands,
      [...worst].map(([line, severity]) => {
        const band = h("div", { class: `band ${severity}`, "data-line": line });
        band.style.top = `calc(${line - 1} * var(--line-height))`;
        return band;
      }),
    );
  }

  function align() {
    numbers.style.transform = `translateY(${-area.scrollTop}px)`;
    bands.style.transform = `translateY(${-area.scrollTop}px)`;
  }

  function lineHere() {
    return area.value.slice(0, area.selectionStart).split("\n").length;
  }

  function tellHere() {
    const line = lineHere();
    const mine = findings.filter((one) => one.line <= line && line <= (one.endLine ?? one.line));
    const count = findings.length;
    const total =
      count === 0
        ? "no findings"
        : count === 1
          ? "1 finding, F8 goes there"
          : `${count} findings, F8 goes to the next`;
    const text = mine.length
      ? mine.map((one) => `Line ${line}: ${one.message}`).join(". ")
      : `Line ${line} · ${total}`;
    if (here.textContent !== text) here.textContent = text;
  }

  function goToError() {
    const error = findings.find((one) => one.severity === "error");
    if (error) goTo(error);
    else area.focus();
  }

  function goTo(one) {
    const lines = area.value.split("\n");
    const start = lines.slice(0, one.line - 1).reduce((sum, line) => sum + line.length + 1, 0);
    const from = start + Math.max(0, (one.column ?? 1) - 1);
    const to =
      one.endLine === one.line && one.endColumn > one.column
        ? start + one.endColumn - 1
        : start + (lines[one.line - 1]?.length ?? 0);
    area.focus();
    area.setSelectionRange(from, Math.max(from, to));
    const height = area.scrollHeight / lines.length;
    area.scrollTop = Math.max(0, (one.line - 1) * height - area.clientHeight / 2);
    tellHere();
  }

  function onKey(event) {
    if (event.key === "F8") {
      event.preventDefault();
      step(event.shiftKey ? -1 : 1);
    } else if (event.key === "s" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      onsave();
    } else if (event.key === "Enter" && !event.ctrlKey && !readonly) indent(event);
  }

  function step(direction) {
    if (!findings.length) return;
    const line = lineHere();
    const next =
      direction > 0
        ? (findings.find((one) => one.line > line) ?? findings[0])
        : (findings.findLast((one) => one.line < line) ?? findings[findings.length - 1]);
    goTo(next);
  }

  // A new line begins where the one above does; `insertText` keeps the browser's undo.
  function indent(event) {
    const before = area.value.slice(0, area.selectionStart);
    const margin = /^ */.exec(before.slice(before.lastIndexOf("\n") + 1))[0];
    if (!margin) return;
    event.preventDefault();
    document.execCommand("insertText", false, `\n${margin}`);
  }
}
