// Input events of the playground: files that are dropped or pasted, and keys.

import { droppedFiles } from "./archive.js";

/** @typedef {import("./controls.js").Controls} Controls */
/** @typedef {import("./playground.js").Playground} Playground */

/**
 * Listen for files that are dropped or pasted anywhere on the page, and for keys, until the returned
 * controller aborts.
 *
 * @param {Playground} playground
 * @param {Controls} controls
 */
export function listen(playground, controls) {
  const controller = new AbortController();
  const { signal } = controller;
  const { stageArea } = controls;
  const options = { signal, capture: true };
  /** @param {DragEvent} event */
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener(
    "dragover",
    (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      stageArea.classList.add("drag-over");
    },
    options,
  );
  addEventListener(
    "dragleave",
    (event) => event.relatedTarget ?? stageArea.classList.remove("drag-over"),
    options,
  );
  addEventListener("drop", (event) => hasFiles(event) && onDrop(event), options);
  addEventListener("paste", onPaste, { signal });
  addEventListener("keydown", onKey, { signal });
  return controller;

  /** @param {DragEvent} event */
  async function onDrop(event) {
    event.preventDefault();
    stageArea.classList.remove("drag-over");
    try {
      const { files } = await droppedFiles(/** @type {DataTransfer} */ (event.dataTransfer));
      await playground.openFiles(files.map(({ file }) => file));
    } catch (error) {
      playground.showError(error);
    }
  }

  /** @param {ClipboardEvent} event */
  function onPaste(event) {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    playground.openFiles(files);
  }

  /** @param {KeyboardEvent} event */
  function onKey(event) {
    const target = /** @type {Element} */ (event.target);
    const isTyping = target.matches?.("input:not([type=range]), textarea, select");
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping || document.querySelector("dialog[open]"))
      return;
    const tool = controls.availableTools().find((candidate) => candidate.key === event.key);
    /** @type {Record<string, () => unknown>} */
    const actions = {
      Backspace: () => playground.undo(),
      ",": () => playground.showFrame(playground.index - 1),
      ".": () => playground.nextFrame(),
      p: () => playground.play(),
    };
    const closesPolygon =
      event.key === "Enter" && playground.tool === "polygon" && event.target === controls.canvas;
    if (tool) playground.useTool(tool.tool);
    else if (playground.source && actions[event.key]) actions[event.key]();
    else if (closesPolygon) playground.trackPolygon(playground.prompt.closePolygon());
    else return;
    event.preventDefault();
  }
}
