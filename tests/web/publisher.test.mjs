// The transcripts that the Python publisher is run against as well, and what only this one does.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

import {
  EventRefusedError, Publisher, PublisherClosedError, QueueFullError,
} from "../../localful_ws/web/publisher.js";
import { Clock, settle } from "./clock.mjs";

const FOLDER = new URL("../../spec/transcripts/publisher/", import.meta.url);
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const BEGINNING = 1760000000;
const RAISED = { full: QueueFullError, closed: PublisherClosedError };
const LIMITS = {
  waiting: "maxWaiting", "waiting-bytes": "maxWaitingBytes", batch: "maxBatch", "batch-bytes": "maxBatchBytes",
  timeout: "timeout", "longest-pause": "longestPause",
};

function open({ limits = {}, chance = 1 } = {}, more = {}) {
  const clock = new Clock();
  const world = { clock, posted: [], current: null, refused: [], trouble: [], outcomes: {}, names: {} };
  const fetch = (url, { method, headers, body, signal, redirect }) => new Promise((resolve, reject) => {
    assert.deepEqual([method, redirect, headers.authorization], ["POST", "manual", "Bearer the-key"]);
    world.posted.push({ path: new URL(url).pathname, body: JSON.parse(body), at: clock.now, resolve, reject });
    signal.addEventListener("abort", () => reject(signal.reason));
  });
  world.publisher = new Publisher("http://server.test/", "the-key", {
    fetch, timers: clock, random: () => chance, now: () => BEGINNING + clock.now,
    onTrouble: (reason) => world.trouble.push(reason),
    onRefused: ({ id }, { status, identifier, sentence }) => {
      world.refused.push({ id, status, identifier, message: sentence });
    },
    ...Object.fromEntries(Object.entries(limits).map(([name, value]) => [LIMITS[name], value])), ...more,
  });
  return world;
}

function begin({ outcomes }, name, promise, shown) {
  outcomes[name] = null;
  promise.then((value) => { outcomes[name] = shown(value); }, (error) => {
    outcomes[name] = error instanceof EventRefusedError ? { refused: error.status } : error;
    if (error instanceof PublisherClosedError) outcomes[name] = "closed";
  });
}

/** What is expected, with the ids that were made, and whole where only an id is given. */
function named({ names }, expected, posted) {
  assert.equal(posted.length, expected.length);
  return expected.map((one, place) => {
    const name = typeof one === "string" ? one : one.id;
    if (name.startsWith("<") && !(name in names)) {
      assert.match(posted[place].id, UUID);
      assert.ok(!Object.values(names).includes(posted[place].id));
      names[name] = posted[place].id;
    }
    return { ...(typeof one === "string" ? posted[place] : one), id: names[name] ?? name };
  });
}

const STEPS = {
  publish({ publisher }, { publish, raises }) {
    for (const event of publish) {
      if (raises) assert.throws(() => publisher.publish(event), RAISED[raises]);
      else if ("id" in event) assert.equal(publisher.publish(event), event.id);
      else assert.match(publisher.publish(event), UUID);
    }
  },
  disconnect: (world, step) =>
    begin(world, step.as, world.publisher.disconnect(step.disconnect), (closes) => ({ closes })),
  flush: (world, { flush }) => begin(world, flush, world.publisher.flush(), () => "done"),
  close: (world, step) =>
    begin(world, step.as, world.publisher.close(step.close), (left) => ({ left: left.map(({ id }) => id) })),
  outcome: ({ outcomes }, step) => assert.deepEqual(outcomes[step.outcome], step.is),
  passes: ({ clock }, { passes }) => clock.pass(passes),
  posts(world, { posts, at }) {
    world.current = world.posted.shift();
    const { path, body } = world.current;
    assert.ok(Math.abs(world.current.at - at) < 1e-6, `posted at ${world.current.at}`);
    if (Array.isArray(posts)) {
      assert.equal(path, "/v1/events");
      assert.deepEqual(body, { events: named(world, posts, body.events) });
    } else {
      assert.deepEqual([path, body], ["/v1/disconnect", posts]);
    }
  },
  answer({ current }, { answer, body = "", "retry-after": retryAfter = null }) {
    current.resolve({
      status: answer, headers: { get: (name) => (name === "retry-after" ? retryAfter : null) },
      text: async () => (typeof body === "string" ? body : JSON.stringify(body)),
    });
  },
  breaks: ({ current }) => current.reject(new TypeError("fetch failed")),
  silent: ({ posted }) => assert.deepEqual(posted, []),
  refused(world, { refused }) {
    const expected = refused.map((one) => ({ ...one, id: world.names[one.id] ?? one.id }));
    assert.deepEqual(world.refused.splice(0), expected);
  },
  trouble(world, { trouble }) {
    const told = world.trouble.splice(0);
    assert.deepEqual(told.map((one, place) => one.slice(0, trouble[place]?.length)), trouble);
  },
};

