// Pictures that are dropped or pasted anywhere on the page, and the playground's keys.

import { filesOf } from "./pictures.js";

/** Hear of them until what this returns is aborted. */
export function hear(playground, controls) {
  const stop = new AbortController();
  const { signal } = stop;
  const { area } = controls;
  const drops = { signal, capture: true };
  const brings = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener(
    "dragover",
    (event) => {
      if (!brings(event)) return;
      event.preventDefault();
      area.classList.add("over");
    },
    drops,
  );
  addEventListener("dragleave", (event) => event.relatedTarget ?? area.classList.remove("over"), drops);
  addEventListener("drop", (event) => brings(event) && dropped(event), drops);
  addEventListener("paste", pasted, { signal });
  addEventListener("keydown", pressed, { signal });
  return stop;

  async function dropped(event) {
    event.preventDefault();
    area.classList.remove("over");
    try {
      await playground.open(await filesOf(event.dataTransfer));
    } catch (error) {
      playground.fail(error);
    }
  }

  function pasted(event) {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    playground.open(files);
  }

  function pressed(event) {
    const writing = event.target.matches?.("input:not([type=range]), textarea, select");
    if (event.ctrlKey || event.metaKey || event.altKey || writing || document.querySelector("dialog[open]"))
      return;
    const tool = controls.tools().find((one) => one.key === event.key);
    const acts = {
      Backspace: () => playground.undo(),
      ",": () => playground.go(playground.index - 1),
      ".": () => playground.forward(),
      p: () => playground.play(),
    };
    const closes = event.key === "Enter" && playground.tool === "polygon" && event.target === controls.canvas;
    if (tool) playground.useTool(tool.tool);
    else if (playground.source && acts[event.key]) acts[event.key]();
    else if (closes) playground.trackPolygon(playground.prompt.closed());
    else return;
    event.preventDefault();
  }
}
