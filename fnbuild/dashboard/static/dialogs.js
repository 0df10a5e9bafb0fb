// Asking and telling: confirmations, the list of keys, short notes.

import { setChildren, h } from "./dom.js";

/** Show a dialog and wait for the value it is closed with; "" when it is dismissed. */
export function showDialog(dialog) {
  const previousFocus = document.activeElement;
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

/** Whether somebody agrees. `danger` paints the button as what cannot be taken back. */
export async function confirmAction(title, text, { confirmLabel = "Continue", danger = false } = {}) {
  const dialog = h("dialog", { "aria-labelledby": "dialog-title", class: "ask" });
  setChildren(
    dialog,
    h("h2", { id: "dialog-title" }, title),
    [text].flat().map((line) => h("p", {}, line)),
    h(
      "p",
      { class: "actions" },
      h("button", { type: "button", autofocus: danger, onclick: () => dialog.close("") }, "Cancel"),
      h(
        "button",
        {
          type: "button",
          class: danger ? "danger" : "primary",
          autofocus: !danger,
          onclick: () => dialog.close("yes"),
        },
        confirmLabel,
      ),
    ),
  );
  return (await showDialog(dialog)) === "yes";
}

const KEYS = [
  ["/", "filter what is shown"],
  ["n", "deploy a function"],
  ["g", "back to the functions"],
  ["?", "this list"],
  ["Esc", "close a dialog, clear a filter"],
  ["F8, Shift+F8", "next and previous finding in the editor"],
  ["Ctrl+S", "save in the editor"],
];

/** The keys that work everywhere. */
export function showKeys() {
  const dialog = h("dialog", { "aria-labelledby": "dialog-title", class: "ask" });
  setChildren(
    dialog,
    h("h2", { id: "dialog-title" }, "Keys"),
    h(
      "dl",
      { class: "keys" },
      KEYS.map(([key, description]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, description)]),
    ),
    h(
      "p",
      { class: "actions" },
      h("button", { type: "button", autofocus: true, onclick: () => dialog.close("") }, "Close"),
    ),
  );
  return showDialog(dialog);
}

/** A short note at the edge of the page, which is read aloud too. */
export function toast(text, kind = "good") {
  const note = h("div", { class: `toast ${kind}` }, text);
  document.getElementById("toasts").append(note);
  setTimeout(() => note.remove(), 6000);
}
