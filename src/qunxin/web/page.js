// The page at /: the list of conversations beside the open one.

import { Chat } from "/qunxin.js";
import { face, h, iconButton, mark, sync } from "/assets/dom.js";
import { ledger, members, newConversation, signingOut } from "/assets/dialogs.js";
import { preview } from "/assets/entries.js";
import { Log } from "/assets/log.js";
import { Names } from "/assets/names.js";
import { countUnsent, endSession, endText, getToken, linkCard, onSignedOut, outsideCard, session, takeLink } from "/assets/sign_in.js";
import { count, language, shortTime, switchLanguage, t } from "/assets/texts.js";

const PROBLEM_MS = 8_000;
const PREVIEWS = 30;
const CONVERSATION = /^(group:[\w.@-]+|private:[\w.@-]+~[\w.@-]+|broadcast:all)$/;

/** The conversation that the page's address names: null for none, "" for one that cannot be. */
function conversationInAddress() {
  if (location.hash.length < 2) return null;
  try {
    return CONVERSATION.exec(decodeURIComponent(location.hash.slice(1)))?.[0] ?? "";
  } catch {
    return ""; // a lone percent sign
  }
}

class Page {
  #chat = new Chat({ getToken, language });
  #names = new Names(this.#chat);
  #open = null;
  #drawing = false;
  #previewed = new Set();
  #previewing = false;
  #log = new Log(this.#chat, this.#names, {
    onProblem: (error) => this.#say(error.code === 0 ? t("waiting") : t("failed", { reason: error.message })),
    openLedger: (conversation, position) => ledger(this.#chat, this.#names, conversation, position),
    onEdit: (text) => this.#edit(text),
  });
  #state = h("p", { class: "state", role: "status", hidden: true });
  #list = h("ul", { class: "list", "aria-label": t("title") });
  #nothing = h("div", { class: "nothing", hidden: true }, mark(), h("strong", {}, t("nothingYet")), h("span", {}, t("nothingYetHint")),
    h("button", { type: "button", class: "main", onclick: () => this.#startNew() }, t("newTalk")));
  #who = h("div", { class: "grow" });
  #title = h("h1", { class: "one-line" });
  #subtitle = h("p", { class: "quiet small one-line" });
  #peopleButton = iconButton("people", t("members"), () => members(this.#chat, this.#names, this.#open.slice("group:".length)));
  #startButton = iconButton("plus", t("newTalk"), () => this.#startNew());
  #outButton = iconButton("out", t("signOut"), () => this.#signOut(), { hidden: true });
  #problem = h("p", { class: "problem", role: "alert", hidden: true });
  #tooLong = h("p", { class: "over", role: "status", hidden: true });
  #draft = h("textarea", { name: "text", rows: 1, dir: "auto", enterkeyhint: "send", autocomplete: "off" });
  #draftKept = true;
  #sendButton = iconButton("send", t("send"), () => this.#send(), { class: "icon main" });
  #form = h("form", { onsubmit: (event) => { event.preventDefault(); this.#send(); } }, this.#draft, this.#sendButton);
  #closed = h("p", { class: "closed", hidden: true });
  #app = h("main", { class: "app" });

  start() {
    this.#build();
    for (const event of ["state", "conversations", "outbox", "entry"]) {
      this.#chat.addEventListener(event, () => this.#draw());
    }
    this.#names.addEventListener("change", () => this.#draw());
    this.#chat.addEventListener("reload", ({ detail }) => {
      this.#previewed.delete(detail.conversation);
      this.#log.forget(detail.conversation);
    });
    this.#chat.addEventListener("state", () => this.#stateChanged());
    addEventListener("hashchange", () => this.#show(conversationInAddress()));
    addEventListener("storage", ({ key, newValue }) => this.#draftElsewhere(key, newValue));
    onSignedOut(() => this.#chat.user, () => this.#leave());
    this.#draft.addEventListener("input", () => this.#keepDraft());
    this.#draft.addEventListener("keydown", (event) => {
      const plainEnter = event.key === "Enter" && !event.shiftKey && !event.isComposing;
      if (!plainEnter) return;
      event.preventDefault();
      this.#send();
    });
    this.#chat.start();
  }

  #build() {
    const side = h("nav", { class: "side", "aria-label": t("title") },
      h("div", { class: "bar" }, mark(), h("h1", { class: "grow" }, "Qunxin 群信"), this.#startButton),
      h("div", { class: "list-place" }, this.#nothing, this.#list),
      h("div", { class: "me" }, this.#who,
        h("button", { type: "button", class: "plainly small", onclick: switchLanguage }, t("language")),
        this.#outButton));
    this.#app.append(this.#state, side, h("div", { class: "talk" }));
    document.body.replaceChildren(this.#app);
    this.#drawEmpty();
  }

  #drawEmpty() {
    this.#app.lastChild.replaceChildren(
      h("div", { class: "nothing" }, mark(), h("strong", {}, t("pick")), h("span", {}, t("pickHint")),
        h("a", { class: "small", href: "/docs" }, t("api"))));
  }

  #drawNowhere() {
    this.#app.lastChild.replaceChildren(
      h("div", { class: "nothing" }, mark(), h("strong", {}, t("nowhere")), h("span", {}, t("nowhereHint")),
        h("button", { type: "button", class: "plainly", onclick: () => { location.hash = ""; } }, t("back"))));
  }

  #drawTalk() {
    this.#app.lastChild.replaceChildren(
      h("header", { class: "bar" },
        iconButton("back", t("back"), () => { location.hash = ""; }, { class: "icon back" }),
        h("div", { class: "grow" }, this.#title, this.#subtitle), this.#peopleButton),
      this.#log.element,
      h("div", { class: "compose" }, this.#problem, this.#tooLong, this.#form, this.#closed));
  }

  // --- what is shown ---

  #show(name) {
    if (name === this.#open) return;
    const had = Boolean(this.#open);
    this.#open = name;
    this.#app.classList.toggle("open", name !== null);
    if (name === null) this.#drawEmpty();
    else if (!name) this.#drawNowhere();
    else {
      if (!had) this.#drawTalk();
      this.#draft.value = localStorage.getItem(this.#draftName) ?? "";
      this.#draftChanged(true);
      this.#problem.hidden = true;
      this.#log.show(name);
      if (matchMedia("(hover: hover)").matches) this.#draft.focus();
    }
    this.#draw();
  }

  #stateChanged() {
    const { state } = this.#chat;
    this.#state.hidden = state === "connected";
    this.#state.classList.toggle("ended", state === "ended");
    if (state === "ended") return this.#ended();
    this.#state.textContent = state === "connected" ? "" : t(state === "waiting" ? "waiting" : "connecting");
    if (state !== "connected") return;
    if (this.#open) this.#log.refresh(this.#open);
    if (this.#open === null) this.#show(conversationInAddress());
    this.#draftChanged(this.#draftKept); // the limit may be another one now
    this.#loadRest();
  }

  // It does not come back by itself: nothing is offered that would wait for it.
  #ended() {
    if (this.#chat.user === null) return document.body.replaceChildren(outsideCard());
    document.querySelectorAll("dialog").forEach((dialog) => dialog.close());
    this.#startButton.hidden = true;
    this.#state.replaceChildren(
      h("span", { class: "grow" }, endText(this.#chat.end), " ", t("endedHint")),
      h("button", { type: "button", class: "main small", onclick: () => location.reload() }, t("signInAgain")));
  }

  // Many events of one turn are drawn once.
  #draw() {
    if (this.#drawing) return;
    this.#drawing = true;
    queueMicrotask(() => {
      this.#drawing = false;
      this.#drawList();
      this.#drawHead();
      this.#log.draw();
    });
  }

  #rows() {
    const rows = [...this.#chat.conversations.values()].filter((row) => !row.conversation.startsWith("inbox:"));
    return rows.filter((row) => row.head > 0 || !row.conversation.startsWith("broadcast:")).sort((a, b) => b.time - a.time);
  }

  #drawList() {
    const rows = this.#rows();
    this.#nothing.hidden = rows.length > 0 || this.#chat.state !== "connected";
    sync(this.#list, rows.map((row) => {
      const facts = [this.#titleOf(row.conversation), this.#lastOf(row), shortTime(row.time), row.unread, row.conversation === this.#open];
      return [row.conversation, facts.join("\n"), () => this.#listItem(row, ...facts)];
    }));
    this.#outButton.hidden = !this.#chat.user; // before, nobody knows whose messages and drafts to delete
    if (this.#chat.user) {
      const name = this.#names.of(this.#chat.user);
      if (this.#who.dataset.name !== name) {
        this.#who.dataset.name = name;
        this.#who.replaceChildren(h("div", { class: "one-line" }, h("strong", {}, h("bdi", {}, name))), h("div", { class: "quiet small one-line" }, this.#chat.user));
      }
    }
    const unread = rows.reduce((sum, row) => sum + row.unread, 0);
    document.title = `${unread ? `(${unread}) ` : ""}Qunxin 群信`;
    this.#loadPreviews();
  }

  #listItem(row, title, last, time, unread, current) {
    const kind = row.conversation.startsWith("private:") ? "round" : "";
    return h("li", {}, h("button", { type: "button", "aria-current": current ? "true" : null, onclick: () => { location.hash = encodeURIComponent(row.conversation); } },
      face(row.conversation, title, kind),
      h("span", { class: "name one-line" }, h("bdi", {}, title)),
      h("time", { datetime: new Date(row.time).toISOString() }, time),
      h("span", { class: "last one-line" }, h("bdi", {}, last)),
      unread > 0 ? h("span", { class: "badge", "aria-label": t("unread", { n: unread }) }, unread > 999 ? "999+" : unread) : h("span")));
  }

  #titleOf(name) {
    const row = this.#chat.conversations.get(name);
    if (name.startsWith("broadcast:")) return t("broadcasts");
    if (name.startsWith("private:")) return row?.name || this.#names.of(this.#otherIn(name));
    return row?.name || name.slice(name.indexOf(":") + 1);
  }

  #otherIn(name) {
    const [a, b] = name.slice("private:".length).split("~");
    return a === this.#chat.user ? b : a;
  }

  #lastOf(row) {
    if (!row.last && row.ended) return this.#closedText(row);
    if (!row.last) return this.#previewed.has(row.conversation) ? t("quietTalk") : "";
    const text = preview(row.last, this.#names);
    if (row.last.recalled || row.conversation.startsWith("private:") || !row.last.from) return text;
    return `${row.last.from === this.#chat.user ? t("you") : this.#names.of(row.last.from)}: ${text}`;
  }

  #drawHead() {
    if (!this.#open) return;
    const row = this.#chat.conversations.get(this.#open);
    const kind = this.#open.slice(0, this.#open.indexOf(":"));
    const title = this.#titleOf(this.#open);
    this.#title.textContent = title;
    this.#subtitle.textContent = kind === "group" ? this.#open.slice("group:".length) : t(kind === "private" ? "private" : "broadcast");
    const closed = this.#whyClosed(kind, row);
    this.#peopleButton.hidden = kind !== "group" || Boolean(closed);
    this.#form.hidden = Boolean(closed);
    this.#closed.hidden = !closed;
    this.#closed.textContent = closed || "";
    this.#draft.placeholder = t("write");
    this.#draft.setAttribute("aria-label", t("writeTo", { name: title }));
  }

  #whyClosed(kind, row) {
    if (kind === "broadcast") return t("closedBroadcast");
    if (row?.ended) return this.#closedText(row);
    return this.#chat.state === "ended" ? t("closedEnd") : "";
  }

  #closedText(row) {
    return t(`closed${row.ended[0].toUpperCase()}${row.ended.slice(1)}`);
  }

  // Those too that the module does not follow, as it follows the most recent ones only.
  async #loadRest() {
    const known = this.#chat.conversations;
    try {
      for (let cursor; cursor !== null; ) {
        const page = await this.#chat.call("user.conversations", { cursor, limit: 1000 });
        for (const row of page.conversations) {
          const shown = known.get(row.conversation);
          if (!(shown?.head > row.head)) known.set(row.conversation, { ...shown, ended: "", ...row });
        }
        cursor = page.next_cursor;
      }
    } catch (error) {
      this.#failed(error);
    }
    this.#draw();
  }

  // What was said last, where no message has come since.
  async #loadPreviews() {
    if (this.#previewing) return;
    this.#previewing = true;
    const lacks = (row) => !row.last && !this.#previewed.has(row.conversation);
    for (let row; this.#chat.state === "connected" && (row = this.#rows().slice(0, PREVIEWS).find(lacks)); ) {
      try {
        await this.#loadPreview(row);
      } catch (error) {
        this.#failed(error);
        if (error.temporary) break;
        this.#previewed.add(row.conversation);
      }
    }
    this.#previewing = false;
  }

  // What came while the page was read may have recalled what is in it: then it is read once more.
  async #loadPreview({ conversation, head }) {
    const page = await this.#chat.call("conversation.entries", { conversation, limit: 10 });
    const row = this.#chat.conversations.get(conversation);
    if (row?.head !== head) return;
    this.#previewed.add(conversation);
    row.last ??= page.entries.findLast((entry) => entry.content || entry.recalled);
    this.#draw();
  }

  #failed(error) {
    if (!error.temporary) this.#say(t("failed", { reason: error.message }));
  }

  #say(text) {
    this.#problem.textContent = text;
    this.#problem.hidden = false;
    setTimeout(() => { this.#problem.hidden = true; }, PROBLEM_MS);
  }

  // --- what is done ---

  #signOut() {
    const { user } = this.#chat;
    signingOut(countUnsent(user), async () => {
      await endSession(user);
      this.#leave();
    });
  }

  // Begun anew, the page holds nothing in memory either.
  #leave() {
    this.#chat.forget();
    history.replaceState(null, "", location.pathname);
    location.reload();
  }

  #startNew() {
    newConversation(this.#chat, (name) => { location.hash = encodeURIComponent(name); });
  }

  get #draftName() {
    return `qunxin:${this.#chat.user}:draft:${this.#open}`;
  }

  #keepDraft() {
    try {
      if (this.#draft.value) localStorage.setItem(this.#draftName, this.#draft.value);
      else localStorage.removeItem(this.#draftName);
      this.#draftChanged(true);
    } catch (error) {
      this.#draftChanged(false);
      this.#say(t("failed", { reason: error.message })); // it stays on the screen
    }
  }

  // A conversation has one draft, whichever tab it is written in. One that storage has no room for
  // is on this screen alone, so nothing from elsewhere takes its place.
  #draftElsewhere(key, text) {
    if (!this.#open || key !== this.#draftName || !this.#draftKept) return;
    this.#draft.value = text ?? "";
    this.#draftChanged(true);
  }

  // Text is never cut: what is over the limit is said, and not sent.
  #draftChanged(kept) {
    this.#draftKept = kept;
    const content = JSON.stringify([{ type: "text", text: this.#draft.value }]);
    const over = new TextEncoder().encode(content).length - (session.max_message_bytes ?? Infinity);
    this.#tooLong.hidden = over <= 0;
    this.#sendButton.disabled = over > 0;
    if (over > 0) this.#tooLong.textContent = t("tooLong", { n: count(over), limit: count(session.max_message_bytes) });
  }

  #edit(text) {
    this.#draft.value = [text, this.#draft.value].filter(Boolean).join("\n");
    this.#keepDraft();
    this.#draft.focus();
  }

  #send() {
    const text = this.#draft.value;
    if (!text.trim() || !this.#open || this.#sendButton.disabled) return;
    const [type] = this.#open.split(":", 1);
    const to = type === "private" ? this.#otherIn(this.#open) : this.#open.slice(type.length + 1);
    if (!this.#log.send({ type, to, text })) return;
    this.#draft.value = "";
    this.#keepDraft();
    this.#draft.focus();
  }
}

document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
const link = takeLink();
const start = () => new Page().start();
if (link) document.body.replaceChildren(linkCard(link, start));
else start();
