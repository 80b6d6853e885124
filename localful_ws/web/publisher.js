// @ts-check
/**
 * Publishing from an HTTP API in JavaScript: the queue, the ids and the trying again. For Node, from 18 on.
 *
 *     const publisher = new Publisher("http://127.0.0.1:42103", key, { onRefused: tellSomebody });
 *     publisher.publish({ event: "item-create", user, vault, group, data: { id: item } });
 *
 * `publish` returns at once. Events leave in the order in which they were published, in batches when many wait, again
 * and again until the server has answered, with ids that make this harmless. What the server refuses is handed back.
 * docs/publishing.md has the rules. What waits is in memory: where no event may be lost with the process, use an
 * outbox (docs/outbox.md).
 *
 * All durations are in seconds.
 *
 * @module
 */

import { randomUUID } from "node:crypto";

const EVENTS = "/v1/events";
const DISCONNECT = "/v1/disconnect";
const FIRST_PAUSE = 0.1;
const UNAUTHORIZED_PAUSE = 5;
const LONGEST_RETRY_AFTER = 60;
// Of the statuses from 400 to 499: what is no event's fault, and what may be the fault of one among others.
const TRIED_AGAIN = [401, 408, 429];
const PERHAPS_OF_ONE = [400, 413, 422];
// A 503 that is about a deletion or a disconnect, and may last for hours: what else waits goes on.
const NO_ROOM = "too-many-revocations";

const DEFAULTS = {
  maxWaiting: 10_000, maxWaitingBytes: 64 * 1024 * 1024, maxBatch: 1000, maxBatchBytes: 1024 * 1024,
  timeout: 10, longestPause: 30,
};

const encoder = new TextEncoder();

/** Anything a publisher throws of its own. No message holds the key. */
export class PublisherError extends Error {
  /** @param {string} message A sentence. */
  constructor(message) {
    super(message);
    this.name = new.target.name;
  }
}

/** So much waits already that this was not taken: the server is away, or slower than the events come. */
export class QueueFullError extends PublisherError {}

/** The publisher has been closed: it takes no more, or what was waited for has not left. */
export class PublisherClosedError extends PublisherError {}

/** The server has refused it, and would refuse it again; with `too-many-revocations`, for some time. */
export class EventRefusedError extends PublisherError {
  /**
   * @param {number} status The HTTP status.
   * @param {string} identifier The server's word for it; empty if somebody else answered.
   * @param {string} sentence The server's sentence, likewise.
   */
  constructor(status, identifier, sentence) {
    super(httpSentence(status, identifier, sentence));
    this.status = status;
    this.identifier = identifier;
    this.sentence = sentence;
  }
}

/** Publishes events, in order. */
export class Publisher {
  #url;
  #headers;
  #options;
  /** @type {{number: number, path: string, content: any, text: string, size: number, settle?: (outcome: any) => void}[]} */
  #waiting = [];
  #bytes = 0;
  #last = 0;
  #batch;
  #failures = 0;
  /** @type {string | null} */
  #told = null;
  #closing = false;
  #stopped = false;
  /** @type {Promise<void> | null} */
  #running = null;
  /** @type {{number: number, resolve: () => void, reject: (error: Error) => void}[]} */
  #flushes = [];
  #interrupt = () => {};

