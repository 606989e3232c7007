// The open conversation: its timeline and what waits in the outbox, kept in view and marked as read.

import { h, sync } from "/assets/dom.js";
import { eventText, messageElement, outboxElement } from "/assets/entries.js";
import { clockTime, dayOf, t } from "/assets/texts.js";

const TOGETHER_MS = 5 * 60_000;
const NEAR_PX = 80;
const NO_CONVERSATION = 1005;
const STORAGE_FULL = 1;
const RANKS = { admin: 1, owner: 2 };

export class Log {
  element = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": t("messages") });
  #list = h("ol", { class: "log" });
  #earlier = h("button", { type: "button", class: "plainly earlier", hidden: true, onclick: () => this.#loadEarlier() }, t("earlier"));
  #newer = h("button", { type: "button", class: "newer", hidden: true, onclick: () => this.#toEnd() }, t("newer"));
  #receipts = new Map();
  #chat;
  #names;
  #onProblem;
  #openLedger;
  #onEdit;
  #name = null;
  #loaded = false;

  constructor(chat, names, { onProblem, openLedger, onEdit }) {
    this.#chat = chat;
    this.#names = names;
    this.#onProblem = onProblem;
    this.#openLedger = openLedger;
    this.#onEdit = onEdit;
    this.element.append(this.#earlier, h("div", { role: "log", "aria-live": "polite" }, this.#list), this.#newer);
    this.element.addEventListener("scroll", () => this.#seen());
    document.addEventListener("visibilitychange", () => this.#seen());
  }

  /** Show `name` from its end. */
  async show(name) {
    this.#name = name;
    this.#loaded = false;
    this.draw();
    this.#toEnd();
    try {
      await this.#chat.open(name);
    } catch (error) {
      // No message has passed yet in a new private conversation; without a connection: later.
      if (error.code !== NO_CONVERSATION && !error.temporary) this.#onProblem(error);
      if (error.temporary) return;
    }
    if (name !== this.#name) return;
    this.#loaded = true;
    this.draw();
    this.#toEnd();
  }

  /** Load it again where that failed or where what was shown may have gaps. */
  refresh(name) {
    if (name !== null && name === this.#name && !this.#loaded) this.show(name);
  }

  forget(name) {
    if (name === this.#name) this.show(name);
  }

  /** What became of a message: kept to tell of members it cannot reach. */
  note(receipt) {
    this.#receipts.set(`${receipt.conversation} ${receipt.position}`, receipt);
    this.draw();
  }

  draw() {
    if (!this.#name) return;
    const timeline = this.#chat.timelines.get(this.#name);
    const entries = timeline?.entries ?? [];
    const atEnd = this.#isAtEnd();
    const grown = this.#list.childElementCount;
    this.#earlier.hidden = !timeline?.before || timeline.complete;
    sync(this.#list, [...this.#entryRows(entries), ...this.#outboxRows(entries)]);
    if (atEnd) this.#toEnd();
    else this.#newer.hidden = this.#newer.hidden && this.#list.childElementCount <= grown;
    this.#seen();
  }

  *#entryRows(entries) {
    let before = null;
    if (this.#loaded && !entries.length) {
      yield [`quiet ${this.#name}`, "", () => h("li", { class: "event" }, t("quietTalk"))];
    }
    for (const entry of entries) {
      const isMessage = Boolean(entry.content || entry.recalled);
      const text = isMessage ? null : eventText(entry, this.#names);
      if (!isMessage && text === null) continue;
      if (entry.time && dayOf(entry.time) !== (before && dayOf(before.time))) {
        yield [`day ${this.#name} ${dayOf(entry.time)}`, "", () => h("li", { class: "day" }, dayOf(entry.time))];
        before = null;
      }
      yield isMessage ? this.#messageRow(entry, before) : this.#eventRow(entry, text);
      before = entry.time ? { ...entry, isMessage } : before;
    }
  }

  #eventRow(entry, text) {
    const kind = entry.type === "hidden" ? "event hidden-range" : "event";
    return [`${this.#name} ${entry.position}`, text, () =>
      h("li", { class: kind, title: entry.time ? clockTime(entry.time) : null }, h("bdi", {}, text))];
  }

  #messageRow(entry, before) {
    const follows = Boolean(before?.isMessage) && before.from === entry.from && entry.time - before.time < TOGETHER_MS;
    const mine = entry.from !== undefined && entry.from === this.#chat.user;
    const receipt = this.#receipts.get(`${this.#name} ${entry.position}`);
    const rank = RANKS[this.#chat.conversations.get(this.#name)?.role] ?? 0;
    const closed = this.#chat.state === "ended" || Boolean(this.#chat.conversations.get(this.#name)?.ended);
    const may = mine || rank > 0;
    const acts = {
      ledger: may && !closed && (() => this.#openLedger(this.#name, entry.position)),
      recall: may && !closed && !entry.recalled && (() => this.#recall(entry.position)),
    };
    const names = entry.content?.filter((part) => part.user).map((part) => this.#names.of(part.user)) ?? [];
    const signature = [follows, entry.recalled, this.#names.of(entry.from ?? ""), receipt?.unreachable_count, may, closed, ...names].join("\n");
    return [`${this.#name} ${entry.position}`, signature, () =>
      messageElement(entry, { mine, follows, names: this.#names, receipt, acts })];
  }

  *#outboxRows(entries) {
    const arrived = new Set(entries.filter((entry) => entry.from === this.#chat.user).map((entry) => entry.key));
    const { state } = this.#chat;
    const waits = t(state === "connected" ? "sending" : state === "ended" ? "keptUnsent" : "queued");
    for (const item of this.#chat.outbox.values()) {
      if (conversationOf(item.message, this.#chat.user) !== this.#name || arrived.has(item.key)) continue;
      const signature = `${item.error?.message ?? ""} ${waits}`;
      yield [`out ${item.key}`, signature, () => outboxElement(item, waits, {
        names: this.#names,
        retry: (changes) => this.#retry(item, changes),
        edit: () => this.#edit(item),
        discard: () => this.#chat.discard(item.key),
      })];
    }
  }

  /** Queue a message; false where the browser's storage is full: then it is not queued, and that is
   * said. A refusal stands in the log. */
  send(message) {
    const { size } = this.#chat.outbox;
    this.#chat.send(message).then(
      (receipt) => this.note(receipt),
      (error) => (error.code === STORAGE_FULL ? this.#onProblem(error) : this.draw()));
    return this.#chat.outbox.size > size;
  }

  #retry({ key, message }, changes) {
    this.#chat.discard(key);
    if (!this.send({ ...message, ...changes })) this.#onEdit(message.text);
  }

  // Discarded first: the draft needs the room that the message has in storage.
  #edit({ key, message }) {
    this.#chat.discard(key);
    this.#onEdit(message.text);
  }

  async #recall(position) {
    try {
      await this.#chat.call("message.recall", { conversation: this.#name, position });
    } catch (error) {
      this.#onProblem(error);
    }
  }

  async #loadEarlier() {
    const fromEnd = this.element.scrollHeight - this.element.scrollTop;
    try {
      await this.#chat.older(this.#name);
    } catch (error) {
      return this.#onProblem(error);
    }
    this.draw();
    this.element.scrollTop = this.element.scrollHeight - fromEnd;
  }

  #isAtEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.element;
    return scrollHeight - scrollTop - clientHeight < NEAR_PX;
  }

  #toEnd() {
    this.element.scrollTop = this.element.scrollHeight;
    this.#newer.hidden = true;
  }

  #seen() {
    if (!this.#isAtEnd()) return;
    this.#newer.hidden = true;
    const last = this.#chat.timelines.get(this.#name)?.entries.at(-1);
    const visible = document.visibilityState === "visible" && this.element.clientHeight > 0;
    if (last && visible && this.#loaded) {
      this.#chat.read(this.#name, last.position).catch((error) => error.temporary || this.#onProblem(error));
    }
  }
}

/** The conversation that a message goes to. */
export function conversationOf({ type, to }, user) {
  return type === "private" ? `private:${[user, to].sort().join("~")}` : `${type}:${to}`;
}
