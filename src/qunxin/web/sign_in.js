// Signing in: a link that works once is exchanged for a session, the session for tokens.

import { h, mark } from "/assets/dom.js";
import { language, switchLanguage, t } from "/assets/texts.js";

const ID = "(?!.*\\.\\.)[A-Za-z0-9]([A-Za-z0-9_.@\\-]*[A-Za-z0-9])?";

/** The link in the page's address, which is taken out of it: { link, user }, or null. */
export function takeLink() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (!given.has("link")) return null;
  history.replaceState(null, "", location.pathname);
  return { link: given.get("link"), user: given.get("user") };
}

async function post(path, body, method = "POST") {
  const headers = { "Content-Type": "application/json", "Accept-Language": language };
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  const answer = await response.json();
  if (response.ok) return answer;
  throw Object.assign(new Error(answer.detail), answer);
}

/** A token for this browser's session; null where it has none. Throws where the node does not answer. */
export async function getToken() {
  try {
    return (await post("/session/token")).token;
  } catch (problem) {
    if ([401, 403, 404, 410].includes(problem.status)) return null;
    throw problem;
  }
}

export async function signOut() {
  await post("/session", undefined, "DELETE");
  location.reload();
}

const wordsOf = (problem, user) => {
  if (problem.facts?.taken) return t("taken", { user });
  if (problem.code === "unauthenticated") return t("badLink");
  return problem.status ? problem.message : t("offline");
};

function door(...children) {
  const foot = h("p", { class: "foot" },
    h("a", { href: "/docs" }, t("api")),
    h("button", { type: "button", class: "plainly", onclick: switchLanguage }, t("language")));
  return h("main", { class: "door" }, h("div", { class: "card" }, mark(), ...children, foot));
}

/** The card that exchanges `link`; `done` is called when this browser is signed in. */
export function linkCard({ link, user }, done) {
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  const name = h("input", { name: "name", autocomplete: "nickname", maxlength: 200, placeholder: t("displayNameExample") });
  const id = h("input", { name: "user", required: true, maxlength: 64, pattern: ID, placeholder: "lin", autocomplete: "username", autocapitalize: "none", spellcheck: "false" });
  const button = h("button", { class: "main" }, t("signIn"));
  const submit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      await post("/session", user ? { link, user } : { link, user: id.value, name: name.value.trim() || undefined });
      done();
    } catch (error) {
      problem.textContent = wordsOf(error, id.value);
      problem.hidden = false;
      button.disabled = false;
    }
  };
  const fields = user ? [] : [
    h("label", {}, t("displayName"), name),
    h("label", {}, t("yourId"), id, h("small", {}, t("groupIdHint"))),
  ];
  return door(
    h("h1", {}, user ? t("signInAs", { user }) : t("newAccount")),
    h("p", { class: "quiet" }, t(user ? "signInHint" : "newAccountHint")),
    h("form", { onsubmit: submit }, ...fields, problem, button));
}

/** The card for whoever has neither a session nor a link. */
export function outsideCard() {
  return door(
    h("h1", {}, t("signedOut")),
    h("p", { class: "quiet" }, t("signedOutHint")),
    h("p", {}, h("code", {}, "qunxin link alice")),
    h("p", { class: "quiet small" }, t("signInAgain")));
}
