// People's display names, looked up once each, a few at a time.

const AT_ONCE = 4;

export class Names extends EventTarget {
  #chat;
  #known = new Map();
  #waiting = [];
  #running = 0;

  constructor(chat) {
    super();
    this.#chat = chat;
  }

  /** The name of `user`; their id until it is known. `change` is dispatched when names came. */
  of(user) {
    if (!this.#known.has(user)) {
      this.#known.set(user, user);
      this.#waiting.push(user);
      this.#run();
    }
    return this.#known.get(user);
  }

  isMe(user) {
    return user === this.#chat.user;
  }

  #run() {
    while (this.#running < AT_ONCE && this.#waiting.length) {
      this.#running += 1;
      this.#load(this.#waiting.shift());
    }
  }

  async #load(user) {
    try {
      const { name } = await this.#chat.call("user.get", { user });
      if (name) this.#known.set(user, name);
      this.dispatchEvent(new Event("change"));
    } catch (error) {
      if (error.temporary) this.#known.delete(user); // asked again when it is shown again
    }
    this.#running -= 1;
    this.#run();
  }
}
