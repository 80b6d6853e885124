/**
 * What the overview said over the last minutes, as rates. No document, no clock: it runs anywhere.
 *
 * @module
 */

/** So many samples are kept: ten minutes at one every two seconds. */
export const MOST_SAMPLES = 300;

export const sum = (counts) => Object.values(counts).reduce((total, count) => total + count, 0);

/** Turns overviews, whose counts are totals, into samples with what happened a second. */
export class Samples {
  #last = null;
  all = [];

  get latest() {
    return this.all.at(-1) ?? null;
  }

  /** Take in an overview. */
  add(overview) {
    const last = this.#last;
    this.#last = overview;
    const seconds = last === null ? 0 : overview.time - last.time;
    // A daemon that was started again has begun to count anew; there is no rate over that.
    const whole = last !== null && seconds > 0 && overview.connectionsOpened >= last.connectionsOpened;
    const per = (total) => (whole ? Math.max(0, total(overview) - total(last)) / seconds : null);
    this.all.push({
      time: overview.time,
      authenticated: overview.connections.authenticated ?? 0,
      awaiting: overview.connections["awaiting-auth"] ?? 0,
      closing: overview.connections.closed ?? 0,
      users: overview.users,
      accepted: per((one) => sum(one.events.accepted) - one.events.duplicates),
      delivered: per((one) => one.events.delivered),
      opened: per((one) => one.connectionsOpened),
      closed: per((one) => sum(one.closes)),
      peakBytes: overview.sendBuffer.peakBytes,
      cpu: per((one) => one.process.cpuSeconds),
      closes: overview.closes,
      delays: overview.publishToWrite,
    });
    if (this.all.length > MOST_SAMPLES) this.all.splice(0, this.all.length - MOST_SAMPLES);
  }

  /** How often something was counted in the last so many seconds: since((sample) => …, 60). */
  since(count, seconds) {
    const latest = this.latest;
    if (latest === null) return 0;
    const first = this.all.find((sample) => sample.time >= latest.time - seconds) ?? latest;
    return Math.max(0, count(latest) - count(first));
  }

  /** Up to how many seconds this share of the deliveries of the last so many seconds took; null without any. */
  quantile(share, seconds) {
    const latest = this.latest;
    const total = this.since((sample) => sample.delays.count, seconds);
    if (latest === null || total === 0) return null;
    for (const bound of Object.keys(latest.delays.upTo).sort((one, other) => one - other)) {
      if (this.since((sample) => sample.delays.upTo[bound], seconds) >= share * total) return Number(bound);
    }
    return Infinity;
  }
}
