// One JavaScript client for the tests: tells what happens to it as JSON lines on its output, and does
// what the lines on its input ask for. Its one argument: {url, transport, protobuf, data}.

import { createInterface } from "node:readline";
import { EventSource } from "eventsource";
import WebSocket from "ws";

const options = JSON.parse(process.argv[2]);
const { Centrifuge } = await import(
  options.protobuf ? "centrifuge/build/protobuf" : "centrifuge"
);

const tell = (event, facts = {}) => console.log(JSON.stringify({ event, ...facts }));
const read = (data) =>
  data instanceof Uint8Array ? JSON.parse(new TextDecoder().decode(data) || "null") : data;
const write = (data) => (options.protobuf ? new TextEncoder().encode(JSON.stringify(data)) : data);

let giveToken;
const getToken = () =>
  new Promise((resolve) => {
    giveToken = resolve;
    tell("token");
  });

const client = new Centrifuge(
  [{ transport: options.transport, endpoint: options.url }],
  {
    getToken,
    emulationEndpoint: options.emulation,
    minReconnectDelay: 50,
    maxReconnectDelay: 500,
    eventsource: EventSource,
    websocket: WebSocket,
    data: options.data === null ? null : write(options.data),
  },
);

client.on("connecting", ({ code }) => tell("connecting", { code }));
client.on("connected", () => tell("connected"));
client.on("disconnected", ({ code, reason }) => tell("disconnected", { code, reason }));
client.on("subscribed", ({ channel, wasRecovering, recovered, data }) =>
  tell("subscribed", { channel, wasRecovering, recovered, data: read(data) }),
);
client.on("unsubscribed", ({ channel }) => tell("unsubscribed", { channel }));
client.on("publication", ({ channel, offset, data }) =>
  tell("publication", { channel, offset, data: read(data) }),
);

client.on("join", ({ channel, info }) =>
  tell("join", { channel, user: info.user, client: info.client }),
);
client.on("leave", ({ channel, info }) =>
  tell("leave", { channel, user: info.user, client: info.client }),
);

const calls = {
  subscribe: async ({ channel }) => {
    const subscription = client.newSubscription(channel, { joinLeave: true });
    for (const event of ["join", "leave"]) {
      subscription.on(event, ({ info }) =>
        tell(`${event} of`, { user: info.user, client: info.client }),
      );
    }
    subscription.subscribe();
    await subscription.ready();
  },
  unsubscribe: ({ channel }) => client.getSubscription(channel).unsubscribe(),
  rpc: async ({ method, data }) => read((await client.rpc(method, write(data))).data),
  send: ({ data }) => client.send(write(data)),
  publish: ({ channel, data }) => client.publish(channel, write(data)),
  history: async ({ channel, ...how }) => {
    const { publications, offset } = await client.history(channel, how);
    return { offset, publications: publications.map(({ offset }) => offset) };
  },
  presence: async ({ channel }) =>
    Object.values((await client.presence(channel)).clients).map(({ user }) => user),
  presenceStats: ({ channel }) => client.presenceStats(channel),
};

createInterface({ input: process.stdin }).on("line", async (line) => {
  const { id, call, token, ...fields } = JSON.parse(line);
  if (token !== undefined) {
    giveToken(token);
  } else if (call === "disconnect") {
    client.disconnect();
    process.exit(0);
  } else {
    try {
      tell("result", { id, result: await calls[call](fields) });
    } catch ({ code, message, temporary }) {
      tell("result", { id, error: { code, message, temporary: Boolean(temporary) } });
    }
  }
});

client.connect();
