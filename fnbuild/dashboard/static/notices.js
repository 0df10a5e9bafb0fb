// What is wrong with platforms, above the list. Who has read it puts it away until the browser ends.

import { setChildren, h, withCode } from "./dom.js";
import { onSession, session } from "./live.js";

const STORAGE_KEY = "fnbuild.read";

const dismissed = () => JSON.parse(sessionStorage.getItem(STORAGE_KEY) ?? "[]");

/** Keep the notices in `place` as the session has them, until `signal`. */
export function showNotices(container, signal) {
  signal.addEventListener("abort", onSession(draw));
  draw();

  function draw() {
    const texts = session.platforms.flatMap(({ name, notices = [] }) =>
      notices.map((text) => `${name}: ${text}`),
    );
    const hidden = dismissed();
    setChildren(container, texts.filter((text) => !hidden.includes(text)).map(banner));
  }

  function banner(text) {
    return h(
      "p",
      { class: "note warn notice" },
      h("span", {}, withCode(text)),
      h(
        "button",
        {
          type: "button",
          class: "quiet small",
          "aria-label": `Dismiss: ${text}`,
          onclick: () => dismiss(text),
        },
        "Dismiss",
      ),
    );
  }

  function dismiss(text) {
    sessionStorage.setItem(STORAGE_KEY, JSON.stringify([...dismissed(), text]));
    draw();
  }
}
