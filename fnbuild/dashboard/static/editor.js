// A text area for function.yaml with line numbers and with findings at their lines.

import { call } from "./api.js";
import { button, h, setChildren, withCode } from "./dom.js";

const PAUSE_MS = 300;
/** @type {Record<string, string>} */
const SYMBOLS = { error: "✕", warning: "▲", note: "●" };

/**
 * @typedef {object} EditorOptions
 * @property {string} label
 * @property {string} [text]
 * @property {string} [name] the function whose code has the handler
 * @property {AbortSignal} signal
 * @property {boolean} [readonly]
 * @property {(answer: any, text: string) => Diagnostic[]} [extraFindings]
 * @property {(text: string) => void} [onChange]
 * @property {() => void} [onSave]
 */

/**
 * Create an editor for the configuration of the function `name`. `onChange(text)` is called at every
 * change, `onSave()` at Ctrl+S. `extraFindings(answer, text)` returns findings in addition to those of the
 * dashboard. `show` shows other findings, such as those of a refused save; `check` asks the
 * dashboard for findings and returns its answer; `goToError` selects the first error.
 *
 * @param {EditorOptions} options
 */
export function createEditor({
  label,
  text = "",
  name = "",
  signal,
  readonly = false,
  extraFindings = () => [],
  onChange = () => {},
  onSave = () => {},
}) {
  const textarea = h("textarea", {
    class: "source",
    wrap: "off",
    spellcheck: "false",
    autocapitalize: "off",
    autocomplete: "off",
    readonly,
    "aria-label": label,
    "aria-describedby": "editor-position",
    oninput: onInput,
    onscroll: syncScroll,
    onkeydown: onKey,
    onkeyup: showPosition,
    onclick: showPosition,
  });
  const numbers = h("div", { class: "numbers", "aria-hidden": "true" });
  const highlights = h("div", { class: "line-highlights", "aria-hidden": "true" });
  const status = h("p", { class: "position", id: "editor-position", role: "status" });
  const list = h("ul", { class: "findings", "aria-label": "Findings" });
  const node = h(
    "div",
    { class: "editor" },
    h(
      "div",
      { class: "editor-frame" },
      h("div", { class: "gutter" }, numbers),
      h("div", { class: "editor-text" }, highlights, textarea),
    ),
    status,
    list,
  );
  const query = name ? `?function=${encodeURIComponent(name)}` : "";
  /** @type {PlacedDiagnostic[]} */
  let findings = [];
  let timer = 0;
  let checkCount = 0;
  write(text);
  signal.addEventListener("abort", () => clearTimeout(timer));
  if (!readonly) check();
  return { node, text: () => textarea.value, write, show, check, goToError };

  /** @param {string} value */
  function write(value) {
    textarea.value = value;
    textarea.setSelectionRange(0, 0);
    drawNumbers();
  }

  function onInput() {
    drawNumbers();
    onChange(textarea.value);
    clearTimeout(timer);
    timer = setTimeout(check, PAUSE_MS);
  }

  async function check() {
    clearTimeout(timer);
    const thisCheck = ++checkCount;
    try {
      const answer = await call("POST", `/api/validations${query}`, {
        body: textarea.value,
        type: "application/yaml",
        signal,
        askForToken: false,
      });
      if (thisCheck === checkCount)
        show([...(answer.diagnostics ?? []), ...extraFindings(answer, textarea.value)]);
      return answer;
    } catch (error) {
      if (!signal.aborted && thisCheck === checkCount) status.textContent = `Not checked: ${error.message}`;
      return {};
    }
  }

  /** @param {Diagnostic[]} allFindings */
  function show(allFindings) {
    findings = allFindings
      .flatMap((finding) => (finding.line ? [{ ...finding, line: finding.line }] : []))
      .sort((a, b) => a.line - b.line || (a.column ?? 0) - (b.column ?? 0));
    const fileFindings = allFindings.filter((finding) => !finding.line);
    markLines();
    const focused = list.contains(document.activeElement);
    setChildren(
      list,
      findings.map((finding) =>
        h(
          "li",
          {},
          button(describe(finding), () => goTo(finding), { class: `finding ${finding.severity}` }),
        ),
      ),
      fileFindings.map((finding) => h("li", { class: `finding ${finding.severity}` }, describe(finding))),
    );
    if (focused) textarea.focus();
    showPosition();
  }

  /** @param {Diagnostic} finding */
  function describe(finding) {
    return [
      h("span", { class: "shape", "aria-hidden": "true" }, SYMBOLS[finding.severity] ?? "●"),
      h(
        "span",
        {},
        h("strong", {}, finding.line ? `Line ${finding.line}: ` : "", withCode(finding.message)),
        finding.hint && h("span", { class: "hint" }, " → ", withCode(finding.hint)),
        h("span", { class: "muted" }, ` ${finding.severity} ${finding.rule ?? ""}`),
      ),
    ];
  }

  function drawNumbers() {
    const lines = textarea.value.split("\n").length;
    while (numbers.childElementCount > lines) numbers.lastChild?.remove();
    while (numbers.childElementCount < lines)
      numbers.append(h("div", {}, String(numbers.childElementCount + 1)));
    markLines();
  }

  function markLines() {
    const severities = new Map();
    for (const finding of findings)
      if (severities.get(finding.line) !== "error") severities.set(finding.line, finding.severity);
    const lines = /** @type {HTMLElement[]} */ ([...numbers.children]);
    lines.forEach((line, index) => {
      const severity = severities.get(index + 1) ?? "";
      if (line.className === severity) return;
      line.className = severity;
      line.dataset.shape = SYMBOLS[severity] ?? "";
    });
    setChildren(
      highlights,
      [...severities].map(([line, severity]) => {
        const highlight = h("div", { class: `line-highlight ${severity}`, "data-line": line });
        highlight.style.top = `calc(${line - 1} * var(--line-height))`;
        return highlight;
      }),
    );
  }

  function syncScroll() {
    numbers.style.transform = `translateY(${-textarea.scrollTop}px)`;
    highlights.style.transform = `translateY(${-textarea.scrollTop}px)`;
  }

  function currentLine() {
    return textarea.value.slice(0, textarea.selectionStart).split("\n").length;
  }

  function showPosition() {
    const line = currentLine();
    const findingsHere = findings.filter(
      (finding) => finding.line <= line && line <= (finding.endLine ?? finding.line),
    );
    const findingCount = findings.length;
    const summary =
      findingCount === 0
        ? "no findings"
        : findingCount === 1
          ? "1 finding, F8 goes there"
          : `${findingCount} findings, F8 goes to the next`;
    const text = findingsHere.length
      ? findingsHere.map((finding) => `Line ${line}: ${finding.message}`).join(". ")
      : `Line ${line} · ${summary}`;
    if (status.textContent !== text) status.textContent = text;
  }

  function goToError() {
    const error = findings.find((finding) => finding.severity === "error");
    if (error) goTo(error);
    else textarea.focus();
  }

  /** @param {PlacedDiagnostic} finding */
  function goTo(finding) {
    const { column = 1, endColumn = 0 } = finding;
    const lines = textarea.value.split("\n");
    const start = lines.slice(0, finding.line - 1).reduce((sum, line) => sum + line.length + 1, 0);
    const startOffset = start + column - 1;
    const endOffset =
      finding.endLine === finding.line && endColumn > column
        ? start + endColumn - 1
        : start + (lines[finding.line - 1]?.length ?? 0);
    textarea.focus();
    textarea.setSelectionRange(startOffset, Math.max(startOffset, endOffset));
    const height = textarea.scrollHeight / lines.length;
    textarea.scrollTop = Math.max(0, (finding.line - 1) * height - textarea.clientHeight / 2);
    showPosition();
  }

  /** @param {KeyboardEvent} event */
  function onKey(event) {
    if (event.key === "F8") {
      event.preventDefault();
      goToNext(event.shiftKey ? -1 : 1);
    } else if (event.key === "s" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      onSave();
    } else if (event.key === "Enter" && !event.ctrlKey && !readonly) indent(event);
  }

  /** @param {number} direction */
  function goToNext(direction) {
    if (!findings.length) return;
    const line = currentLine();
    const target =
      direction > 0
        ? (findings.find((finding) => finding.line > line) ?? findings[0])
        : (findings.findLast((finding) => finding.line < line) ?? findings[findings.length - 1]);
    goTo(target);
  }

  /**
   * Indent a new line like the previous one. `insertText` keeps the browser's undo history.
   *
   * @param {KeyboardEvent} event
   */
  function indent(event) {
    const textBefore = textarea.value.slice(0, textarea.selectionStart);
    const [indentation] = textBefore.slice(textBefore.lastIndexOf("\n") + 1).match(/^ */) ?? [""];
    if (!indentation) return;
    event.preventDefault();
    document.execCommand("insertText", false, `\n${indentation}`);
  }
}
