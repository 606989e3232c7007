// What `/qunxin.js` does where a server, a network or a browser is at its worst, with time in hand.

import assert from "node:assert/strict";
import { test } from "node:test";
import { answer, device, pass, QunxinError, row, said, sockets, storage, sub, token, turn, welcome } from "./browser.mjs";

const INBOX = "inbox:alice";
const inbox = { [INBOX]: sub(INBOX, 1) };
const MESSAGE = { type: "group", to: "tea", text: "你好 🍵" };
const MUTED = { code: 1105, message: "您在本群已被禁言" };
const BUSY = { code: 1301, message: "请求过于频繁，请稍后重试 (0.5 s)", temporary: true };
const FULL = { code: 1011, message: "订阅数量已达上限 300" };

const answerOf = async (promise) => promise.then((value) => ["accepted", value], (error) => ["refused", error]);

// --- beginning, with what storage and tokens bring ---

test("what is no token is asked for again later", async () => {
  const given = ["<html>502 网关 🚧</html>", undefined, "", "a.b.c", token("alice")];
  const { chat } = device({ getToken: async () => given.shift() });
  chat.start();
  while (given.length) {
    const left = given.length;
    await turn();
    assert.equal(chat.state, "waiting");
    while (given.length === left) await pass(100);
  }
  await welcome(chat, inbox);
  assert.equal(chat.state, "connected");
  chat.close();
});

test("no token ends it, and a getToken that throws at once does not", async () => {
  for (const getToken of [() => { throw new Error("离线 📴"); }, () => Promise.reject()]) {
    const { chat } = device({ getToken });
    chat.start();
    await turn();
    assert.equal(chat.state, "waiting");
    chat.close();
  }
  const { chat: other } = device({ getToken: async () => null });
  other.start();
  await turn();
  assert.deepEqual([other.state, other.end], ["ended", { reason: "signed out" }]);
});

test("a message sent before the first token goes out although storage is full", async () => {
  const { chat } = device();
  const outcome = chat.send(MESSAGE);
  storage.full = true;
  chat.start();
  const { socket } = await welcome(chat, inbox);
  assert.equal(chat.outbox.size, 1);
  socket.take("rpc"); // the list
  const sent = await answer(socket, "rpc", { rpc: { data: { position: 7 } } });
  assert.deepEqual([sent.method, sent.data.text], ["message.send", MESSAGE.text]);
  assert.deepEqual(await outcome, { position: 7 });
  assert.equal(chat.outbox.size, 0);
  chat.close();
});

test("a message that storage has no room for is refused, and is not sent", async () => {
  const { chat } = device();
  chat.start();
  const { socket } = await welcome(chat, inbox, []);
  storage.full = true;
  const [outcome, error] = await answerOf(chat.send(MESSAGE));
  assert.equal(outcome, "refused");
  assert.ok(error instanceof QunxinError);
  assert.deepEqual([error.code, error.message, error.temporary], [1, "已满 📦", false]);
  assert.deepEqual([chat.outbox.size, socket.take("rpc")], [0, undefined]);
  chat.close();
});

test("a refusal that storage has no room for is told, and holds up nothing", async () => {
  const { chat } = device();
  chat.start();
  const { socket } = await welcome(chat, inbox, []);
  const first = answerOf(chat.send(MESSAGE));
  const second = chat.send({ ...MESSAGE, text: "第二 2️⃣" });
  storage.full = true;
  await answer(socket, "rpc", { error: MUTED });
  assert.equal((await first)[1].code, MUTED.code);
  assert.deepEqual([...chat.outbox.values()].map(({ error }) => error?.code), [MUTED.code, undefined]);
  await pass(1);
  const sent = await answer(socket, "rpc", { rpc: { data: { position: 2 } } });
  assert.equal(sent.data.text, "第二 2️⃣");
  assert.deepEqual(await second, { position: 2 });
  chat.close();
});

test("what is forgotten while it is under way stays forgotten", async () => {
  const { chat } = device();
  chat.start();
  const { socket } = await welcome(chat, inbox, []);
  const outcome = answerOf(chat.send(MESSAGE));
  chat.discard([...chat.outbox.keys()][0]);
  await answer(socket, "rpc", { error: MUTED });
  assert.equal((await outcome)[0], "refused");
  assert.equal(chat.outbox.size, 0);
  chat.close();
});

