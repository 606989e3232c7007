// Qunxin 群信 for browsers: see docs/how-to/javascript-module.md.

const PATIENCE_MS = 12_000;

// A refusal by its number; 0: no answer, the outcome is unknown.
export class QunxinError extends Error {
	constructor({ code = 0, message = "the connection broke", temporary = !code } = {}) {
		super();
		const retryAfterMs = 1000 * (/\(([\d.]+) s\)$/.exec(message)?.[1] ?? 1);
		Object.assign(this, { code, message, temporary, retryAfterMs });
	}
}

// `complete`: nothing is older.
export class Timeline {
	entries = [];
	#recalls = new Map();

	add(entries) {
		for (const { target, position } of entries) if (target) this.#recalls.set(target, position);
		const all = new Map([...entries, ...this.entries].map((entry) => [entry.position, entry]));
		this.entries = [...all.values()].sort((a, b) => a.position - b.position);
		for (const entry of this.entries) {
			const recalled = this.#recalls.get(entry.position);
			if (recalled) Object.assign(entry, { content: undefined, recalled });
		}
	}
}

// One user's connection. Emits `state`, `conversations`, `outbox`, `entry` and `reload`.
export class Chat extends EventTarget {
	state = "new"; // connecting, connected, waiting (to come back), ended (`end` says why)
	end = null;
	user = null;
	conversations = new Map();
	timelines = new Map();
	outbox = new Map(); // by key: { message, error }
	#options;
	#storage;
	#socket = null;
	#calls = new Map();
	#lastId = 0;
	#turn = 0;
	#attempt = 0;
	#silenceMs = 0;
	#prefix = "qunxin::";
	#at = {};
	#followed = new Set();
	#busy = new Set(); // addresses with a message under way
	#promises = new Map();
	#timers = {};

