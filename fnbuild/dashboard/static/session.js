// Signing in and out with the token, which permits changes.

import { call } from "./api.js";
import { createDialog, showDialog, toast } from "./dialogs.js";
import { button, h, setChildren } from "./dom.js";
import { connect, loadSession, onSession, session } from "./live.js";
import { errorBox } from "./states.js";

/** @param {string} token */
async function signIn(token) {
  await call("POST", "/api/session", { json: { token }, askForToken: false });
  await loadSession();
  connect();
}

/** @type {{message: string, hint: string} | null} */
let linkError = null;

/**
 * Sign in with the code of a link; if that fails, the view `#/session` shows why.
 *
 * @param {string} code
 */
export async function signInByLink(code) {
  try {
    await signIn(code);
    toast("Signed in");
  } catch (error) {
    await loadSession().catch(() => {}); // the bar shows the lost connection
    if (session.role === "write") return; // this link signed in earlier
    linkError = { message: "This link does not sign in", hint: error.hint || error.message };
    location.hash = "#/session";
  }
}

async function signOut() {
  await call("DELETE", "/api/session");
  await loadSession();
  connect();
}

/** @type {Promise<boolean> | null} */
let pendingDialog = null;

/** Ask for the token in a dialog; return true if the dashboard accepted it. */
export function askForToken() {
  pendingDialog ??= showTokenDialog().finally(() => (pendingDialog = null));
  return pendingDialog;
}

async function showTokenDialog() {
  const cancel = button("Cancel", () => dialog.close(""));
  const form = tokenForm(() => dialog.close("yes"), cancel);
  const dialog = createDialog("This change needs the token", form);
  return (await showDialog(dialog)) === "yes";
}

/**
 * @param {() => void} onDone
 * @param {Child} [cancel]
 */
function tokenForm(onDone, cancel) {
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
      { class: "muted" },
      "It was shown once, when the dashboard first started. ",
      h("code", {}, "fnbuild dashboard token --new"),
      " creates a new one.",
    ),
    // Password managers need a user name.
    h("input", { type: "text", autocomplete: "username", value: "fnbuild", hidden: true }),
    h("label", { class: "field" }, "Token", input),
    feedback,
    h("p", { class: "actions" }, cancel, submitButton),
  );
  /** @param {SubmitEvent} event */
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

/**
 * The view `#/session`: signing in and out.
 *
 * @param {HTMLElement} root
 * @param {Record<string, string>} _params
 * @param {ViewContext} context
 */
export async function show(root, _params, { title, signal, previousHash }) {
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
            ? "You can view and call functions. Changes need the token."
            : "This dashboard shows its functions only with a token.",
        ),
        tokenForm(onSignedIn),
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
        h("p", { class: "actions" }, button("Sign out", onSignOut)),
      ),
    ];
  }
  function onSignedIn() {
    toast("Signed in");
    location.hash = previousHash || "#/";
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