test("messages that wait in storage go out in the order in which they were written", async () => {
  const { chat } = device();
  chat.start();
  await welcome(chat, inbox, []);
  await sockets.at(-1).end();
  for (let n = 0; n < 12; n += 1) chat.send({ ...MESSAGE, text: `第 ${n} 条` });
  chat.close();
  const { chat: again } = device({ keep: true });
  again.send({ ...MESSAGE, text: "新的 🆕" });
  again.start();
  await welcome(again, inbox, []);
  const texts = [...again.outbox.values()].map(({ message }) => message.text);
  assert.deepEqual(texts, [...Array.from({ length: 12 }, (_, n) => `第 ${n} 条`), "新的 🆕"]);
  again.close();
});

// --- the end is the end ---

async function stays(chat) {
  const before = sockets.length;
  await pass(60_000);
  assert.deepEqual([chat.state, sockets.length], ["ended", before]);
}

test("close() holds while conversations are being followed", async () => {
  const { chat } = device();
  chat.start();
  const { socket } = await welcome(chat, inbox, [row("group:tea", 5), row("group:old", 5)]);
  assert.equal(socket.take("subscribe").subscribe.channel, "group:tea");
  chat.close();
  await stays(chat);
});

test("close() holds when a handler calls it", async () => {
  const { chat, told } = device();
  chat.addEventListener("state", () => chat.state === "connected" && chat.close());
  chat.start();
  await welcome(chat, inbox);
  await stays(chat);
  const { chat: other } = device();
  other.addEventListener("reload", () => other.close());
  other.start();
  await welcome(other, { ...inbox, "group:tea": sub("group:tea", 9, { reload: true }) });
  await stays(other);
  assert.deepEqual(told, []);
});

test("close() holds while a token is being renewed", async () => {
  let asked = 0;
  let give;
  const getToken = () => (asked += 1) === 1 ? token("alice") : new Promise((resolve) => { give = resolve; });
  const { chat } = device({ getToken });
  chat.start();
  await welcome(chat, inbox, [], { ttl: 10 });
  await pass(8_000);
  assert.equal(asked, 2);
  chat.close();
  give(token("alice"));
  await stays(chat);
  assert.equal(asked, 2);
});

test("a token that could not be renewed is asked for again, on the same connection", async () => {
  const given = [token("alice"), Promise.reject(new Error("离线 📴")), token("alice")];
  given[1].catch(() => {});
  const { chat } = device({ getToken: async () => given.shift() });
  chat.start();
  const { socket } = await welcome(chat, inbox, [], { ttl: 10 });
  await pass(8_000);
  assert.equal(given.length, 1);
  await pass(5_000);
  const { token: second } = await answer(socket, "refresh", { refresh: { ttl: 10 } });
  assert.equal(second, token("alice"));
  assert.equal(chat.state, "connected");
  chat.close();
});

test("a message over the hard limit is refused, and everything else goes on", async () => {
  const { chat } = device();
  chat.start();
  const { socket } = await welcome(chat, inbox, []);
  const large = answerOf(chat.send({ type: "private", to: "bob", text: "长".repeat(400_000) }));
  const small = chat.send(MESSAGE);
  const asked = answerOf(chat.call("user.get", { user: "bob" }));
  await socket.end(4509, "a frame over the hard limit");
  const [outcome, error] = await large;
  assert.deepEqual([outcome, error.code, error.temporary], ["refused", 1008, false]);
  assert.equal((await asked)[1].code, 0);
  assert.equal(chat.state, "waiting");
  await pass(2_000);
  const { socket: next } = await welcome(chat, inbox, []);
  const again = await answer(next, "rpc", { rpc: { data: { position: 8 } } });
  assert.equal(again.data.text, MESSAGE.text);
  assert.deepEqual(await small, { position: 8 });
  assert.equal(next.sent.length, 0);
  assert.deepEqual([...chat.outbox.values()].map((item) => item.error.code), [1008]);
  chat.close();
  const { chat: reloaded } = device({ keep: true });
  reloaded.start();
  const { socket: third } = await welcome(reloaded, inbox, []);
  assert.equal(third.sent.length, 0);
  reloaded.close();
});

test("a connect command over the hard limit is no message, and ends it", async () => {
  const { chat } = device();
  chat.start();
  await turn();
  await sockets.at(-1).end(4509, "a frame over the hard limit");
  assert.deepEqual([chat.state, chat.end.code], ["ended", 4509]);
  await stays(chat);
});

