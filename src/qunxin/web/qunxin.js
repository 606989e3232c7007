// Qunxin 群信 for browsers: see docs/how-to/javascript-module.md.

const PATIENCE_MS = 12_000;

// 0: no answer, the outcome is unknown. 1: storage is full.
export class QunxinError extends Error {
	constructor({ code = 0, message = "the connection broke", temporary = !code || code === 109 }) {
		super();
		const retryAfterMs = 1000 * (/\(([\d.]+) s\)$/.exec(message)?.[1] ?? 1);
		Object.assign(this, { code, message, temporary, retryAfterMs });
	}
}

const recall = (message, recalled) => message && Object.assign(message, { content: undefined, recalled });

class Timeline {
	entries = [];

	add(entries) {
		const all = new Map([...entries, ...this.entries].map((entry) => [entry.position, entry]));
		this.entries = [...all.values()].sort((a, b) => a.position - b.position);
		for (const { target, position } of this.entries) recall(all.get(target), position);
	}
}

export class Chat extends EventTarget {
	state = "new";
	end = null;
	user = null;
	conversations = new Map();
	timelines = new Map();
	outbox = new Map();
	#options;
	#storage;
	#socket = {};
	#calls = new Map();
	#lastId = 0;
	#turn = 0;
	#attempt = 0;
	#silenceMs;
	#room = 900; // to follow: a server allows 1,000
	#at = {};
	#followed = new Set();
	#sending = new Set();
	#timers = new Map();

