// One entry of a log as elements: a message with its outcome, or an event in words.

import { careful, face, h } from "/assets/dom.js";
import { adviceFor, clockTime, t } from "/assets/texts.js";

const REACH_REFUSED = 1100;
const TOO_LARGE = 1008;
const NAMED = 6;
const EVENTS = ["created", "createdAlone", "joined", "left", "removed", "erased", "changed", "changedName", "changedMember", "dissolved", "hiddenRange"];

/** What a message says in one line, for lists. */
export function preview(entry, names) {
  if (entry.recalled) return recallText(entry, names);
  return entry.content.map((segment) => segmentText(segment, names)).join(" ").trim();
}

function recallText(entry, names) {
  return names.isMe(entry.from) ? t("recalledMine") : t("recalledBy", { name: names.of(entry.from) });
}

function segmentText(segment, names) {
  const { type } = segment;
  if (type === "text") return segment.text;
  if (type === "mention") return `@${segment.user === "*" ? t("everyone") : names.of(segment.user)}`;
  if (type === "image") return `[${segment.name ?? t("image")}]`;
  if (type === "file") return `[${segment.name}]`;
  if (type === "reply") return "";
  return `[${t("custom", { name: segment.name })}]`;
}

function segmentElement(segment, names) {
  const text = segmentText(segment, names);
  if (segment.type === "mention") return h("span", { class: "mention" }, text);
  if (segment.type === "reply") return h("span", { class: "quote" }, t("replyTo", { n: segment.position }));
  if (!/^https?:\/\//i.test(segment.url ?? "")) return text; // no other kind of address becomes a link
  return h("a", { href: segment.url, rel: "noopener noreferrer", target: "_blank" }, text);
}

/** An event of a group, in words; null for those that show elsewhere. */
export function eventText(entry, names) {
  const all = entry.users ?? [entry.user].filter(Boolean);
  const told = all.filter((user) => entry.type !== "created" || user !== entry.by);
  const listed = told.slice(0, NAMED).map((user) => isolated(names.of(user)));
  const rest = (entry.count ?? all.length) - all.length + told.length - listed.length;
  const users = [...listed, ...(rest > 0 ? [t("more", { n: rest })] : [])].join(t("comma"));
  const by = entry.by ? isolated(names.of(entry.by)) : t("operator");
  const { first, last, name = "" } = entry;
  const kind = eventKind(entry, users);
  return EVENTS.includes(kind) ? t(kind, { by, users, name: isolated(name), first, last }) : null;
}

/** A name that keeps its own direction of writing inside a sentence. */
const isolated = (name) => `\u2068${name}\u2069`;

function eventKind(entry, users) {
  if (entry.type === "left") return entry.reason;
  if (entry.type === "changed") return changeKind(entry);
  if (entry.type === "hidden") return "hiddenRange";
  return entry.type === "created" && !users ? "createdAlone" : entry.type;
}

function changeKind(entry) {
  if (entry.user) return "changedMember";
  return entry.name ? "changedName" : "changed";
}

/** A message in the log. `acts`: { ledger, recall } where the reader may. */
export function messageElement(entry, { mine, follows, names, receipt, acts }) {
  const said = entry.recalled
    ? [recallText(entry, names)]
    : entry.content.map((segment) => segmentElement(segment, names));
  const sender = entry.from ? names.of(entry.from) : t("operator");
  const kinds = [mine ? "mine" : "theirs", follows && "follows", entry.recalled && "recalled"];
  return h("li", { class: `message ${kinds.filter(Boolean).join(" ")}` },
    !mine && !follows && face(entry.from ?? "operator", sender, "round little"),
    !mine && !follows && h("span", { class: "who" }, h("bdi", {}, sender)),
    h("div", { class: "bubble", dir: "auto" },
      h("span", { class: "unseen" }, mine || follows ? `${sender}: ` : ""), ...said),
    meta(entry, receipt, acts));
}

function meta(entry, receipt, acts) {
  const partly = receipt?.unreachable_count > 0;
  return h("div", { class: "meta" },
    h("span", { class: "acts", role: "group", "aria-label": t("actions") },
      acts.ledger && h("button", { type: "button", class: "ask", onclick: acts.ledger }, t("whoGotIt")),
      acts.recall && careful(t("recall"), t("recallAgain"), acts.recall)),
    partly && h("button", { type: "button", class: "partial", onclick: acts.ledger },
      t("partial", { n: receipt.unreachable_count, all: receipt.members })),
    h("time", { datetime: new Date(entry.time).toISOString() }, clockTime(entry.time)));
}

/** A message that the server has not decided yet, or has refused. */
export function outboxElement({ message, error }, waits, { names, ...acts }) {
  const content = message.content ?? [{ type: "text", text: message.text }];
  return h("li", { class: `message mine ${error ? "refused" : "waiting"}` },
    h("div", { class: "bubble", dir: "auto" }, ...content.map((segment) => segmentElement(segment, names))),
    error ? outcome(error, message, acts) : h("div", { class: "meta" }, waits));
}

function outcome(error, message, { retry, edit, discard }) {
  const mendable = error.code === TOO_LARGE && message.text !== undefined;
  const button = (text, act) => h("button", { type: "button", onclick: act }, text);
  return h("div", { class: "outcome", role: "alert" },
    h("strong", {}, error.message), h("span", {}, adviceFor(error.code)),
    h("span", { class: "acts" },
      error.code === REACH_REFUSED && button(t("sendReachable"), () => retry({ require: "reachable" })),
      mendable ? button(t("edit"), edit) : button(t("retry"), () => retry({})),
      button(t("discard"), discard)));
}
