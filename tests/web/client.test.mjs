// The driver, with a WebSocket and a clock that the test holds in its hands.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  ClientClosedError, ClosedByServerError, NoAnswerError, openClient, RequestRefusedError, ServerMessageError,
  TokenUnavailableError,
} from "../../localful_ws/web/client.js";
import { Clock, settle } from "./clock.mjs";

function world(options = {}, getToken = undefined) {
  const clock = new Clock();
  const sockets = [];
  const statuses = [];
  const network = new EventTarget();
  class Socket {
    sent = [];
    closedWith = null;
    constructor(url, protocols) { Object.assign(this, { url, protocols }); sockets.push(this); }
    send(text) { this.sent.push(JSON.parse(text)); }
    close(code, reason) { this.closedWith ??= [code, reason]; }
    say(message) { this.onmessage?.({ data: typeof message === "object" ? JSON.stringify(message) : message }); }
    end(code = 1006, reason = "") { this.onclose?.({ code, reason }); }
    async accept(changes = {}) {
      this.onopen();
      const { vaults, since, id } = this.sent.at(-1);
      const resumed = since === undefined ? {} : { resumed: true };
      this.say({ event: "authenticated", user: "ada", group: "g", expiresAt: 9, vaults, cursor: "c0", ...resumed, id, ...changes });
      await settle();
    }
  }
  const client = openClient("ws://server.test/v1/sync", getToken ?? (() => `t${sockets.length}`), {
    WebSocket: Socket, timers: clock, random: () => 1, network, onStatus: (status) => statuses.push(status), ...options,
  });
  return { clock, sockets, statuses, network, client };
}

const event = (n) => ({ event: "user-update", data: n, cursor: `c${n}` });
async function finish({ client, sockets, clock }) {
  const closing = client.close();
  sockets.at(-1)?.end(1000, "normal");
  await settle();
  await closing;
  assert.equal(clock.pending.size, 0, "a timer is left");
}

test("connects, hands over in order with the cursor, and says goodbye", async () => {
  const it = world({ vaults: ["v1"] });
  await settle();
  const [socket] = it.sockets;
  assert.deepEqual(socket.protocols, ["localful.v1"]);
  await socket.accept();
  assert.equal((await it.client.ready()).user, "ada");
  socket.say(event(1));
  socket.say(event(2));
  assert.equal(it.client.cursor, null);
  assert.equal((await it.client.next()).value.kind, "snapshot-needed");
  assert.equal(it.client.cursor, "c0");
  assert.equal((await it.client.next()).value.data, 1);
  assert.equal(it.client.cursor, "c1");
  const closing = it.client.close();
  assert.deepEqual(socket.closedWith, [1000, "normal"]);
  socket.end(1000);
  await closing;
  assert.equal((await it.client.next()).value.data, 2);
  assert.equal((await it.client.next()).done, true);
  assert.equal(await it.client.ended, null);
  assert.equal(it.clock.pending.size, 0);
});

test("comes back after a pause, and resumes from what was received", async () => {
  const it = world();
  await settle();
  await it.sockets[0].accept();
  it.sockets[0].say(event(1));
  it.sockets[0].end(4413, "missed-events");
  await it.clock.pass(0.9);
  assert.equal(it.sockets.length, 1);
  await it.clock.pass(0.1);
  it.sockets[1].onopen();
  assert.equal(it.sockets[1].sent[0].since, "c1");
  assert.equal(it.sockets[1].sent[0].token, "t1");
  assert.deepEqual(it.statuses.map(({ kind, code }) => code ?? kind), ["connected", 4413]);
  await finish(it);
});

test("ends for good after what came before was handed over", async () => {
  const it = world();
  await settle();
  await it.sockets[0].accept();
  it.sockets[0].end(4403, "forbidden");
  assert.ok((await it.client.ended) instanceof ClosedByServerError);
  assert.equal((await it.client.next()).value.kind, "snapshot-needed");
  await assert.rejects(it.client.next(), ClosedByServerError);
  await assert.rejects(it.client.subscribe(["v"]), ClosedByServerError);
  await it.client.close();
  assert.equal(it.clock.pending.size, 0);
});

test("subscribes: in force, refused, without an answer, ended", async () => {
  const it = world();
  await settle();
  const [socket] = it.sockets;
  await socket.accept();
  const good = it.client.subscribe(["v1"]);
  socket.say({ event: "subscribed", vaults: ["v1"], id: socket.sent.at(-1).id });
  assert.deepEqual(await good, ["v1"]);
  const bad = it.client.subscribe(["v2"]);
  socket.say({ event: "error", code: "too-many-vaults", message: "No.", id: socket.sent.at(-1).id });
  await assert.rejects(bad, RequestRefusedError);
  const silent = it.client.subscribe(["v3"]);
  await it.clock.pass(10);
  await assert.rejects(silent, NoAnswerError);
  const last = it.client.subscribe(["v4"]);
  await finish(it);
  await assert.rejects(last, ClientClosedError);
  await assert.rejects(it.client.subscribe("v1"), TypeError);
});

test("renews with an awaited token, and says when that fails", async () => {
  const tokens = ["t0", "t1", new Error("no"), "t2"];
  const it = world({}, async () => {
    const token = tokens.shift();
    if (token instanceof Error) throw token;
    return token;
  });
  await settle();
  const [socket] = it.sockets;
  await socket.accept();
  socket.say({ event: "reauthenticate", expiresAt: 9 });
  await settle();
  assert.equal(socket.sent.at(-1).token, "t1");
  socket.say({ event: "reauthenticate", expiresAt: 9 });
  await settle();
  assert.equal(it.statuses.at(-1).kind, "renewal-failed");
  assert.equal(socket.sent.length, 2);
  await finish(it);
});

