/** What the console makes of totals: rates, counts of the last minute, quantiles. */

import assert from "node:assert/strict";
import test from "node:test";

import { MOST_SAMPLES, Samples } from "../../localful_ws/web/console/samples.js";

function overview(time, { published = 0, duplicates = 0, delivered = 0, opened = 0, closes = {}, upTo = {}, count = 0 } = {}) {
  return {
    time,
    connections: { authenticated: 3, "awaiting-auth": 1, closed: 0 },
    connectionsOpened: opened,
    users: 2,
    events: { accepted: { "item-create": published, "user-update": 0 }, duplicates, delivered },
    closes,
    sendBuffer: { peakBytes: 10, peakEvents: 1 },
    process: { cpuSeconds: time / 4 },
    publishToWrite: { upTo, count, sum: 0 },
  };
}

test("the first sample has no rates", () => {
  const samples = new Samples();
  samples.add(overview(100));
  assert.equal(samples.latest.accepted, null);
  assert.equal(samples.latest.authenticated, 3);
  assert.equal(samples.since((sample) => sample.delays.count, 60), 0);
  assert.equal(samples.quantile(0.5, 60), null);
});

test("totals become rates, by the daemon's own clock", () => {
  const samples = new Samples();
  samples.add(overview(100, { published: 10, duplicates: 4, delivered: 5, closes: { forbidden: 1 } }));
  samples.add(overview(104, { published: 30, duplicates: 8, delivered: 45, opened: 2, closes: { forbidden: 3 } }));
  const { accepted, delivered, opened, closed, cpu } = samples.latest;
  assert.deepEqual({ accepted, delivered, opened, closed, cpu }, { accepted: 4, delivered: 10, opened: 0.5, closed: 0.5, cpu: 0.25 });
});

test("over a restart there is no rate", () => {
  const samples = new Samples();
  samples.add(overview(100, { opened: 50, delivered: 500 }));
  samples.add(overview(102, { opened: 3, delivered: 7 }));
  assert.equal(samples.latest.delivered, null);
  samples.add(overview(104, { opened: 3, delivered: 9 }));
  assert.equal(samples.latest.delivered, 1);
});

test("two answers of the same moment", () => {
  const samples = new Samples();
  samples.add(overview(100));
  samples.add(overview(100, { delivered: 9 }));
  assert.equal(samples.latest.delivered, null);
});

test("the number of samples is bounded", () => {
  const samples = new Samples();
  for (let at = 0; at < 2 * MOST_SAMPLES; at++) samples.add(overview(at));
  assert.equal(samples.all.length, MOST_SAMPLES);
  assert.equal(samples.all.at(-1).time, 2 * MOST_SAMPLES - 1);
});

test("what happened in the last minute", () => {
  const samples = new Samples();
  for (let at = 0; at <= 120; at += 2) samples.add(overview(at, { closes: { forbidden: at } }));
  assert.equal(samples.since((sample) => sample.closes.forbidden ?? 0, 60), 60);
  assert.equal(samples.since((sample) => sample.closes.unknown ?? 0, 60), 0);
});

test("quantiles are of the last minute alone", () => {
  const samples = new Samples();
  samples.add(overview(0, { upTo: { "0.001": 0, "0.01": 0, 5: 0 }, count: 0 }));
  samples.add(overview(50, { upTo: { "0.001": 1000, "0.01": 1000, 5: 1000 }, count: 1000 }));
  samples.add(overview(100, { upTo: { "0.001": 1060, "0.01": 1095, 5: 1099 }, count: 1100 }));
  assert.equal(samples.quantile(0.5, 60), 0.001);
  assert.equal(samples.quantile(0.95, 60), 0.01);
  assert.equal(samples.quantile(0.99, 60), 5);
  assert.equal(samples.quantile(1, 60), Infinity);
});
