// Dialogs: confirmations, the list of keys; and short messages at the edge of the page.

import { button, elementById, h } from "./dom.js";

/**
 * Show a modal dialog and return the value with which it is closed, "" if it is dismissed.
 *
 * @param {HTMLDialogElement} dialog
 * @returns {Promise<string>}
 */
export function showDialog(dialog) {
  const previousFocus = /** @type {HTMLElement | null} */ (document.activeElement);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      if (previousFocus?.isConnected) previousFocus.focus();
      resolve(dialog.returnValue);
    });
  });
}

/**
 * Return a dialog with a title.
 *
 * @param {string} title
 * @param {...Child} children
 */
export function createDialog(title, ...children) {
  const titleId = "dialog-title";
  return h("dialog", { "aria-labelledby": titleId }, h("h2", { id: titleId }, title), ...children);
}

/**
 * Return true if the user confirms an action. `danger` marks one that cannot be undone.
 *
 * @param {string} title
 * @param {string | string[]} text
 * @param {{confirmLabel?: string, danger?: boolean}} [options]
 */
export async function confirmAction(title, text, { confirmLabel = "Continue", danger = false } = {}) {
  const dialog = createDialog(
    title,
    [text].flat().map((line) => h("p", {}, line)),
    h(
      "p",
      { class: "actions" },
      button("Cancel", () => dialog.close(""), { autofocus: danger }),
      button(confirmLabel, () => dialog.close("yes"), {
        class: danger ? "danger" : "primary",
        autofocus: !danger,
      }),
    ),
  );
  return (await showDialog(dialog)) === "yes";
}

const KEYS = [
  ["/", "filter the list"],
  ["n", "deploy a function"],
  ["g", "go to the functions"],
  ["?", "show the keys"],
  ["Esc", "close a dialog, clear a filter"],
  ["F8, Shift+F8", "next and previous finding in the editor"],
  ["Ctrl+S", "save in the editor"],
];

/** Show the keys that work everywhere. */
export function showKeys() {
  const items = KEYS.map(([key, description]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, description)]);
  const dialog = createDialog(
    "Keys",
    h("dl", { class: "keys" }, items),
    h(
      "p",
      { class: "actions" },
      button("Close", () => dialog.close(""), { autofocus: true }),
    ),
  );
  return showDialog(dialog);
}

/**
 * Show a short message at the edge of the page for some seconds; screen readers announce it.
 *
 * @param {string} text
 */
export function toast(text) {
  const note = h("div", { class: "toast good" }, text);
  elementById("toasts", HTMLElement).append(note);
  setTimeout(() => note.remove(), 6000);
}