test("renews when it is told to, if there is a connection", async () => {
  const tokens = ["t0", "t0", "t1"];
  const it = world({}, () => tokens.shift());
  await it.client.renew();
  await settle();
  const [socket] = it.sockets;
  await socket.accept();
  // The same token once more is not worth a message.
  await it.client.renew();
  assert.equal(socket.sent.length, 1);
  await it.client.renew();
  assert.equal(socket.sent.at(-1).token, "t1");
  socket.say({ event: "authenticated", user: "ada", group: "g", expiresAt: 19, vaults: [], cursor: "c0", id: socket.sent.at(-1).id });
  await settle();
  assert.equal(it.client.session.expiresAt, 19);
  // It throws: that is said, and the connection goes on.
  tokens.push(Promise.reject(new Error("no network")));
  await it.client.renew();
  assert.equal(it.statuses.at(-1).kind, "renewal-failed");
  assert.equal(socket.closedWith, null);
  await finish(it);
});

test("a token that is unavailable or late is asked for again; another error ends the client", async () => {
  const answers = [() => { throw new TokenUnavailableError("later"); }, () => new Promise(() => {}), () => { throw new Error("broken"); }];
  const it = world({}, () => answers.shift()());
  await it.clock.pass(1);
  assert.equal(answers.length, 1);
  await it.clock.pass(30 + 2);
  assert.equal((await it.client.ended).message, "broken");
  await assert.rejects(it.client.next(), /broken/);
  assert.equal(it.sockets.length, 0);
  assert.equal(it.clock.pending.size, 0);
  const wrong = world({}, () => 5);
  assert.ok((await wrong.client.ended) instanceof TypeError);
});

test("gives up a connection that does not open, does not answer, or falls silent", async () => {
  const it = world();
  await it.clock.pass(10);
  assert.equal(it.statuses.at(-1).code, null);
  await it.clock.pass(1);
  it.sockets[1].onopen();
  await it.clock.pass(10);
  assert.equal(it.statuses.at(-1).code, 1006);
  await it.clock.pass(2);
  await it.sockets[2].accept();
  await it.clock.pass(30);
  assert.equal(it.sockets[2].sent.at(-1).event, "subscribe");
  it.sockets[2].say({ event: "subscribed", vaults: [], id: it.sockets[2].sent.at(-1).id });
  await it.clock.pass(49);
  assert.equal(it.statuses.at(-1).kind, "connected");
  await it.clock.pass(1);
  assert.equal(it.statuses.at(-1).message, "The server fell silent.");
  await finish(it);
});

test("being online again cuts the waiting short, unless the server wants to be left", async () => {
  const it = world();
  await settle();
  it.sockets[0].end();
  await settle();
  it.network.dispatchEvent(new Event("online"));
  await settle();
  assert.equal(it.sockets.length, 2);
  await it.sockets[1].accept();
  it.network.dispatchEvent(new Event("online"));
  assert.equal(it.sockets[1].sent.at(-1).event, "subscribe");
  it.sockets[1].end(1013, "try-again-later");
  await settle();
  it.network.dispatchEvent(new Event("online"));
  await settle();
  assert.equal(it.sockets.length, 2);
  await finish(it);
});

test("a full buffer ends the connection, which is resumed once there is room", async () => {
  const it = world({ bufferedEvents: 4 });
  await settle();
  await it.sockets[0].accept();
  for (const n of [1, 2, 3, 4, 5]) it.sockets[0].say(event(n));
  assert.notEqual(it.sockets[0].closedWith, null);
  await it.clock.pass(60);
  assert.equal(it.sockets.length, 1);
  const taken = [];
  for (let n = 0; n < 4; n += 1) taken.push((await it.client.next()).value.cursor);
  assert.deepEqual(taken, ["c0", "c1", "c2", "c3"]);
  await settle();
  it.sockets[1].onopen();
  assert.equal(it.sockets[1].sent[0].since, "c3");
  await finish(it);
});

test("a server that misbehaves ends the client", async () => {
  for (const what of ["hello", { event: "subscribed", vaults: 1 }, 7]) {
    const it = world();
    await settle();
    await it.sockets[0].accept();
    it.sockets[0].say(what);
    assert.ok((await it.client.ended) instanceof ServerMessageError);
    assert.equal(it.clock.pending.size, 0);
  }
});

test("onArrival is called one after the other; what it throws ends the client", async () => {
  const seen = [];
  let go;
  const it = world({ onArrival: (arrival) => {
    seen.push(arrival.kind);
    if (seen.length === 1) return new Promise((resolve) => { go = resolve; });
    throw new Error("can't apply");
  } });
  await settle();
  await it.sockets[0].accept();
  it.sockets[0].say(event(1));
  await settle();
  assert.deepEqual(seen, ["snapshot-needed"]);
  go();
  await settle();
  it.sockets[0].end(1000);
  assert.equal((await it.client.ended).message, "can't apply");
  assert.equal(it.clock.pending.size, 0);
});

test("a signal closes; closing waits for the server's answer in bounded time", async () => {
  const controller = new AbortController();
  const it = world({ signal: controller.signal });
  await settle();
  await it.sockets[0].accept();
  controller.abort();
  await it.clock.pass(4.9);
  assert.equal(it.clock.pending.size, 1);
  await it.clock.pass(0.1);
  assert.equal(await it.client.ended, null);
  assert.equal(it.clock.pending.size, 0);
});

test("refuses what can't be", () => {
  assert.throws(() => world({ since: "" }), TypeError);
  assert.throws(() => world({ bufferedEvents: 0 }), RangeError);
  assert.throws(() => openClient("http://server.test", () => "t", { WebSocket: class {} }), TypeError);
});
