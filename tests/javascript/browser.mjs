// What `/qunxin.js` needs of a browser, for Node: storage that can be full, time that stands still,
// and sockets whose other end is written down in the test.

import { mock } from "node:test";

mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_764_547_200_000 });

class Storage {
  getItem(name) {
    return this[name] ?? null;
  }
  setItem(name, text) {
    if (storage.full) throw new DOMException("已满 📦", "QuotaExceededError");
    this[name] = text;
  }
  removeItem(name) {
    delete this[name];
  }
}

export const storage = { full: false };
export const sockets = [];

class Socket {
  sent = [];
  constructor() {
    sockets.push(this);
    queueMicrotask(() => this.onopen());
  }
  send(text) {
    this.sent.push(JSON.parse(text));
  }
  close() {}

  /** The command of this kind that waits longest for its answer, and is answered next. */
  take(kind) {
    const at = this.sent.findIndex((command) => command[kind]);
    return at < 0 ? undefined : this.sent.splice(at, 1)[0];
  }
  /** One frame from the server. */
  async say(...lines) {
    this.onmessage({ data: lines.map((line) => JSON.stringify(line)).join("\n") });
    await turn();
  }
  async end(code = 1006, reason = "") {
    this.onclose({ code, reason });
    await turn();
  }
}

globalThis.WebSocket = Socket;
globalThis.addEventListener = () => {};

/** All that can happen without time passing. */
export const turn = () => new Promise((resolve) => setImmediate(resolve));

/** Time passes, timer by timer. */
export async function pass(ms) {
  for (let left = ms; left > 0; left -= 100) {
    mock.timers.tick(Math.min(left, 100));
    await turn();
  }
}

const { Chat, QunxinError } = await import("../../src/qunxin/web/qunxin.js");
export { QunxinError };

export const token = (user) => `h.${Buffer.from(JSON.stringify({ sub: user })).toString("base64url")}.s`;

export const row = (conversation, head) => ({
  conversation, name: "茶友会 🍵", head, time: 1, role: "member", read: 0, unread: 0,
});

/** A subscription from `offset`; `reload`: what was missed before it does not come. */
export const sub = (conversation, offset, { reload = false, epoch = "e" } = {}) => ({
  epoch, offset, data: row(conversation, offset), was_recovering: reload,
});

export const said = (conversation, position, text) => ({
  push: { channel: conversation, pub: { offset: position, data: {
    type: "group", conversation, position, time: 5, from: "bob", content: [{ type: "text", text }],
  } } },
});

/** A device of Alice's, with what it has told. Storage is new unless `keep`. */
export function device({ getToken = async () => token("alice"), keep = false } = {}) {
  storage.full = false;
  if (!keep) globalThis.localStorage = new Storage();
  const chat = new Chat({ getToken, url: "wss://chat.example/connection/websocket" });
  const told = [];
  chat.addEventListener("reload", ({ detail }) => told.push(detail.conversation));
  const seen = [];
  chat.addEventListener("entry", ({ detail }) => seen.push([detail.conversation, detail.entry.position]));
  return { chat, told, seen };
}

/** Come in: the newest socket, after its connect reply with `subs` and, where `list` is given, the
 * list of conversations. */
export async function welcome(chat, subs = {}, list, { ttl = 0 } = {}) {
  await turn();
  const socket = sockets.at(-1);
  const { id, connect } = socket.take("connect");
  await socket.say({ id, connect: { subs, ping: 25, ttl } });
  if (list) await answer(socket, "rpc", { rpc: { data: { conversations: list, next_cursor: null } } });
  return { socket, connect };
}

/** Answer the oldest command of this kind; what it asked. */
export async function answer(socket, kind, reply) {
  const command = socket.take(kind);
  await socket.say({ id: command.id, ...reply });
  return command[kind];
}
