// Notices of platforms, above the list. A dismissed notice stays hidden for the browser's session.

import { button, h, setChildren, withCode } from "./dom.js";
import { onSession, session } from "./live.js";

const STORAGE_KEY = "fnbuild.read";

/** @returns {string[]} */
const dismissed = () => JSON.parse(sessionStorage.getItem(STORAGE_KEY) ?? "[]");

/**
 * Show the session's notices in `container` until `signal` is aborted.
 *
 * @param {Element} container
 * @param {AbortSignal} signal
 */
export function showNotices(container, signal) {
  signal.addEventListener("abort", onSession(draw));
  draw();

  function draw() {
    const hidden = dismissed();
    const texts = session.platforms.flatMap(({ name, notices = [] }) =>
      notices.map((text) => `${name}: ${text}`),
    );
    setChildren(container, texts.filter((text) => !hidden.includes(text)).map(banner));
  }

  /** @param {string} text */
  function banner(text) {
    const attributes = { class: "quiet small", "aria-label": `Dismiss: ${text}` };
    const dismissButton = button("Dismiss", () => dismiss(text), attributes);
    return h("p", { class: "note warn notice" }, h("span", {}, withCode(text)), dismissButton);
  }

  /** @param {string} text */
  function dismiss(text) {
    sessionStorage.setItem(STORAGE_KEY, JSON.stringify([...dismissed(), text]));
    draw();
  }
}