for (const file of readdirSync(FOLDER).filter((name) => name !== "schema.json")) {
  for (const transcript of JSON.parse(readFileSync(new URL(file, FOLDER), "utf-8"))) {
    test(`${file}: ${transcript.about}`, async () => {
      const world = open(transcript);
      for (const [number, step] of transcript.steps.entries()) {
        try {
          await STEPS[Object.keys(step)[0]](world, step);
          await settle();
        } catch (error) {
          error.message = `step ${number} ${JSON.stringify(step)}: ${error.message}`;
          throw error;
        }
      }
      assert.deepEqual([world.posted, world.refused, world.trouble], [[], [], []]);
      assert.deepEqual(await world.publisher.close(0), []);
      assert.equal(world.clock.pending.size, 0, "a timer is left");
    });
  }
}

test("a callback that throws does no harm", async (context) => {
  const said = context.mock.method(console, "error", () => {});
  const world = open({}, { onRefused: () => { throw new Error("no"); } });
  world.publisher.publish({ event: "x", user: "u" });
  await settle();
  world.posted.shift().resolve({ status: 422, headers: new Headers(), text: async () => "" });
  await world.publisher.flush();
  assert.match(String(said.mock.calls[0].arguments[1]), /no/);
});

test("without callbacks it is logged, without the key and without what the event says", async (context) => {
  const said = ["error", "warn"].map((name) => context.mock.method(console, name, () => {}));
  const world = open({}, { onRefused: undefined, onTrouble: undefined });
  const id = world.publisher.publish({ event: "item-create", user: "u", data: "secret" });
  await settle();
  world.posted.shift().resolve({ status: 503, headers: new Headers(), text: async () => "" });
  await world.clock.pass(1);
  world.posted.shift().resolve({ status: 422, headers: new Headers(), text: async () => "" });
  await world.publisher.flush();
  assert.deepEqual(said.flatMap(({ mock }) => mock.calls).map((call) => call.arguments), [
    [`The server refused item-create ${id}: HTTP 422`],
    ["Publishing fails and is tried again: HTTP 503"],
  ]);
});

test("a disconnect without another clock is of now", async () => {
  const world = open({}, { now: undefined });
  const before = Date.now() / 1000;
  world.publisher.disconnect({ user: "u" });
  const after = Date.now() / 1000;
  await settle();
  const { issuedBefore } = world.posted.shift().body;
  assert.ok(before <= issuedBefore && issuedBefore <= after, `issued before ${issuedBefore}`);
});

test("refuses what can't be, and does not repeat the key", () => {
  for (const url of ["ws://server.test", "http://", "http://a:b", "http://[::1", "http://a:99999"]) {
    assert.throws(() => new Publisher(url, "key"), TypeError);
  }
  assert.throws(() => new Publisher("http://server.test", "a\nkey"), (error) => !error.message.includes("a\nkey"));
  assert.throws(() => new Publisher("http://server.test", undefined), TypeError);
  assert.throws(() => new Publisher("http://server.test", "key", { maxBatch: 0.5 }), RangeError);
  assert.throws(() => new Publisher("http://server.test", "key", { timeout: 0 }), RangeError);
  assert.throws(() => new Publisher("http://server.test", "key").publish({ data: 1n }), TypeError);
});
