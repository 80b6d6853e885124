// The transcripts that the Python client is run against as well.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

import { Conversation, ReceivedEvent, ServerMessageError } from "../../localful_ws/web/client.js";

const FOLDER = new URL("../../spec/transcripts/device/", import.meta.url);

function shown({ content, cursor }) {
  if (content === null) return { moves: cursor };
  assert.equal(content.cursor, content.cursor === null ? null : cursor);
  if (content instanceof ReceivedEvent) {
    return { event: content.event, vault: content.vault, data: content.data, cursor: content.cursor };
  }
  return { snapshot: [...content.vaults], cursor: content.cursor };
}

function decided(decision, expected) {
  if ("ends" in expected) {
    assert.equal(decision.kind, "give-up");
    assert.equal(decision.error?.code ?? null, expected.ends);
    if (expected.message) assert.equal(decision.error.sentence, expected.message);
  } else {
    assert.equal(decision.kind, "come-back");
    assert.equal(decision.delay, expected.delay);
    if (expected.message) assert.equal(decision.message, expected.message);
  }
}

function outcome(request) {
  if (request.outcome === null) return null;
  return request.outcome.kind === "error" ? { refused: request.outcome.code } : { subscribed: [...request.outcome.vaults] };
}

const STEPS = {
  token(talk, step) {
    const decision = talk.takeToken(step.token);
    if (step.then) decided(decision, step.then);
    else assert.equal(decision, null);
  },
  opens: (talk) => talk.connectionOpened(),
  device: (talk, step, world) => {
    world.outgoing.push(...talk.takeOutgoing());
    assert.deepEqual(JSON.parse(world.outgoing.shift()), step.device);
  },
  silent: (talk, _, world) => assert.deepEqual([...world.outgoing, ...talk.takeOutgoing()], []),
  server: (talk, step) => talk.receiveText(JSON.stringify(step.server)),
  misbehaves: (talk, step) => assert.throws(() => talk.receiveText(step.misbehaves), ServerMessageError),
  arrives: (talk, step) => {
    const expected = step.arrives.map((one) => ("event" in one ? { vault: null, ...one } : one));
    assert.deepEqual(talk.takeArrivals().map(shown), expected);
  },
  subscribes: (talk, step, world) => world.requests.set(step.as, talk.subscribe(step.subscribes)),
  outcome: (_, step, world) => assert.deepEqual(outcome(world.requests.get(step.outcome)), step.is),
  forgets: (talk, step, world) => talk.forget(world.requests.get(step.forgets)),
  renews: (talk, step) => talk.renew(step.renews),
  closes: (talk, step) => decided(talk.connectionLost(step.closes, step.reason ?? "", "It ended.", step.chance), step.then),
  "closed-by-us": (talk) => talk.close(),
  state: (talk, step) => assert.equal(talk.state, step.state),
  cursor: (talk, step) => assert.equal(talk.cursor, step.cursor),
  vaults: (talk, step) => assert.deepEqual([...talk.vaults], step.vaults),
};

const FILES = readdirSync(FOLDER).filter((name) => name !== "schema.json");

for (const file of FILES.sort()) {
  for (const { about, vaults, since, steps } of JSON.parse(readFileSync(new URL(file, FOLDER)))) {
    test(`${file}: ${about}`, () => {
      const talk = new Conversation(vaults, since ?? null);
      const world = { outgoing: [], requests: new Map() };
      steps.forEach((step, at) => {
        try {
          STEPS[Object.keys(step)[0]](talk, step, world);
        } catch (error) {
          error.message = `step ${at} ${JSON.stringify(step)}: ${error.message}`;
          throw error;
        }
      });
      assert.deepEqual(talk.takeArrivals(), []);
    });
  }
}
