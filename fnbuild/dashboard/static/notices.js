// What is wrong with platforms, above the list. Who has read it puts it away until the browser ends.

import { fill, h, prose } from "./dom.js";
import { onSession, session } from "./live.js";

const KEPT = "fnbuild.read";

const read = () => JSON.parse(sessionStorage.getItem(KEPT) ?? "[]");

/** Keep the notices in `place` as the session has them, until `signal`. */
export function showNotices(place, signal) {
  signal.addEventListener("abort", onSession(draw));
  draw();

  function draw() {
    const texts = session.platforms.flatMap(({ name, notices = [] }) =>
      notices.map((text) => `${name}: ${text}`),
    );
    const away = read();
    fill(place, texts.filter((one) => !away.includes(one)).map(banner));
  }

  function banner(text) {
    return h(
      "p",
      { class: "note warn notice" },
      h("span", {}, prose(text)),
      h(
        "button",
        {
          type: "button",
          class: "quiet small",
          "aria-label": `Dismiss: ${text}`,
          onclick: () => putAway(text),
        },
        "Dismiss",
      ),
    );
  }

  function putAway(text) {
    sessionStorage.setItem(KEPT, JSON.stringify([...read(), text]));
    draw();
  }
}