	// `getToken`: async; throwing means later, null signed out. `language`: of errors, en or zh.
	constructor({ getToken, url = "/connection/websocket", language, storage = localStorage }) {
		super();
		const address = new URL(url, import.meta.url);
		address.protocol = address.protocol.replace("http", "ws");
		this.#options = { getToken, url: address, language };
		this.#storage = storage;
		addEventListener("online", () => this.state === "waiting" && this.start());
		addEventListener("pagehide", this.#save);
	}

	close(end = {}) {
		this.#drop();
		this.end = end;
		this.#become("ended");
	}

	// End, and delete what is kept of the user.
	forget() {
		this.close({ reason: "signed out" });
		this.#stored("").forEach((name) => this.#storage.removeItem(name));
		this.user = null;
		[this.conversations, this.timelines, this.outbox].forEach((map) => map.clear());
	}

	async call(method, data = {}) {
		const { rpc } = await this.#request({ rpc: { method, data } });
		return rpc.data;
	}

	// Keep a message, and send it until it is accepted or refused, also after a reload.
	send(message) {
		const key = btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(18))));
		const turn = (this.#turn = Math.max(Date.now(), this.#turn + 1));
		const receipt = new Promise((...settle) => this.#promises.set(key, settle));
		receipt.catch(() => {}); // the outbox tells it too
		this.#keep({ key, turn, message: { ...message, key } });
		this.#pump();
		return receipt;
	}

	discard(key) {
		this.outbox.delete(key);
		this.#promises.delete(key);
		this.#storage.removeItem(`${this.#prefix}out:${key}`);
		this.#emit("outbox");
	}

	// A conversation's newest page, kept up to date.
	async open(name) {
		if (!this.#followed.has(name)) await this.#follow(name);
		if (!this.timelines.get(name)?.before) await this.older(name);
		return this.timelines.get(name);
	}

	async older(conversation, limit = 50) {
		const timeline = this.timelines.get(conversation) ?? new Timeline();
		this.timelines.set(conversation, timeline);
		const { before } = timeline;
		const { entries } = await this.call("conversation.entries", { conversation, before, limit });
		timeline.add(entries);
		if (entries[0]) timeline.before = entries[0].first ?? entries[0].position;
		timeline.complete = !entries[0] || timeline.before <= 1;
	}

	async read(conversation, position) {
		const row = this.conversations.get(conversation);
		if (!row || position <= row.read || this.state !== "connected") return;
		row.read = position;
		if (position >= row.head) row.unread = 0;
		this.#emit("conversations");
		await this.call("cursor.read", { conversation, position });
	}

	start = async () => {
		this.#drop();
		this.#become("connecting");
		const attempt = (this.#socket = {});
		const token = await this.#options.getToken().catch(() => undefined);
		if (attempt !== this.#socket) return;
		if (token === undefined) return this.#later();
		if (!token) return this.close({ reason: "signed out" });
		const { sub } = JSON.parse(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")));
		if (!this.user) this.#own(sub);
		if (this.user !== sub) return this.close({ reason: "another user" });
		const socket = (this.#socket = new WebSocket(this.#options.url));
		const current = () => socket === this.#socket;
		this.#timer("watch", PATIENCE_MS, this.#later);
		socket.onmessage = ({ data }) =>
			data.split("\n").forEach((line) => current() && line && this.#receive(JSON.parse(line)));
		socket.onclose = (event) => current() && this.#lost(event);
		socket.onopen = async () => {
			const data = { positions: this.#at, language: this.#options.language };
			try {
				await this.#request({ connect: { token, name: "qunxin-js", data } });
			} catch ({ code, message: reason, temporary }) {
				if (!current()) return;
				temporary || code === 109 ? this.#later() : this.close({ code, reason });
			}
		};
	};

	#lost({ code, reason }) {
		if (code >= 3500 && code % 1000 >= 500) this.close({ code, reason });
		else this.#later();
	}

	#later = () => {
		this.#drop();
		this.#become("waiting");
		const most = Math.min(20_000, 300 * 2 ** this.#attempt++);
		this.#timer("retry", most * (0.5 + Math.random() / 2), this.start);
	};

	#drop() {
		this.#save();
		Object.values(this.#timers).forEach(clearTimeout);
		this.#socket?.close?.();
		this.#socket = null;
		this.#followed.clear();
		for (const id of this.#calls.keys()) this.#answer(id, new QunxinError());
	}

	#timer(name, ms, act) {
		clearTimeout(this.#timers[name]);
		this.#timers[name] = setTimeout(act, Math.min(ms, 2e9));
	}

	#request(command) {
		const id = ++this.#lastId;
		return new Promise((resolve, reject) => {
			if (!command.connect && this.state !== "connected") return reject(new QunxinError());
			const timer = setTimeout(() => this.#answer(id, new QunxinError()), PATIENCE_MS);
			this.#calls.set(id, { resolve, reject, timer });
			this.#socket.send(JSON.stringify({ id, ...command }));
		});
	}

	#answer(id, error, reply) {
		const call = this.#calls.get(id);
		clearTimeout(call?.timer);
		this.#calls.delete(id);
		error ? call?.reject(error) : call?.resolve(reply);
	}

	#receive({ id, error, push, ...reply }) {
		if (reply.connect) this.#welcome(reply.connect);
		this.#timer("watch", this.#silenceMs, this.#later);
		if (push) this.#push(push.channel, push);
		else if (id) this.#answer(id, error && new QunxinError(error), reply);
		else this.#socket?.send("{}"); // a pong: all before it has arrived
	}

	// At once: entries may follow in the same frame.
	#welcome({ subs, ping, ttl }) {
		this.#attempt = 0;
		this.#silenceMs = 1000 * ping + PATIENCE_MS;
		if (ttl) this.#timer("refresh", 800 * ttl, this.#refresh);
		Object.entries(subs).forEach(([name, sub]) => this.#subscribed(name, sub));
		this.#become("connected");
		this.#emit("conversations");
		for (const name of this.timelines.keys()) {
			if (!this.#followed.has(name)) this.#follow(name).catch(() => this.#later());
		}
		this.#pump();
	}

	#refresh = async () => {
		try {
			const token = await this.#options.getToken();
			const { ttl } = (await this.#request({ refresh: { token } })).refresh;
			if (ttl) this.#timer("refresh", 800 * ttl, this.#refresh);
		} catch {
			this.#timer("refresh", 5000, this.#refresh);
		}
	};

	async #follow(channel) {
		const at = this.#at[channel];
		try {
			const reply = await this.#request({ subscribe: { channel, recover: Boolean(at), ...at } });
			this.#subscribed(channel, reply.subscribe);
		} catch (error) {
			// 105: followed already. 1005: a former member, or nobody has written yet.
			if (error.code !== 105 && error.code !== 1005) throw error;
		}
	}

	#subscribed(name, { epoch, offset = 0, data, was_recovering: asked, recovered }) {
		this.#followed.add(name);
		this.#at[name] = { offset, epoch };
		if (data) this.conversations.set(name, { ...this.conversations.get(name), ended: "", ...data });
		if (asked && !recovered) this.#reload(name);
	}

	#reload(name) {
		this.timelines.delete(name);
		this.#emit("reload", name);
	}

	#push(name, { pub, subscribe, unsubscribe, disconnect }) {
		if (pub) this.#published(name, pub.data, pub.offset);
		if (subscribe) this.#subscribed(name, subscribe);
		if (unsubscribe) {
			this.#followed.delete(name);
			Object.assign(this.conversations.get(name) ?? {}, { ended: unsubscribe.reason });
		}
		if (!pub) this.#emit("conversations");
		if (disconnect) this.#lost(disconnect);
	}

	#published(name, entry, offset) {
		const at = this.#at[name];
		if (!(offset > at?.offset)) return;
		if ((entry.first ?? offset) > at.offset + 1) this.#reload(name); // never a silent gap
		this.timelines.get(name)?.add([entry]);
		this.#apply(name, entry);
		this.#emit("entry", name, entry);
		this.#at[name] = { ...at, offset };
		this.#timer("save", 200, this.#save);
	}

	#apply(name, entry) {
		const row = this.conversations.get(entry.conversation_left ?? name);
		if (!row) return;
		if (entry.type === "ceased") row.ended = entry.reason;
		if (entry.content || entry.recalled) {
			row.unread += entry.from !== this.user && entry.position > row.head;
			row.last = entry;
		}
		if (entry.target && entry.target === row.last?.position) {
			Object.assign(row.last, { content: undefined, recalled: entry.position });
		}
		if (entry.type === "changed") {
			if (entry.name) row.name = entry.name;
			if (entry.role && entry.user === this.user) row.role = entry.role;
		}
		if (row.conversation === name) row.head = Math.max(row.head, entry.position);
		row.time = entry.time || row.time;
		this.#emit("conversations");
	}

	#pump() {
		for (const item of this.outbox.values()) {
			const lane = `${item.message.type}:${item.message.to}`;
			if (this.state !== "connected" || item.error || this.#busy.has(lane)) continue;
			this.#busy.add(lane);
			this.#try(lane, item);
		}
	}

	async #try(lane, { key, turn, message }) {
		const [accept, refuse] = this.#promises.get(key) ?? [];
		let pause = 0;
		try {
			const receipt = await this.call("message.send", message);
			this.discard(key);
			accept?.(receipt);
		} catch (error) {
			if (error.temporary) pause = error.retryAfterMs; // and again, with the same key
			else {
				this.#keep({ key, turn, message, error });
				refuse?.(error);
			}
		}
		setTimeout(() => {
			this.#busy.delete(lane);
			this.#pump();
		}, pause);
	}

	#keep(item) {
		if (this.user) this.#storage.setItem(`${this.#prefix}out:${item.key}`, JSON.stringify(item));
		this.outbox.set(item.key, item);
		this.#emit("outbox");
	}

	#own(user) {
		this.user = user;
		this.#prefix = `qunxin:${user}:`;
		this.#at = JSON.parse(this.#storage.getItem(this.#prefix + "at") ?? "{}");
		const items = this.#stored("out:").map((name) => JSON.parse(this.#storage.getItem(name)));
		items.sort((a, b) => a.turn - b.turn).push(...this.outbox.values());
		this.outbox.clear();
		items.forEach((item) => this.#keep(item));
	}

	#stored(kind) {
		return Object.keys(this.#storage).filter((name) => name.startsWith(this.#prefix + kind));
	}

	#save = () => {
		try {
			if (this.user) this.#storage.setItem(this.#prefix + "at", JSON.stringify(this.#at));
		} catch {} // full: some entries come again
	};

	#become(state) {
		this.state = state;
		this.#emit("state");
	}

	#emit(type, conversation, entry) {
		this.dispatchEvent(new CustomEvent(type, { detail: { conversation, entry } }));
	}
}