	constructor({ url = "/connection/websocket", storage = localStorage, ...options }) {
		super();
		const address = new URL(url, import.meta.url).href.replace(/^http/, "ws");
		this.#options = { address, ...options };
		this.#storage = storage;
		addEventListener("online", () => this.state === "waiting" && this.start());
		addEventListener("pagehide", this.#save);
	}

	close(end = {}) {
		this.#drop();
		this.end = end;
		this.#become("ended");
	}

	forget() {
		this.close({ reason: "signed out" });
		this.#stored("").forEach(([name]) => this.#storage.removeItem(name));
		this.user = null;
		for (const map of [this.conversations, this.timelines, this.outbox]) map.clear();
	}

	call(method, data = {}) {
		return this.#request("rpc", { method, data }, (reply) => reply.data);
	}

	send(message) {
		this.#turn = Math.max(Date.now(), this.#turn + 1);
		const key = [this.#turn, ...crypto.getRandomValues(new Uint32Array(4))].join("-");
		const receipt = new Promise((accept, refuse) =>
			this.#keep({ key, message: { ...message, key }, accept, refuse }),
		);
		receipt.catch(() => {});
		this.#pump();
		return receipt;
	}

	discard(key) {
		this.outbox.delete(key);
		this.#storage.removeItem(this.#name("out:" + key));
		this.#emit("outbox");
	}

	async open(name) {
		await this.#follow(name);
		if (!this.timelines.get(name)?.before) await this.older(name);
		return this.timelines.get(name);
	}

	async older(name) {
		const timeline = this.timelines.get(name) ?? new Timeline();
		this.timelines.set(name, timeline);
		const asked = { conversation: name, before: timeline.before, limit: 50 };
		const { entries } = await this.call("conversation.entries", asked);
		timeline.add(entries);
		const { position = 1, first = position } = entries[0] ?? {};
		timeline.before = first;
		timeline.complete = first <= 1;
	}

	async read(name, position) {
		const row = this.conversations.get(name);
		if (!row || position <= row.read || !this.#live) return;
		row.read = position;
		if (position >= row.head) row.unread = 0;
		this.#emit("conversations");
		await this.call("cursor.read", { conversation: name, position });
	}

	start = async () => {
		this.#drop();
		let socket = this.#socket;
		this.#become("connecting");
		try {
			const token = await this.#options.getToken();
			if (socket !== this.#socket) return;
			if (token === null) return this.close({ reason: "signed out" });
			const { sub } = JSON.parse(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")));
			if (!this.user) this.#own(sub);
			if (this.user !== sub) return this.close({ reason: "another user" });
			socket = this.#socket = new WebSocket(this.#options.address);
			this.#after(PATIENCE_MS, this.#later);
			const take = (line) => line && socket === this.#socket && this.#receive(JSON.parse(line));
			socket.onmessage = ({ data }) => data.split("\n").forEach(take);
			socket.onclose = (event) => socket === this.#socket && this.#lost(event);
			await new Promise((opened) => (socket.onopen = opened));
			const data = { positions: this.#at, language: this.#options.language };
			await this.#request("connect", { token, name: "qunxin-js", data }, this.#welcome);
		} catch (error) {
			if (socket === this.#socket) this.#lost(Object(error), error?.temporary === false);
		}
	};

	#lost({ code, message, reason = message }, final = code >= 3500 && code % 1000 >= 500) {
		const [largest] = [...this.#calls.values()].sort((a, b) => b.size - a.size);
		if (code === 4509 && this.#live) largest?.({ code: 1008, message: reason });
		else if (final) return this.close({ code, reason });
		this.#later();
	}

	#later = () => {
		this.#drop();
		this.#become("waiting");
		const most = Math.min(20_000, 300 * 2 ** this.#attempt++);
		this.#after(most * (0.5 + Math.random() / 2), this.start);
	};

	#drop() {
		this.#save();
		this.#timers.forEach((timer) => clearTimeout(timer));
		this.#socket.close?.();
		this.#socket = {};
		this.#followed.clear();
		for (const settle of this.#calls.values()) settle({});
	}

	#after(ms, act) {
		clearTimeout(this.#timers.get(act));
		this.#timers.set(act, setTimeout(act, Math.min(ms, 2e9)));
	}

	// `take`: at once, as entries may follow in the same frame.
	#request(kind, fields, take = (reply) => reply) {
		const id = ++this.#lastId;
		return new Promise((resolve, reject) => {
			const settle = (error, reply) => {
				clearTimeout(timer);
				this.#calls.delete(id);
				error ? reject(new QunxinError(error)) : resolve(take(reply[kind]));
			};
			const timer = setTimeout(settle, PATIENCE_MS, {});
			if (kind !== "connect" && !this.#live) return settle({});
			const text = JSON.stringify({ id, [kind]: fields });
			settle.size = text.length;
			this.#calls.set(id, settle);
			this.#socket.send(text);
		});
	}

	#receive({ id, error, push, ...reply }) {
		if (push) this.#push(push);
		else if (id) this.#calls.get(id)?.(error, reply);
		else this.#socket.send("{}"); // a pong: all before it has arrived
		if (this.#live) this.#after(this.#silenceMs, this.#later);
	}

	#welcome = ({ subs, ping, ttl }) => {
		this.#attempt = 0;
		this.#silenceMs = 1000 * ping + PATIENCE_MS;
		if (ttl) this.#after(800 * ttl, this.#refresh);
		this.state = "connected"; // for handlers of `reload`
		for (const name in subs) this.#subscribed(name, subs[name]);
		if (!this.#live) return;
		this.#followRest();
		this.#emit("state");
		this.#pump();
	};

	#refresh = async () => {
		try {
			const token = await this.#options.getToken();
			const { ttl } = await this.#request("refresh", { token });
			if (ttl) this.#after(800 * ttl, this.#refresh);
		} catch {
			if (this.#live) this.#after(5000, this.#refresh);
		}
	};

	// Beyond the most recent.
	#followRest = async () => {
		try {
			const { conversations } = await this.call("user.conversations", { limit: this.#room });
			const rows = conversations.filter((row) => !this.#followed.has(row.conversation));
			rows.forEach(this.#show);
			this.#emit("conversations");
			for (const row of rows) await this.#follow(row.conversation);
			for (const [name, at] of Object.entries(this.#at)) {
				if (this.#followed.has(name) || at.told) continue;
				at.told = true;
				this.#reload(name);
			}
		} catch (error) {
			if (!this.#live) return;
			if (error.code === 1011) this.#room = this.#followed.size;
			else if (!error.temporary) throw error;
			this.#after(error.retryAfterMs, this.#followRest);
		}
	};

	async #follow(channel) {
		if (this.#followed.has(channel)) return;
		const at = this.#at[channel];
		const fields = { channel, recover: !!at, ...at };
		const begin = (sub) => this.#subscribed(channel, sub);
		await this.#request("subscribe", fields, begin).catch((error) => {
			// 105: followed already. 1005: a former member, or nobody has written yet.
			if (![105, 1005].includes(error.code)) throw error;
		});
	}

	#subscribed(name, { epoch, offset, data, was_recovering: asked, recovered }) {
		this.#followed.add(name);
		if (data) this.#show(data);
		if (asked && !recovered) this.#reload(name);
		this.#at[name] = { offset, epoch };
	}

	#show = (row) => {
		const known = this.conversations.get(row.conversation);
		this.conversations.set(row.conversation, { ...known, ended: "", ...row });
	};

	#reload(name) {
		this.timelines.delete(name);
		delete this.conversations.get(name)?.last;
		this.#emit("reload", name);
	}

	#push({ channel: name, pub, subscribe, unsubscribe }) {
		if (pub) return this.#published(name, pub.data);
		if (subscribe) this.#subscribed(name, subscribe);
		if (unsubscribe && this.#followed.delete(name)) {
			this.#at[name].told = true;
			this.#show({ conversation: name, ended: unsubscribe.reason });
		}
		this.#emit("conversations");
	}

	#published(name, entry) {
		const { position, first = position } = entry;
		const at = this.#at[name];
		if (!(position > at?.offset)) return;
		if (first > at.offset + 1) this.#reload(name); // never a silent gap
		this.timelines.get(name)?.add([entry]);
		this.#apply(name, entry);
		this.#emit("entry", name, entry);
		at.offset = position;
		this.#after(200, this.#save);
	}

	#apply(name, entry) {
		const about = entry.conversation_left ?? name;
		const row = this.conversations.get(about);
		if (!row) return;
		if (!this.#followed.has(about)) row.ended = entry.reason;
		if (entry.content || entry.recalled) {
			row.unread += entry.from !== this.user && entry.position > row.head;
			row.last = entry;
		}
		if (row.last?.position === entry.target) recall(row.last, entry.position);
		if (entry.name) row.name = entry.name;
		if (entry.role && entry.user === this.user) row.role = entry.role;
		if (about === name) row.head = Math.max(row.head, entry.position);
		row.time = entry.time || row.time;
		this.#emit("conversations");
	}

	#pump() {
		for (const item of this.outbox.values()) {
			const lane = `${item.message.type}:${item.message.to}`;
			if (!this.#live || item.error || this.#sending.has(lane)) continue;
			this.#sending.add(lane);
			this.#try(item).then((pauseMs = 0) => setTimeout(() => {
				this.#sending.delete(lane);
				this.#pump();
			}, pauseMs));
		}
	}

	async #try(item) {
		try {
			const receipt = await this.call("message.send", item.message);
			this.discard(item.key);
			item.accept?.(receipt);
		} catch (error) {
			if (error.temporary) return error.retryAfterMs; // and again, with the same key
			if (this.outbox.has(item.key)) this.#keep(Object.assign(item, { error }));
			item.refuse?.(error);
		}
	}

	#keep(item) {
		const { message } = this.#store(`out:${item.key}`, item) ?? {};
		if (message && !this.outbox.has(item.key)) throw new QunxinError({ code: 1, message });
		this.outbox.set(item.key, item);
		this.#emit("outbox");
	}

	#store(name, value) {
		try {
			if (this.user) this.#storage.setItem(this.#name(name), JSON.stringify(value));
		} catch (error) {
			return error;
		}
	}

	#own(user) {
		this.user = user;
		this.#at = JSON.parse(this.#storage.getItem(this.#name("at")) ?? "{}");
		const stored = this.#stored("out:").map(([, text]) => JSON.parse(text));
		const items = [...stored, ...this.outbox.values()];
		this.outbox.clear();
		for (const item of items) {
			this.outbox.set(item.key, item);
			this.#keep(item);
		}
	}

	#name(kind) {
		return `qunxin:${this.user ?? ""}:${kind}`;
	}

	#stored(kind) {
		const all = Object.entries(this.#storage).sort();
		return all.filter(([name]) => name.startsWith(this.#name(kind)));
	}

	#save = () => this.#store("at", this.#at); // full: some entries come again

	get #live() {
		return this.state === "connected";
	}

	#become(state) {
		this.state = state;
		this.#emit("state");
	}

	#emit(type, conversation, entry) {
		this.dispatchEvent(new CustomEvent(type, { detail: { conversation, entry } }));
	}
}
