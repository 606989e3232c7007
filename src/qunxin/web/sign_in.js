// Signing in: a link that works once is exchanged for a session, the session for tokens.

import { h, mark } from "/assets/dom.js";
import { language, switchLanguage, t } from "/assets/texts.js";

const PATIENCE_MS = 12_000;
const ENDS = {
  4500: "endSuspended", 1103: "endSuspended", user_suspended: "endSuspended",
  4501: "endErased", 1102: "endErased", 1101: "endErased", user_erased: "endErased", user_not_found: "endErased",
  4502: "endRevoked", 1001: "endRevoked", 1012: "endRevoked", token_revoked: "endRevoked",
  token_expired: "endRevoked", unauthenticated: "endRevoked", "another user": "endOther",
};
const tabs = new BroadcastChannel("qunxin");
const ID = "(?!.*\\.\\.)[A-Za-z0-9]([A-Za-z0-9_.@\\-]*[A-Za-z0-9])?";

// A link that is pasted into the address of this page would change nothing but what follows the #.
addEventListener("hashchange", () => {
  if (new URLSearchParams(location.hash.slice(1)).has("link")) location.reload();
});

/** The link in the page's address, which is taken out of it: { link, user }, or null. */
export function takeLink() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (!given.has("link")) return null;
  history.replaceState(null, "", location.pathname);
  return { link: given.get("link"), user: given.get("user") };
}

async function post(path, body, method = "POST") {
  const headers = { "Content-Type": "application/json", "Accept-Language": language };
  const signal = AbortSignal.timeout(PATIENCE_MS);
  const response = await fetch(path, { method, headers, signal, body: body && JSON.stringify(body) });
  if (response.status === 204) return null;
  const answer = await response.json();
  if (response.ok) return answer;
  throw Object.assign(new Error(answer.detail), answer);
}

/** What the node last said of this browser's session: how many bytes a message may have
 * (`max_message_bytes`), or the `code` that it was refused with. */
export let session = {};

/** A token for this browser's session; null where it has none. Throws where the node does not answer. */
export async function getToken() {
  try {
    session = (await post("/session/token")) ?? {};
  } catch (problem) {
    if (![401, 403, 404, 410].includes(problem.status)) throw problem;
    session = problem;
  }
  return session.token ?? null;
}

/** End this browser's session, with all that it let in. Throws where that is not certain. */
export async function endSession(user) {
  await post("/session", undefined, "DELETE");
  tabs.postMessage({ left: user });
}

/** `act` is called when another tab of this browser has signed `user()` out. */
export function onSignedOut(user, act) {
  tabs.addEventListener("message", ({ data }) => data.left === user() && act());
}

/** Why a connection will not come back, in words, from what `Chat.end` says. */
export function endText({ code, reason }) {
  const why = ENDS[code ?? (reason === "signed out" ? session.code ?? "unauthenticated" : reason)];
  return why ? t(why) : t("ended", { reason });
}

/** How many messages and drafts of `user` would be lost with what this browser keeps. */
export function countUnsent(user) {
  const kinds = [`qunxin:${user}:out:`, `qunxin:${user}:draft:`];
  return Object.keys(localStorage).filter((name) => kinds.some((kind) => name.startsWith(kind))).length;
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
    session.code !== undefined && h("p", { class: "problem", role: "alert" }, endText({ reason: "signed out" })),
    h("p", { class: "quiet" }, t("signedOutHint")),
    h("p", {}, h("code", {}, "qunxin link alice")),
    h("p", {}, h("button", { type: "button", class: "plainly", onclick: () => location.reload() }, t("tryAgain"))));
}
