// Pictures that are dropped or pasted anywhere on the page, and the playground's keys.

import { filesInTransfer } from "./pictures.js";

/** Hear of them until what this returns is aborted. */
export function listen(playground, controls) {
  const controller = new AbortController();
  const { signal } = controller;
  const { stageArea: area } = controls;
  const options = { signal, capture: true };
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener(
    "dragover",
    (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      area.classList.add("over");
    },
    options,
  );
  addEventListener("dragleave", (event) => event.relatedTarget ?? area.classList.remove("over"), options);
  addEventListener("drop", (event) => hasFiles(event) && onDrop(event), options);
  addEventListener("paste", onPaste, { signal });
  addEventListener("keydown", onKey, { signal });
  return controller;

  async function onDrop(event) {
    event.preventDefault();
    area.classList.remove("over");
    try {
      await playground.openFiles(await filesInTransfer(event.dataTransfer));
    } catch (error) {
      playground.showError(error);
    }
  }

  function onPaste(event) {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    playground.openFiles(files);
  }

  function onKey(event) {
    const isTyping = event.target.matches?.("input:not([type=range]), textarea, select");
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping || document.querySelector("dialog[open]"))
      return;
    const tool = controls.availableTools().find((candidate) => candidate.key === event.key);
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