// --- following ---

test("what a connection does not begin with is followed one by one, from its place", async () => {
  const { chat, seen, told } = device();
  chat.start();
  const { socket } = await welcome(chat, { ...inbox, "group:tea": sub("group:tea", 5) });
  const list = [row("group:tea", 5), row("group:old", 3), row("group:new", 1)];
  const asked = await answer(socket, "rpc", { rpc: { data: { conversations: list, next_cursor: null } } });
  assert.equal(asked.method, "user.conversations");
  assert.deepEqual([...chat.conversations.keys()], [INBOX, "group:tea", "group:old", "group:new"]);
  const { id, subscribe } = socket.take("subscribe");
  assert.deepEqual(subscribe, { channel: "group:old", recover: false });
  assert.equal(socket.take("subscribe"), undefined);
  // What follows in the same frame is not lost.
  await socket.say({ id, subscribe: sub("group:old", 3) }, said("group:old", 4, "老 👴"));
  assert.deepEqual(seen, [["group:old", 4]]);
  await answer(socket, "subscribe", { subscribe: sub("group:new", 1) });
  await socket.end();
  await pass(1_000);
  const { socket: next } = await welcome(chat, inbox, list);
  assert.equal(next.take("subscribe").subscribe.offset, 5);
  assert.deepEqual(told, []);
  chat.close();
});

test("a follow that is refused for a time is asked again then, on the same connection", async () => {
  const { chat } = device();
  chat.start();
  const { socket } = await welcome(chat, inbox, [row("group:a", 1), row("group:b", 1)]);
  const before = sockets.length;
  await answer(socket, "subscribe", { error: BUSY });
  await pass(400);
  assert.equal(socket.sent.length, 0);
  await pass(200);
  await answer(socket, "rpc", { rpc: { data: { conversations: [row("group:a", 1), row("group:b", 1)] } } });
  for (const name of ["group:a", "group:b"]) {
    const asked = await answer(socket, "subscribe", { subscribe: sub(name, 1) });
    assert.equal(asked.channel, name);
  }
  await pass(5_000);
  assert.equal(socket.sent.length, 0);
  assert.deepEqual([chat.state, sockets.length], ["connected", before]);
  chat.close();
});

test("what came by itself while others were followed is not asked for again", async () => {
  const { chat } = device();
  chat.start();
  const { socket } = await welcome(chat, inbox, [row("group:a", 1), row("group:b", 1), row("group:c", 1)]);
  await socket.say({ push: { channel: "group:b", subscribe: sub("group:b", 1) } });
  for (const name of ["group:a", "group:c"]) {
    const asked = await answer(socket, "subscribe", { subscribe: sub(name, 1) });
    assert.equal(asked.channel, name);
  }
  assert.equal(socket.sent.length, 0);
  chat.close();
});

test("a list that is refused for a time is asked for again then", async () => {
  const { chat } = device();
  chat.start();
  const { socket } = await welcome(chat, inbox);
  await answer(socket, "rpc", { error: BUSY });
  await pass(500);
  await answer(socket, "rpc", { rpc: { data: { conversations: [row("group:a", 1)] } } });
  assert.equal(socket.take("subscribe").subscribe.channel, "group:a");
  assert.equal(chat.state, "connected");
  chat.close();
});

test("what there is no room to follow is told once, and goes on from its place when it is followed", async () => {
  const { chat, told } = device();
  chat.start();
  const list = [row("group:a", 1), row("group:old", 3)];
  const { socket } = await welcome(chat, { ...inbox, "group:old": sub("group:old", 3) }, list);
  await socket.say(said("group:old", 4, "老 👴"));
  await socket.end();
  await pass(1_000);
  const { socket: second } = await welcome(chat, { ...inbox, "group:a": sub("group:a", 1) }, list);
  await answer(second, "subscribe", { error: FULL });
  await pass(1_000);
  const asked = await answer(second, "rpc", { rpc: { data: { conversations: list.slice(0, 1) } } });
  assert.equal(asked.data.limit, 2);
  assert.deepEqual(told, ["group:old"]);
  assert.equal(chat.conversations.get("group:old").last, undefined);
  await second.end();
  await pass(1_000);
  const { socket: third } = await welcome(chat, { ...inbox, "group:a": sub("group:a", 1) }, list.slice(0, 1));
  assert.deepEqual(told, ["group:old"]);
  const opened = chat.open("group:old");
  const { recover, offset } = third.take("subscribe").subscribe;
  assert.deepEqual([recover, offset], [true, 4]);
  chat.close();
  await assert.rejects(opened);
});

