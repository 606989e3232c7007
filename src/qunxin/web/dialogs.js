// What opens above the conversation: a new one, its members, who got a message.

import { careful, face, h, iconButton } from "/assets/dom.js";
import { t } from "/assets/texts.js";

const ID = "(?!.*\\.\\.)[A-Za-z0-9]([A-Za-z0-9_.@\\-]*[A-Za-z0-9])?";
const REFRESH_MS = 2_000;
const PAGE = 100;
const GROUP_NOT_FOUND = 1201;
const STATES = ["read", "delivered", "queued", "unreachable"];
const RANKS = { member: 0, admin: 1, owner: 2 };

function openDialog(title, ...body) {
  const heading = h("h2", { class: "grow", id: "dialog-title" }, title);
  const dialog = h("dialog", { "aria-labelledby": "dialog-title" },
    h("div", { class: "bar" }, heading, iconButton("close", t("close"), () => dialog.close())),
    h("div", { class: "body" }, ...body));
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

const problemLine = () => h("p", { class: "problem", role: "alert", hidden: true });

/** Do `act`; what it is refused with stands in `line`, in the words of `say`. */
async function attempt(line, act, say = (error) => (error.code === 0 ? t("waiting") : error.message)) {
  line.hidden = true;
  try {
    return await act();
  } catch (error) {
    line.textContent = say(error);
    line.hidden = false;
    return undefined;
  }
}

const idField = (name, attributes = {}) =>
  h("input", { name, required: true, maxlength: 64, pattern: ID, autocapitalize: "none", autocomplete: "off", spellcheck: "false", ...attributes });
const idsOf = (input) => input.value.split(/[\s,，、;；]+/).filter(Boolean);

/** What became of the users who were to be added, in words. */
function resultsText(results) {
  const named = (result) => results.filter((one) => one.result === result).map((one) => one.user).join(", ");
  const parts = [["added", named("added")], ["already", named("already_member")], ["notFound", named("user_not_found")]];
  return parts.filter(([, users]) => users).map(([text, users]) => t(text, { users })).join(" ");
}

/** A new group or a private conversation; `show(conversation)` goes there. */
export function newConversation(chat, show) {
  const line = problemLine();
  const note = h("p", { class: "note", role: "status", hidden: true });
  const name = h("input", { name: "name", required: true, maxlength: 200, placeholder: t("groupNameExample") });
  const id = idField("group", { placeholder: "tea" });
  const members = h("input", { name: "members", placeholder: "bob carol", autocapitalize: "none", autocomplete: "off", spellcheck: "false" });
  const other = idField("user", { placeholder: "bob" });
  let touched = false;
  id.addEventListener("input", () => { touched = id.value !== ""; });
  name.addEventListener("input", () => {
    if (!touched) id.value = suggest(name.value);
  });
  const createGroup = async (event) => {
    event.preventDefault();
    const asked = { group: id.value, name: name.value.trim(), members: idsOf(members) };
    const made = await attempt(line, () => createOnly(chat, asked));
    if (!made) return;
    show(`group:${id.value}`);
    const missing = made.results.filter((one) => one.result === "user_not_found");
    if (!missing.length) return dialog.close();
    note.textContent = resultsText(made.results);
    note.hidden = false;
    groupForm.replaceChildren(note, h("button", { type: "button", class: "main", onclick: () => dialog.close() }, t("close")));
  };
  const startPrivate = async (event) => {
    event.preventDefault();
    const found = await attempt(line, () => chat.call("user.get", { user: other.value }));
    if (!found) return;
    show(`private:${[chat.user, found.user].sort().join("~")}`);
    dialog.close();
  };
  const groupForm = h("form", { onsubmit: createGroup },
    h("label", {}, t("groupName"), name),
    h("label", {}, t("groupId"), id, h("small", {}, t("groupIdHint"))),
    h("label", {}, t("firstMembers"), members, h("small", {}, t("membersHint"))),
    h("div", { class: "actions" }, h("button", { class: "main" }, t("create"))));
  const personForm = h("form", { onsubmit: startPrivate, hidden: true },
    h("label", {}, t("userId"), other),
    h("div", { class: "actions" }, h("button", { class: "main" }, t("startTalk"))));
  const dialog = openDialog(t("newTalk"), choice(groupForm, personForm), groupForm, personForm, line);
  name.focus();
}

/** Make a group that is not there yet: the operation itself would change one that is. */
async function createOnly(chat, asked) {
  const taken = Object.assign(new Error(t("groupTaken")), { code: 1 });
  try {
    await chat.call("group.get", { group: asked.group });
  } catch (error) {
    if (error.code !== GROUP_NOT_FOUND) throw error;
    try {
      return await chat.call("group.put", asked);
    } catch (refusal) {
      throw refusal.code === GROUP_NOT_FOUND ? taken : refusal; // to outsiders it is not there
    }
  }
  throw taken;
}

function choice(groupForm, personForm) {
  const buttons = [["group", groupForm], ["person", personForm]].map(([text, form]) =>
    h("button", { type: "button", "aria-pressed": String(form === groupForm), onclick: () => pick(form) }, t(text)));
  const pick = (form) => {
    groupForm.hidden = form !== groupForm;
    personForm.hidden = form !== personForm;
    buttons.forEach((button, n) => button.setAttribute("aria-pressed", String((n === 0) === (form === groupForm))));
    form.querySelector("input").focus();
  };
  return h("div", { class: "tabs", role: "group" }, ...buttons);
}

/** An id from a name: its plain letters, else one by chance. */
function suggest(name) {
  const plain = name.toLowerCase().normalize("NFKD").replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 40);
  return plain || (name.trim() ? `group-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}` : "");
}

