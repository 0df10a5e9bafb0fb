// The findings about replies that the dashboard has relayed and checked.

import { h, setChildren, withCode } from "./dom.js";

/**
 * @typedef {object} ReplyFinding
 * @property {string} rule
 * @property {"error" | "warning"} severity
 * @property {string} path
 * @property {string} message
 * @property {string} effect
 * @property {string} remedy
 * @property {number} replies
 */

/**
 * Show the findings in a card, which is hidden if there are none.
 *
 * @param {HTMLElement} card
 * @param {{checked: number, faulty: number, findings: ReplyFinding[]}} watched
 */
export function drawFindings(card, { checked, faulty, findings }) {
  card.hidden = findings.length === 0;
  setChildren(
    card,
    h("h2", { id: "reply-findings" }, "Replies that CVAT misreads"),
    h("p", { class: "muted" }, `${faulty} of ${checked} sampled replies of this revision`),
    h("ul", { class: "item-list" }, findings.map(item)),
  );
}

/** @param {ReplyFinding} finding */
function item({ rule, severity, path, message, effect, remedy, replies }) {
  const place = path ? `\`${path}\`: ` : "";
  return h(
    "li",
    {},
    h("strong", {}, `${severity}: ${rule}`),
    ` in ${replies} of them. `,
    withCode(`${place}${message}. In CVAT: ${effect} Remedy: ${remedy}`),
  );
}