  /**
   * @param {string} url The server's internal port: `http://127.0.0.1:42103`.
   * @param {string} key The publisher key.
   * @param {object} options
   */
  constructor(url, key, options = {}) {
    if (!/^https?:\/\//.test(url)) throw new TypeError("The URL must begin with http:// or https://.");
    new URL(url); // throws if it is none
    if (typeof key !== "string" || !/^[\x20-\x7e]+$/.test(key)) {
      throw new TypeError("The publisher key must be printable ASCII.");
    }
    const given = Object.entries(options).filter(([, value]) => value !== undefined);
    this.#options = {
      ...DEFAULTS, onRefused: logRefused, onTrouble: logTrouble, timers: globalThis, random: Math.random,
      now: () => Date.now() / 1000, fetch: globalThis.fetch, ...Object.fromEntries(given),
    };
    for (const name of Object.keys(DEFAULTS)) {
      const least = name.startsWith("max") ? 1 : 0.001;
      if (!(this.#options[name] >= least)) throw new RangeError(`${name} must be at least ${least}.`);
    }
    this.#url = url.replace(/\/+$/, "");
    this.#headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
    this.#batch = this.#options.maxBatch;
  }

  /**
   * Have an event published. Returns at once.
   *
   * @param {any} event What `POST /v1/events` takes. It is written as JSON here and now.
   */
  publish(event) {
    const content = { ...event, id: event.id ?? randomUUID() };
    this.#put(EVENTS, content);
    return content.id;
  }

  /** Wait until everything published so far has been accepted, or refused. */
  flush() {
    return new Promise((resolve, reject) => {
      this.#flushes.push({ number: this.#last, resolve: () => resolve(undefined), reject });
      this.#tellFlushes();
    });
  }

  /**
   * End sessions, after what was published before, and wait for that. Only those are meant whose tokens were issued
   * before this call, however often it is tried.
   *
   * @param {{user?: string, group?: string, until?: number}} whose `user` and `group` are one login; `user` alone, all
   *   of the user's; `group` alone, every user's group of this id.
   */
  async disconnect({ user, group, until }) {
    const content = { user, group, until, issuedBefore: this.#options.now() };
    const outcome = await new Promise((settle) => { this.#put(DISCONNECT, content, settle); });
    if (outcome instanceof Error) throw outcome;
    return outcome;
  }

  /**
   * Take nothing more, and wait for what was taken. Resolves with the events that are left: some of them may have been
   * accepted; they have ids, so to publish them later is harmless.
   */
  async close(timeout = 5) {
    this.#closing = true;
    const { timers } = this.#options;
    const timer = timers.setTimeout(() => this.#stop(), timeout * 1000);
    await this.#running;
    timers.clearTimeout(timer);
    const rest = this.#waiting.splice(0);
    const error = new PublisherClosedError("The publisher was closed before this had left.");
    for (const { settle } of rest) settle?.(error);
    for (const { reject } of this.#flushes.splice(0)) reject(error);
    return rest.filter(({ path }) => path === EVENTS).map(({ content }) => content);
  }

  #stop() {
    this.#stopped = true;
    this.#interrupt();
  }

  /** @param {(outcome: any) => void} [settle] Is told what came of it. */
  #put(path, content, settle) {
    const text = JSON.stringify(content);
    const size = encoder.encode(text).length;
    const { maxWaiting, maxWaitingBytes } = this.#options;
    if (this.#closing) throw new PublisherClosedError("The publisher is closed.");
    const isFull = this.#waiting.length >= maxWaiting || (this.#waiting.length > 0 && this.#bytes + size > maxWaitingBytes);
    if (isFull) throw new QueueFullError("Too many events wait to be published.");
    this.#last += 1;
    this.#waiting.push({ number: this.#last, path, content, text, size, settle });
    this.#bytes += size;
    this.#running ??= this.#run();
  }

  async #run() {
    await null; // what is published in the same turn goes along
    while (this.#waiting.length > 0 && !this.#stopped) {
      const entries = this.#next();
      const answer = await this.#post(entries);
      if (this.#stopped && answer.status === 0) break;
      const pause = this.#take(entries, answer);
      this.#tellFlushes();
      if (pause > 0 && !this.#stopped) await this.#sleep(pause);
    }
    this.#running = null;
  }

  /** What goes into the next request: events in a row, or one disconnect. */
  #next() {
    if (this.#waiting[0].path === DISCONNECT) return this.#waiting.slice(0, 1);
    const entries = [];
    let size = 0;
    for (const entry of this.#waiting.slice(0, this.#batch)) {
      size += entry.size + 1;
      if (entry.path === DISCONNECT || (entries.length > 0 && size > this.#options.maxBatchBytes)) break;
      entries.push(entry);
    }
    return entries;
  }

  async #post(entries) {
    const { path, text } = entries[0];
    const body = path === EVENTS ? `{"events":[${entries.map((entry) => entry.text).join(",")}]}` : text;
    const { timers, timeout, fetch } = this.#options;
    const abort = new AbortController();
    this.#interrupt = () => abort.abort();
    const timer = timers.setTimeout(() => abort.abort(), timeout * 1000);
    try {
      const response = await fetch(this.#url + path, {
        method: "POST", headers: this.#headers, body, redirect: "manual", signal: abort.signal,
      });
      return { status: response.status, text: await response.text(), retryAfter: response.headers.get("retry-after") };
    } catch (/** @type {any} */ error) {
      const reason = abort.signal.aborted ? "it took too long" : (error?.cause?.code ?? error?.name);
      return { status: 0, text: `No answer: ${reason}.`, retryAfter: null };
    } finally {
      timers.clearTimeout(timer);
    }
  }

  /** Draw the consequences of an answer; returns how long to wait before the next request. */
  #take(entries, { status, text, retryAfter }) {
    const found = status === 0 ? {} : read(text);
    const identifier = typeof found.identifier === "string" ? found.identifier : "";
    let sentence = typeof found.message === "string" ? found.message : "";
    if (status === 202) {
      this.#told = null;
      this.#failures = 0;
      this.#batch = Math.min(this.#batch * 2, this.#options.maxBatch);
      this.#remove(entries, found.closed ?? 0);
      return 0;
    }
    const hasNoRoom = identifier === NO_ROOM;
    if (TRIED_AGAIN.includes(status) || ((status < 400 || status >= 500) && !hasNoRoom)) {
      return this.#pause(status, status === 0 ? text : httpSentence(status, identifier, sentence), retryAfter);
    }
    this.#failures = 0;
    let index = 0;
    let refused = entries;
    if ((PERHAPS_OF_ONE.includes(status) || hasNoRoom) && entries.length > 1) {
      index = found.context?.index;
      if (!Number.isInteger(index) || index < 0 || index >= entries.length) {
        this.#batch = Math.floor(entries.length / 2);
        return 0;
      }
      refused = [entries[index]];
    }
    const place = `events[${index}]: `;
    if (sentence.startsWith(place)) sentence = sentence.slice(place.length);
    const error = new EventRefusedError(status, identifier, sentence);
    this.#remove(refused, error);
    for (const { path, content } of refused) if (path === EVENTS) call(this.#options.onRefused, content, error);
    return 0;
  }

  #remove(entries, outcome) {
    const gone = new Set(entries);
    this.#waiting = this.#waiting.filter((entry) => !gone.has(entry));
    for (const { size, settle } of entries) {
      this.#bytes -= size;
      settle?.(outcome);
    }
  }

  #pause(status, reason, retryAfter) {
    if (reason !== this.#told) {
      this.#told = reason;
      call(this.#options.onTrouble, reason);
    }
    const { longestPause, random } = this.#options;
    let pause = Math.min(longestPause, FIRST_PAUSE * 2 ** Math.min(this.#failures, 20)) * (0.5 + random() / 2);
    this.#failures += 1;
    if (status === 401) pause = Math.max(pause, UNAUTHORIZED_PAUSE);
    if (/^\d{1,9}$/.test(retryAfter ?? "")) pause = Math.max(pause, Math.min(Number(retryAfter), LONGEST_RETRY_AFTER));
    return pause;
  }

  #sleep(seconds) {
    return new Promise((resolve) => {
      const timer = this.#options.timers.setTimeout(() => resolve(undefined), seconds * 1000);
      this.#interrupt = () => { this.#options.timers.clearTimeout(timer); resolve(undefined); };
    });
  }

  #tellFlushes() {
    const first = this.#waiting[0]?.number ?? Infinity;
    const waits = [];
    for (const flush of this.#flushes) {
      if (flush.number < first) flush.resolve();
      else waits.push(flush);
    }
    this.#flushes = waits;
  }
}

function httpSentence(status, identifier, sentence) {
  return `HTTP ${status}${sentence && `: ${sentence}`}${identifier && ` (${identifier})`}`;
}

function read(text) {
  try {
    return Object(JSON.parse(text));
  } catch {
    return {}; // a proxy's page, perhaps
  }
}

function call(callback, ...given) {
  try {
    callback(...given);
  } catch (error) {
    console.error("A callback of the publisher has failed:", error);
  }
}

function logRefused(event, error) {
  console.error(`The server refused ${event.event} ${event.id}: ${error.message}`);
}

function logTrouble(reason) {
  console.warn(`Publishing fails and is tried again: ${reason}`);
}
