// Signing in and out: the token that allows more.

import { call } from "./api.js";
import { showDialog, toast } from "./dialogs.js";
import { setChildren, h } from "./dom.js";
import { connect, loadSession, onSession, session } from "./live.js";
import { errorBox } from "./states.js";

async function signIn(token) {
  await call("POST", "/api/session", { json: { token }, ask: false });
  await loadSession();
  connect();
}

let linkError = null; // why a link did not sign in

/** Sign in by the code of a link; where that fails, the view `#/session` says so. */
export async function signInByLink(code) {
  try {
    await signIn(code);
    toast("Signed in");
  } catch (error) {
    await loadSession().catch(() => {}); // the page says itself that the dashboard is gone
    if (session.role === "write") return; // by the same link, before
    linkError = { message: "This link does not sign in", hint: error.hint || error.message };
    location.hash = "#/session";
  }
}

async function signOut() {
  await call("DELETE", "/api/session");
  await loadSession();
  connect();
}

let pendingDialog = null;

/** Ask for the token in a dialog; whether one was given that the dashboard took. */
export function askForToken() {
  pendingDialog ??= showTokenDialog().finally(() => (pendingDialog = null));
  return pendingDialog;
}

async function showTokenDialog() {
  const dialog = h("dialog", { class: "ask", "aria-labelledby": "dialog-title" });
  setChildren(
    dialog,
    h("h2", { id: "dialog-title" }, "This change needs the token"),
    tokenForm({
      onDone: () => dialog.close("yes"),
      cancel: h("button", { type: "button", onclick: () => dialog.close("") }, "Cancel"),
    }),
  );
  return (await showDialog(dialog)) === "yes";
}

function tokenForm({ onDone, cancel = null }) {
  const input = h("input", {
    type: "password",
    autocomplete: "current-password",
    autofocus: true,
    required: true,
    spellcheck: "false",
  });
  const feedback = h("div");
  const submitButton = h("button", { class: "primary" }, "Sign in");
  return h(
    "form",
    { onsubmit: submit },
    h(
      "p",
      { class: "quiet-text" },
      "It was shown once, when the dashboard first started. ",
      h("code", {}, "fnbuild dashboard token --new"),
      " makes another one.",
    ),
    // For keepers of passwords, which want to know whose it is.
    h("input", { type: "text", autocomplete: "username", value: "fnbuild", hidden: true }),
    h("label", { class: "field" }, "Token", input),
    feedback,
    h("p", { class: "actions" }, cancel, submitButton),
  );
  async function submit(event) {
    event.preventDefault();
    submitButton.disabled = true;
    try {
      await signIn(input.value.trim());
      onDone();
    } catch (error) {
      setChildren(feedback, errorBox({ message: error.message, hint: error.hint }));
      input.select();
    }
    submitButton.disabled = false;
  }
}

/** The view `#/session`: who one is, signing in and out. */
export async function show(root, _params, { title, signal, cameFrom }) {
  title("Sign in");
  const stop = onSession(draw);
  signal.addEventListener("abort", () => (stop(), (linkError = null)));
  draw();
  function draw() {
    if (session.role === "write") return setChildren(root, signedIn());
    setChildren(
      root,
      h("h1", {}, "Sign in"),
      linkError && errorBox(linkError),
      h(
        "section",
        { class: "card narrow" },
        h(
          "p",
          {},
          session.role === "read"
            ? "Here you can look at functions and call them. Changing them needs the token."
            : "Looking at functions needs a token here.",
        ),
        tokenForm({ onDone: onSignedIn }),
      ),
    );
  }
  function signedIn() {
    return [
      h("h1", {}, "Signed in"),
      h(
        "section",
        { class: "card narrow" },
        h("p", {}, "This browser may change functions until you sign out or the token is renewed."),
        h("p", { class: "actions" }, h("button", { type: "button", onclick: onSignOut }, "Sign out")),
      ),
    ];
  }
  function onSignedIn() {
    toast("Signed in");
    location.hash = cameFrom || "#/";
  }
  async function onSignOut() {
    try {
      await signOut();
      toast("Signed out");
    } catch (error) {
      setChildren(root, errorBox(error));
    }
  }
}