/** The members of a group, and what one may do about them. */
export function members(chat, names, group) {
  const line = problemLine();
  const note = h("p", { class: "note", role: "status", hidden: true });
  const people = h("ul", { class: "people" });
  const more = h("button", { type: "button", class: "plainly", hidden: true, onclick: () => load() }, t("loadMore"));
  const users = h("input", { name: "users", required: true, placeholder: "bob carol", autocapitalize: "none", autocomplete: "off", spellcheck: "false" });
  const adding = h("form", { class: "row", hidden: true, onsubmit: (event) => { event.preventDefault(); add(); } },
    h("label", {}, t("addMembers"), users), h("button", { class: "main" }, t("add")));
  const leaving = h("div", { class: "actions" });
  let cursor = null;
  let rank = 0;
  const change = async (method, data, then) => {
    const done = await attempt(line, () => chat.call(method, { group, ...data }));
    if (done) await then(done);
  };
  const again = async () => {
    cursor = null;
    people.replaceChildren();
    await load();
  };
  const add = () => change("member.add", { users: idsOf(users) }, async ({ results }) => {
    users.value = "";
    note.textContent = resultsText(results);
    note.hidden = false;
    await again();
  });
  const row = (member) => {
    const own = member.user === chat.user;
    const name = names.of(member.user);
    const may = !own && (rank === RANKS.owner || rank > RANKS[member.role]);
    return h("li", {},
      face(member.user, name, "round little"),
      h("span", { class: "grow" }, h("bdi", {}, name), " ", h("span", { class: "quiet small" }, member.user)),
      member.role !== "member" && h("span", { class: "tag" }, t(member.role)),
      member.muted && h("span", { class: "tag" }, t("muted")),
      member.reason && h("span", { class: "tag unreachable" }, t(`reason_${member.reason}`)),
      may && rank > 0 && careful(t("remove"), t("removeAgain", { name }),
        () => change("member.remove", { user: member.user }, again), { class: "danger", "aria-label": `${t("remove")} ${name}` }));
  };
  const load = async () => {
    const page = await attempt(line, () => chat.call("group.members", { group, cursor: cursor ?? undefined, limit: PAGE }));
    if (!page) return;
    rank = Math.max(rank, RANKS[page.members.find((member) => member.user === chat.user)?.role] ?? 0);
    people.append(...page.members.map(row));
    cursor = page.next_cursor;
    more.hidden = cursor === null;
    adding.hidden = rank === 0;
  };
  rank = RANKS[chat.conversations.get(`group:${group}`)?.role] ?? 0;
  const close = () => dialog.close();
  leaving.append(
    careful(t("leave"), t("leaveAgain"), () => change("member.remove", { user: chat.user }, close), { class: "plainly danger" }),
    ...(rank === RANKS.owner
      ? [careful(t("dissolve"), t("dissolveAgain"), () => change("group.dissolve", {}, close), { class: "plainly danger" })] : []));
  const dialog = openDialog(t("members"), adding, note, line, people, more, leaving);
  load();
}

