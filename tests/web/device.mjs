// A device that the end-to-end test drives: commands on stdin, what happens on stdout, one JSON a line.

import { createInterface } from "node:readline";

import { openClient } from "../../localful_ws/web/client.js";
import { TinyWebSocket } from "./tiny_websocket.mjs";

const [url, token] = process.argv.slice(2);
const tell = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
const Base = globalThis.WebSocket ?? TinyWebSocket;
let last;
class Socket extends Base {
  constructor(...rest) { super(...rest); last = this; }
}
const client = openClient(url, async () => token, {
  WebSocket: Socket,
  vaults: ["v1"],
  random: () => 0,
  onStatus: (status) => tell({ status: status.kind, resumed: status.resumed ?? null }),
  onArrival: ({ kind, event, vault, data }) => tell({ kind, event, vault, data }),
});
const commands = {
  subscribe: async (vaults) => tell({ subscribed: await client.subscribe(vaults) }),
  // A cut if the socket can be cut, else a close: the client sees an end that it did not ask for.
  cut: async () => (last.cut ? last.cut() : last.close(4000)),
  close: () => client.close(),
};
const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const [name, argument] = JSON.parse(line);
  commands[name](argument).catch((error) => tell({ error: String(error) }));
});
client.ended.then((error) => {
  tell({ ended: error === null ? null : String(error) });
  lines.close();
});