// --- coming back ---

const ceased = (position, reason = "removed") => ({
  push: { channel: INBOX, pub: { offset: position, data: {
    type: "ceased", conversation: INBOX, position, time: 5, conversation_left: "group:tea", last: 4, reason,
  } } },
});

test("removed and added again while away, one is in it", async () => {
  const { chat } = device();
  chat.start();
  const { socket } = await welcome(chat, { ...inbox, "group:tea": sub("group:tea", 3) }, []);
  await socket.say(ceased(2));
  assert.equal(chat.conversations.get("group:tea").ended, "");
  chat.close();
});

test("removed while away, one is told, and that what one has may have gaps", async () => {
  const { chat, told } = device();
  chat.start();
  const { socket } = await welcome(chat, { ...inbox, "group:tea": sub("group:tea", 3) }, []);
  await socket.end();
  await pass(1_000);
  const { socket: next } = await welcome(chat, inbox, []);
  await next.say(ceased(2));
  assert.equal(chat.conversations.get("group:tea").ended, "removed");
  assert.deepEqual(told, ["group:tea"]);
  chat.close();
});

test("removed while there, nothing is missing, and nothing is told", async () => {
  const { chat, told } = device();
  chat.start();
  const { socket } = await welcome(chat, { ...inbox, "group:tea": sub("group:tea", 3) }, []);
  await socket.say({ push: { channel: "group:tea", unsubscribe: { code: 2101, reason: "removed" } } }, ceased(2));
  assert.equal(chat.conversations.get("group:tea").ended, "removed");
  await socket.end();
  await pass(1_000);
  const { connect } = await welcome(chat, inbox, []);
  assert.equal(connect.data.positions["group:tea"].offset, 3); // where it goes on if one comes in again
  assert.deepEqual(told, []);
  chat.close();
});

test("a handler of reload opens the conversation at once", async () => {
  const { chat } = device();
  const opened = [];
  chat.addEventListener("reload", ({ detail }) => opened.push(answerOf(chat.open(detail.conversation))));
  chat.start();
  const { socket } = await welcome(chat, { ...inbox, "group:tea": sub("group:tea", 9, { reload: true }) }, []);
  assert.equal(opened.length, 1);
  const entries = [said("group:tea", 9, "最新 🆕").push.pub.data];
  const asked = await answer(socket, "rpc", { rpc: { data: { entries } } });
  assert.equal(asked.method, "conversation.entries");
  const [outcome, timeline] = await opened[0];
  assert.deepEqual([outcome, timeline.entries.length], ["accepted", 1]);
  chat.close();
});

test("promise 7: a last message that was recalled while away is not in the list", async () => {
  const { chat } = device();
  chat.start();
  const { socket } = await welcome(chat, { ...inbox, "group:tea": sub("group:tea", 3) }, []);
  await socket.say(said("group:tea", 4, "秘密 🤐"));
  assert.equal(chat.conversations.get("group:tea").last.position, 4);
  await socket.end();
  await pass(1_000);
  await welcome(chat, { ...inbox, "group:tea": sub("group:tea", 5, { reload: true }) }, []);
  assert.equal(chat.conversations.get("group:tea").last, undefined);
  chat.close();
});

test("an older page brings no content of what was recalled", async () => {
  const { chat } = device();
  chat.start();
  const { socket } = await welcome(chat, { ...inbox, "group:tea": sub("group:tea", 3) }, []);
  const opened = chat.open("group:tea");
  await turn();
  const page = socket.take("rpc");
  const recalled = { type: "recalled", conversation: "group:tea", position: 4, time: 5, target: 3 };
  await socket.say({ push: { channel: "group:tea", pub: { offset: 4, data: recalled } } });
  const entries = [said("group:tea", 3, "秘密 🤐").push.pub.data];
  await socket.say({ id: page.id, rpc: { data: { entries } } });
  const [message] = (await opened).entries;
  assert.deepEqual([message.content, message.recalled], [undefined, 4]);
  chat.close();
});