/** Who got the message at `position`: counts over all, and the people of one state. */
export function ledger(chat, names, conversation, position) {
  const line = problemLine();
  const counts = h("div", { class: "counts", role: "group" });
  const hint = h("p", { class: "hint" }, t("ledgerHint"));
  const people = h("ul", { class: "people" });
  const more = h("button", { type: "button", class: "plainly", hidden: true, onclick: () => { limit += PAGE; load(); } }, t("loadMore"));
  const dialog = openDialog(t("ledger"), counts, hint, line, people, more);
  let state;
  let limit = PAGE;
  const labels = { read: t("read"), delivered: t("delivered"), queued: t("queuedState"), unreachable: t("unreachable") };
  const buttons = STATES.map((name) => h("button", {
    type: "button", "aria-pressed": "false", onclick: () => {
      state = state === name ? undefined : name;
      limit = PAGE;
      load();
    } }, h("b", {}, "·"), labels[name]));
  counts.append(...buttons);
  const row = ({ user, state: reached, reason }) => {
    const name = names.of(user);
    return h("li", {}, face(user, name, "round little"), h("span", { class: "grow" }, h("bdi", {}, name), " ", h("span", { class: "quiet small" }, user)),
      h("span", { class: `tag ${reached}` }, reason ? t(`reason_${reason}`) : labels[reached]));
  };
  const load = async () => {
    const page = await attempt(line, () => chat.call("message.deliveries", { conversation, position, state, limit: Math.min(limit, 1000) }));
    if (!page || !dialog.open) return;
    STATES.forEach((name, n) => {
      buttons[n].firstChild.textContent = page.counts[name] ?? 0;
      buttons[n].setAttribute("aria-pressed", String(state === name));
    });
    if (page.recalled) hint.textContent = t("ledgerRecalled");
    people.replaceChildren(...(page.deliveries.length ? page.deliveries.map(row) : [h("li", { class: "quiet" }, t("nobody"))]));
    more.hidden = page.next_cursor === null || limit >= 1000;
  };
  const timer = setInterval(load, REFRESH_MS);
  dialog.addEventListener("close", () => clearInterval(timer));
  load();
}

/** Sign out by `end`. Asks first where `unsent` messages would be lost with it; says why it failed. */
export async function signingOut(unsent, end) {
  const line = problemLine();
  const say = (error) => (error.status ? t("signOutRefused", { reason: error.message }) : t("signOutOffline"));
  const act = async () => {
    button.disabled = true;
    await attempt(line, end, say);
    button.disabled = false;
  };
  const button = h("button", { type: "button", class: "main", onclick: act }, t(unsent ? "signOutAnyway" : "signOut"));
  const ask = () => {
    const dialog = openDialog(t("signOut"), unsent > 0 && h("p", {}, t("signOutUnsent", { n: unsent })), line,
      h("div", { class: "actions" }, h("button", { type: "button", class: "plainly", onclick: () => dialog.close() }, t("stay")), button));
  };
  if (unsent === 0) await act();
  if (unsent > 0 || !line.hidden) ask();
}
