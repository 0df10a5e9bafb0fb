// Signing in and out: the token that allows more.

import { call } from "./api.js";
import { shown, toast } from "./dialogs.js";
import { fill, h } from "./dom.js";
import { connect, loadSession, onSession, session } from "./live.js";
import { problem } from "./states.js";

async function signIn(token) {
  await call("POST", "/api/session", { json: { token }, ask: false });
  await loadSession();
  connect();
}

let refusal = null; // why a link did not sign in

/** Sign in by the code of a link; where that fails, the view `#/session` says so. */
export async function signInByLink(code) {
  try {
    await signIn(code);
    toast("Signed in");
  } catch (error) {
    await loadSession().catch(() => {}); // the page says itself that the dashboard is gone
    if (session.role === "write") return; // by the same link, before
    refusal = { message: "This link does not sign in", hint: error.hint || error.message };
    location.hash = "#/session";
  }
}

async function signOut() {
  await call("DELETE", "/api/session");
  await loadSession();
  connect();
}

let asking = null;

/** Ask for the token in a dialog; whether one was given that the dashboard took. */
export function askForToken() {
  asking ??= asked().finally(() => (asking = null));
  return asking;
}

async function asked() {
  const dialog = h("dialog", { class: "ask", "aria-labelledby": "dialog-title" });
  fill(
    dialog,
    h("h2", { id: "dialog-title" }, "This change needs the token"),
    form({
      done: () => dialog.close("yes"),
      cancel: h("button", { type: "button", onclick: () => dialog.close("") }, "Cancel"),
    }),
  );
  return (await shown(dialog)) === "yes";
}

function form({ done, cancel = null }) {
  const input = h("input", {
    type: "password",
    autocomplete: "current-password",
    autofocus: true,
    required: true,
    spellcheck: "false",
  });
  const said = h("div");
  const send = h("button", { class: "primary" }, "Sign in");
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
    said,
    h("p", { class: "actions" }, cancel, send),
  );
  async function submit(event) {
    event.preventDefault();
    send.disabled = true;
    try {
      await signIn(input.value.trim());
      done();
    } catch (error) {
      fill(said, problem({ message: error.message, hint: error.hint }));
      input.select();
    }
    send.disabled = false;
  }
}

/** The view `#/session`: who one is, signing in and out. */
export async function show(root, _params, { title, signal, cameFrom }) {
  title("Sign in");
  const stop = onSession(draw);
  signal.addEventListener("abort", () => (stop(), (refusal = null)));
  draw();
  function draw() {
    if (session.role === "write") return fill(root, signedIn());
    fill(
      root,
      h("h1", {}, "Sign in"),
      refusal && problem(refusal),
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
        form({ done: signedInHere }),
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
        h("p", { class: "actions" }, h("button", { type: "button", onclick: leave }, "Sign out")),
      ),
    ];
  }
  function signedInHere() {
    toast("Signed in");
    location.hash = cameFrom || "#/";
  }
  async function leave() {
    try {
      await signOut();
      toast("Signed out");
    } catch (error) {
      fill(root, problem(error));
    }
  }
}
