// @ts-check
/**
 * A device in JavaScript, for browsers and Node: one module without dependencies.
 *
 *     const client = openClient("wss://sync.example.org/v1/sync", getToken, { vaults: ["v1"], since: storedCursor });
 *     for await (const arrival of client) {
 *       if (arrival.kind === "snapshot-needed") await replaceEverything(await fetchSnapshot(arrival.vaults));
 *       else await apply(arrival.event, arrival.vault, arrival.data);
 *       await store(client.cursor);
 *     }
 *
 * It authenticates, renews its token when asked to, and connects again when a connection ends, unless the close
 * code says not to. Each new connection resumes where the last one ended, so that every event is handed over once
 * and in order. Where the server can't tell what was missed, a `SnapshotNeeded` comes in its place among the events.
 *
 * All durations are in seconds. Cursors are opaque: keep them and give them back.
 *
 * What a browser's WebSocket can't do shapes five things. It can't ping, so a silent connection is probed by sending
 * the subscription again. It can't stop reading, so a full buffer ends the connection, which is resumed once there is
 * room. It doesn't tell the HTTP status of a refused handshake, so that counts as no connection and is tried again; nor
 * that what came was no WebSocket frame or too large, so that counts as a connection that broke. And it can't close
 * with 1002, so a server that misbehaves is told 1000.
 *
 * @module
 */

/** The WebSocket subprotocol that is offered. */
export const SUBPROTOCOL = "localful.v1";

/** The code of a connection that ended without one (RFC 6455, section 7.4.1). */
const LOST = 1006;
const NORMAL = 1000;
const MAX_ID = 128;
const LONGEST_TIMER_MS = 2 ** 31 - 1;

// ------------------------------------------------------------------------------------------------------- errors

/** Anything the client raises of its own. No message holds a token. */
export class ClientError extends Error {
  /** @param {string} message A sentence. */
  constructor(message) {
    super(message);
    this.name = new.target.name;
  }
}

/** The server closed the connection in a way that means: don't come back. */
export class ClosedByServerError extends ClientError {
  /**
   * @param {number} code The WebSocket close code.
   * @param {string} reason Its reason word.
   * @param {string} sentence The server's sentence, if it sent an `error` first, or ours.
   */
  constructor(code, reason, sentence) {
    super(reason ? `${sentence} (${code} ${reason})` : `${sentence} (${code})`);
    this.code = code;
    this.reason = reason;
    this.sentence = sentence;
  }
}

/** The server sent what this protocol does not have; there is something else at that URL. */
export class ServerMessageError extends ClientError {}

/** The server answered a request with an `error`; the connection goes on, and nothing has changed. */
export class RequestRefusedError extends ClientError {
  /**
   * @param {string} code The error's code word, such as `too-many-vaults`.
   * @param {string} sentence The server's sentence.
   */
  constructor(code, sentence) {
    super(`${sentence} (${code})`);
    this.code = code;
    this.sentence = sentence;
  }
}

/** No answer came in time. What was asked for is asked for again with the next connection. */
export class NoAnswerError extends ClientError {}

/** The client was closed from our side, and something still waited for it. */
export class ClientClosedError extends ClientError {}

/** For `getToken` to throw: there is no token just now, ask again later. */
export class TokenUnavailableError extends ClientError {}

// -------------------------------------------------------------------------------------------- what is handed over

/** One change that the server told of. */
export class ReceivedEvent {
  /**
   * @param {string} event What happened: one of the eleven names, or one that this version does not know.
   * @param {string | null} vault The vault it happened in, where it has one.
   * @param {unknown} data What the publisher gave, as parsed JSON.
   * @param {string | null} cursor Its position in the user's stream, where the server keeps history.
   */
  constructor(event, vault, data, cursor) {
    this.kind = /** @type {const} */ ("event");
    this.event = event;
    this.vault = vault;
    this.data = data;
    this.cursor = cursor;
    Object.freeze(this);
  }
}

/**
 * What happened before this point can't be told: fetch a snapshot from the HTTP API.
 *
 * It comes in its place among the events. Those handed over before it are older than the snapshot that is fetched
 * now. Those handed over after it were accepted after `cursor`, all of them and in order; the first of them may be in
 * the snapshot already, so it must do no harm to apply an event twice.
 */
export class SnapshotNeeded {
  /**
   * @param {string | null} cursor The position from which events are told again; null without history.
   * @param {readonly string[]} vaults The subscription in force: whose content the snapshot has to hold.
   */
  constructor(cursor, vaults) {
    this.kind = /** @type {const} */ ("snapshot-needed");
    this.cursor = cursor;
    this.vaults = vaults;
    Object.freeze(this);
  }
}

// ------------------------------------------------------------------------------------------------------ reconnect

const YES = { first: 1, longest: 30, fixed: 0.5, newToken: false };
const WITH_NEW_TOKEN = { ...YES, newToken: true };
const LATER = { first: 5, longest: 120, fixed: 0.5, newToken: false };
// A server that restarts has all its devices come back: spread them over the whole time.
const AFTER_RANDOM_DELAY = { first: 10, longest: 30, fixed: 0, newToken: false };
const NO = null;

const AFTER_CLOSE = new Map([
  [1000, NO],
  [1001, AFTER_RANDOM_DELAY],
  [1002, NO],
  // Without a code, and without a close frame.
  [1005, YES],
  [LOST, YES],
  [1007, NO],
  [1009, NO],
  [1011, LATER],
  [1013, LATER],
  [4400, NO],
  [4401, WITH_NEW_TOKEN],
  [4403, NO],
  [4408, YES],
  [4410, WITH_NEW_TOKEN],
  [4412, YES],
  [4413, YES],
  [4429, LATER],
]);

/** What a close code means; one that isn't listed: later, as an error of the server's own. */
function afterClose(code) {
  const known = AFTER_CLOSE.get(code);
  return known === undefined ? LATER : known;
}

/**
 * Say how long to wait before connecting again after a close: exponential backoff with jitter.
 *
 * @param {number} code The close code.
 * @param {number} attempt How many attempts in a row have failed before, from 0.
 * @param {number} chance From 0 to 1, drawn at random.
 * @returns {number | null} Seconds; null if there is no coming back.
 */
export function pauseAfter(code, attempt, chance) {
  const backoff = afterClose(code);
  if (backoff === NO) return null;
  const span = Math.min(backoff.first * 2 ** Math.min(attempt, 16), backoff.longest);
  return span * (backoff.fixed + (1 - backoff.fixed) * chance);
}

// ---------------------------------------------------------------------------------------------------------- codec

class Malformed extends Error {}

const isText = (value) => typeof value === "string";
const isNumber = (value) => typeof value === "number";
const isFlag = (value) => typeof value === "boolean";
const isTexts = (value) => Array.isArray(value) && value.every(isText);

/** Whether a value can be a cursor: a string of 1 to 128 characters. */
function isCursor(value) {
  return isText(value) && value.length >= 1 && value.length <= 2 * MAX_ID && [...value].length <= MAX_ID;
}

function required(raw, key, isRight) {
  if (!Object.hasOwn(raw, key) || !isRight(raw[key])) throw new Malformed(key);
  return raw[key];
}

function optional(raw, key, isRight) {
  return Object.hasOwn(raw, key) ? required(raw, key, isRight) : null;
}

function texts(raw, key) {
  return Object.freeze([...required(raw, key, isTexts)]);
}

/**
 * Read what the server sent. Unknown keys are ignored; an unknown event with `data` is handed over like any other,
 * an unknown message without is one that a later version of the protocol has, and comes to null.
 */
function decode(text) {
  let raw;
  try {
    raw = JSON.parse(text);
  } catch {
    throw new ServerMessageError("The server sent what is not JSON.");
  }
  if (typeof raw !== "object" || raw === null || Array.isArray(raw) || !isText(raw.event)) {
    throw new ServerMessageError("The server sent a message without an event.");
  }
  try {
    return shape(raw);
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    throw new ServerMessageError(`The server sent ${raw.event} without a proper ${error.message}.`);
  }
}

function shape(raw) {
  switch (raw.event) {
    case "authenticated":
      return Object.freeze({
        kind: "authenticated",
        session: Object.freeze({
          user: required(raw, "user", isText),
          group: required(raw, "group", isText),
          expiresAt: required(raw, "expiresAt", isNumber),
        }),
        vaults: texts(raw, "vaults"),
        cursor: optional(raw, "cursor", isCursor),
        resumed: optional(raw, "resumed", isFlag),
        id: optional(raw, "id", isText),
      });
    case "subscribed":
      return Object.freeze({ kind: "subscribed", vaults: texts(raw, "vaults"), id: optional(raw, "id", isText) });
    case "reauthenticate":
      return Object.freeze({ kind: "reauthenticate", expiresAt: required(raw, "expiresAt", isNumber) });
    case "error":
      return Object.freeze({
        kind: "error",
        code: required(raw, "code", isText),
        message: required(raw, "message", isText),
        id: optional(raw, "id", isText),
      });
    default:
      if (!Object.hasOwn(raw, "data")) return null;
      return new ReceivedEvent(raw.event, optional(raw, "vault", isText), raw.data, optional(raw, "cursor", isCursor));
  }
}

/** The vaults as a frozen list without duplicates. */
function asVaults(vaults) {
  const list = isText(vaults) ? null : [...vaults];
  if (!isTexts(list)) throw new TypeError("vaults must be a list of vault ids.");
  return Object.freeze([...new Set(list)]);
}

const sameVaults = (one, other) => one.length === other.length && one.every((vault, at) => vault === other[at]);

// --------------------------------------------------------------------------------------------- the core, no I/O

const TRANSITIONS = {
  disconnected: { opened: "authenticating", lost: "disconnected", "given-up": "ended", closed: "ended" },
  authenticating: {
    authenticated: "ready",
    error: "authenticating",
    lost: "disconnected",
    "given-up": "ended",
    closed: "ended",
  },
  ready: {
    authenticated: "ready",
    subscribed: "ready",
    reauthenticate: "ready",
    error: "ready",
    event: "ready",
    lost: "disconnected",
    "given-up": "ended",
    closed: "ended",
  },
  ended: {},
};

/**
 * The device's side of the protocol without any I/O, from the first connection to the end of the last.
 *
 * Push in what happened. What is to be sent piles up and is taken with `takeOutgoing`, what is to be handed over with
 * `takeArrivals`; what a connection's end means comes back as a decision. Nothing here waits, reads a clock or draws
 * lots. Exported for tests and for other drivers.
 */
export class Conversation {
  /** @type {string | null} */
  #token = null;
  #outgoing = [];
  #arrivals = [];
  #requests = new Map();
  /** Those whose wish goes along with the authenticate under way. */
  #riding = [];
  /** Renewals under way: the token of each by its message's id. */
  #renewals = new Map();
  #probes = new Set();
  /** @type {{token: string, error: ClosedByServerError} | null} */
  #refused = null;
  /** @type {{code: string, message: string} | null} */
  #lastError = null;
  #attempt = 0;
  #serial = 0;
  /** Whether no event has come since the last `authenticated`. */
  #quiet = true;

  /**
   * @param {Iterable<string>} wanted The subscription to begin with.
   * @param {string | null} [since] The cursor that the first connection resumes from, if it does.
   */
  constructor(wanted, since = null) {
    /** The subscription asked for with the next connection. */
    this.wanted = asVaults(wanted);
    /** The cursor that the next connection resumes from; null if it begins at the present. */
    this.cursor = since;
    /** "disconnected", "authenticating", "ready" or "ended". */
    this.state = "disconnected";
    /** The session in force while ready. */
    this.session = null;
    /**
     * The subscription in force, or that was when the connection ended.
     * @type {readonly string[]}
     */
    this.vaults = Object.freeze([]);
  }

  /**
   * Take the token for the next connection.
   *
   * @param {string} token The token.
   * @returns {object | null} A give-up if the server has just refused this very token and asked for a new one.
   */
  takeToken(token) {
    if (this.#refused !== null && this.#refused.token === token) {
      this.#move("given-up");
      return { kind: "give-up", error: this.#refused.error };
    }
    this.#token = token;
    return null;
  }

  /** Take note that the WebSocket is open. Throws if it is open already, or no token has been taken. */
  connectionOpened() {
    if (this.#token === null) throw new Error("A connection needs a token first.");
    this.#move("opened");
    this.#lastError = null;
    this.#riding = [...this.#requests.values()];
    this.#outgoing = [this.#authenticate(this.#token, { first: true, id: this.#nextId() })];
  }

  /** @returns {string[]} The messages that are to be sent now, in order. */
  takeOutgoing() {
    const outgoing = this.#outgoing;
    this.#outgoing = [];
    return outgoing;
  }

  /**
   * @returns {{content: ReceivedEvent | SnapshotNeeded | null, cursor: string | null}[]} What is to be handed over,
   *   in order, each with the cursor to resume from once it has been; without content only the cursor moves.
   */
  takeArrivals() {
    const arrivals = this.#arrivals;
    this.#arrivals = [];
    return arrivals;
  }

  /**
   * Ask for another subscription: now if connected, else with the next connection.
   *
   * @param {Iterable<string>} vaults Every vault whose data events are wanted.
   * @returns {{id: string, vaults: readonly string[], outcome: object | null}} The request; its `outcome` is the
   *   server's answer, once it is there.
   */
  subscribe(vaults) {
    const request = { id: this.#nextId(), vaults: asVaults(vaults), outcome: null };
    this.wanted = request.vaults;
    this.#requests.set(request.id, request);
    if (this.state === "ready") this.#sendSubscribe(request.vaults, request.id);
    return request;
  }

  /** Stop waiting for the answer to a request; the wish itself stands. May be called again. */
  forget(request) {
    this.#requests.delete(request.id);
  }

  /** Send a new token, unless it is the old one or there is no session to renew. */
  renew(token) {
    if (this.state !== "ready" || token === this.#token) return;
    const id = this.#nextId();
    this.#renewals.set(id, token);
    this.#outgoing.push(this.#authenticate(token, { first: false, id }));
  }

  /** Make the server say something, by asking for the subscription that is wanted already. */
  probe() {
    if (this.state !== "ready" || this.#requests.size > 0 || this.#probes.size > 0) return;
    const id = this.#nextId();
    this.#probes.add(id);
    this.#sendSubscribe(this.wanted, id);
  }

  /**
   * Take a message from the server.
   *
   * @param {unknown} text The message as it came.
   * @returns {object | null} What it says; null for one of no meaning to us.
   * @throws {ServerMessageError} If it is no message of this protocol, or can't come now.
   */
  receiveText(text) {
    if (!isText(text)) throw new ServerMessageError("The server sent a binary message.");
    const message = decode(text);
    if (message === null) return null;
    if (!Object.hasOwn(TRANSITIONS[this.state], message.kind)) {
      const name = message.kind === "event" ? message.event : message.kind;
      throw new ServerMessageError(`The server sent ${name} while ${this.state}.`);
    }
    const before = this.state;
    this.#move(message.kind);
    switch (message.kind) {
      case "authenticated":
        this.#authenticated(message, before);
        break;
      case "subscribed":
        // A probe asks for nothing new, and may have crossed a vault-delete.
        if (this.#probes.delete(message.id)) break;
        this.vaults = message.vaults;
        this.#settle(message);
        break;
      case "error":
        this.#lastError = message;
        this.#renewals.delete(message.id);
        this.#probes.delete(message.id);
        this.#settle(message);
        break;
      case "event":
        this.#receive(message);
        break;
      default:
    }
    return message;
  }

  /**
   * Take note that a connection ended, or never came about.
   *
   * @param {number | null} code The close code; 1006 if there was none, null if there was no WebSocket.
   * @param {string} reason The close reason.
   * @param {string} message A sentence about it, where the server sends none.
   * @param {number} chance From 0 to 1, drawn at random.
   * @returns {object} The decision: come back after `delay` seconds, or give up with `error`.
   */
  connectionLost(code, reason, message, chance) {
    if (this.state === "ended") return { kind: "give-up", error: null };
    const codeOrLost = code ?? LOST;
    const sentence = this.#lastError !== null && this.#lastError.code === reason ? this.#lastError.message : message;
    const error = new ClosedByServerError(codeOrLost, reason, sentence);
    if (afterClose(codeOrLost)?.newToken && this.#token !== null) this.#refused = { token: this.#token, error };
    const delay = pauseAfter(codeOrLost, this.#attempt, chance);
    this.#move(delay === null ? "given-up" : "lost");
    this.#attempt += 1;
    if (delay === null) return { kind: "give-up", error };
    return { kind: "come-back", delay, code, reason, message: sentence };
  }

  /** Take note that the connection was ended because of what the server sent; gives the decision. */
  serverMisbehaved(error) {
    this.close();
    return { kind: "give-up", error };
  }

  /** End it from our side. May be called again. */
  close() {
    if (this.state !== "ended") this.#move("closed");
  }

  #authenticated(message, before) {
    this.session = message.session;
    this.vaults = message.vaults;
    if (this.#renewals.has(message.id)) this.#token = this.#renewals.get(message.id);
    this.#renewals.delete(message.id);
    if (before === "ready") {
      this.#renewed(message);
      return;
    }
    this.#begin(message);
    this.#attempt = 0;
    this.#refused = null;
    for (const request of this.#riding) {
      request.outcome = Object.freeze({ kind: "subscribed", vaults: message.vaults, id: request.id });
      this.forget(request);
    }
    this.#riding = [];
    // Wishes that came up while the token was being verified.
    for (const request of this.#requests.values()) this.#sendSubscribe(request.vaults, request.id);
  }

  /** Take note of a new connection's `authenticated`; `this.cursor` was its `since`. */
  #begin(message) {
    this.#quiet = true;
    // What was missed follows a `resumed`, and the message's cursor lies behind all of it: should the connection
    // break before, the next one resumes from what had come by then.
    if (this.cursor !== null && message.resumed) return;
    this.cursor = message.cursor;
    this.#arrivals.push({ content: new SnapshotNeeded(message.cursor, message.vaults), cursor: message.cursor });
  }

  /**
   * Take note of a renewal's `authenticated`: all up to its cursor was sent before it. While an event is on its way
   * to the user's other devices, a renewal names the position before it; so it counts only if no event has come.
   */
  #renewed(message) {
    const quiet = this.#quiet;
    this.#quiet = true;
    if (!quiet || message.cursor === null || message.cursor === this.cursor) return;
    this.cursor = message.cursor;
    this.#arrivals.push({ content: null, cursor: this.cursor });
  }

  #receive(event) {
    if (event.cursor !== null) {
      this.cursor = event.cursor;
      this.#quiet = false;
    }
    this.#arrivals.push({ content: event, cursor: this.cursor });
    if (event.event === "vault-delete") {
      this.vaults = Object.freeze(this.vaults.filter((vault) => vault !== event.vault));
      this.wanted = Object.freeze(this.wanted.filter((vault) => vault !== event.vault));
    }
  }

  #settle(answer) {
    const request = this.#requests.get(answer.id);
    if (request === undefined) return;
    this.#requests.delete(request.id);
    request.outcome = answer;
    if (answer.kind === "error" && sameVaults(this.wanted, request.vaults)) this.wanted = this.vaults;
  }

  #authenticate(token, { first, id }) {
    const message = { event: "authenticate", token };
    if (first) message.vaults = this.wanted;
    if (first && this.cursor !== null) message.since = this.cursor;
    return JSON.stringify({ ...message, id });
  }

  #sendSubscribe(vaults, id) {
    this.#outgoing.push(JSON.stringify({ event: "subscribe", vaults, id }));
  }

  #move(happening) {
    if (!Object.hasOwn(TRANSITIONS[this.state], happening)) {
      throw new Error(`${happening} cannot happen while ${this.state}.`);
    }
    this.state = TRANSITIONS[this.state][happening];
    if (this.state === "disconnected" || this.state === "ended") {
      this.session = null;
      this.#outgoing = [];
      this.#renewals.clear();
      this.#probes.clear();
    }
  }

  #nextId() {
    this.#serial += 1;
    return String(this.#serial);
  }
}

// ----------------------------------------------------------------------------------------------------- the driver

/** How long a client waits for what, in seconds, unless it is told otherwise. */
const TIMEOUTS = Object.freeze({ token: 30, connect: 10, answer: 10, pingInterval: 30, ping: 20, close: 5 });

/**
 * Be a device until it is closed. Does not wait for the server: iterate, or await `Client.ready`.
 *
 * @param {string} url Where the server is: `ws://…` or `wss://…`.
 * @param {() => string | Promise<string>} getToken Gives an access token. Called before each connection and when the
 *   server asks for a renewal. It may throw `TokenUnavailableError` to be asked again later; whatever else it throws
 *   before a connection ends the client.
 * @param {object} [options] See `ClientOptions` in the type declarations.
 * @returns {Client} The client.
 * @throws {TypeError | RangeError} If an argument can't be.
 */
export function openClient(url, getToken, options = {}) {
  return new Client(url, getToken, options);
}

/**
 * A device: iterate over it for its events. `openClient` makes one.
 *
 * Each event that concerns the device is handed over once, in the order in which the server accepted them, however
 * often the connection breaks. Where that can't be, and at the very beginning unless `since` said where to begin, a
 * `SnapshotNeeded` comes in its place among the events.
 *
 * Iteration throws `ClosedByServerError` or another `ClientError` when there is no coming back, or what `getToken`
 * threw; events that came before are handed over first. It simply ends when the client is closed from our side.
 * Leaving a `for await` does not close the client.
 *
 * Back-pressure: when `bufferedEvents` wait to be handed over, the connection is closed; once half of them have been
 * taken it is made anew and resumes. Nothing that was received is dropped.
 */
export class Client {
  #url;
  #getToken;
  #timeouts;
  #bufferedEvents;
  #onStatus;
  #WebSocket;
  #timers;
  #random;
  #network;
  #signal;
  #conversation;
  #inbox = [];
  #takers = [];
  #cursor;
  /** Called when something has changed that somebody may wait for. */
  #watchers = new Set();
  /** @type {Link | null} */
  #link = null;
  #closing = false;
  #over = false;
  /** @type {unknown} */
  #failure = null;
  #ended;

  /** Use `openClient`. */
  constructor(url, getToken, options) {
    const { vaults = [], since = null, timeouts = {}, bufferedEvents = 1024, onArrival, onStatus, signal } = options;
    const { WebSocket = globalThis.WebSocket, timers = globalThis, random = Math.random } = options;
    const { network = globalThis } = options;
    if (!/^wss?:$/.test(new URL(url).protocol)) throw new TypeError("The URL must begin with ws:// or wss://.");
    if (typeof getToken !== "function") throw new TypeError("getToken must be a function.");
    if (since !== null && !isCursor(since)) throw new TypeError("since must be a cursor, a string of 1 to 128 characters.");
    if (!(bufferedEvents >= 1)) throw new RangeError("bufferedEvents must be at least 1.");
    if (typeof WebSocket !== "function") throw new TypeError("There is no WebSocket here: pass a class as WebSocket.");
    this.#url = url;
    this.#getToken = getToken;
    this.#timeouts = { ...TIMEOUTS, ...timeouts };
    this.#bufferedEvents = bufferedEvents;
    this.#onStatus = onStatus ?? (() => {});
    this.#WebSocket = WebSocket;
    this.#timers = timers;
    this.#random = random;
    this.#network = typeof network?.addEventListener === "function" ? network : null;
    this.#signal = signal ?? null;
    this.#cursor = since;
    this.#conversation = new Conversation(vaults, since);
    this.#ended = this.#run();
    if (onArrival !== undefined) this.#handOver(onArrival);
  }

  /** The session in force: `{user, group, expiresAt}`; null while not connected. */
  get session() {
    return this.#conversation.session;
  }

  /** The subscription that the server confirmed last. */
  get vaults() {
    return this.#conversation.vaults;
  }

  /**
   * The position up to which everything has been handed over; null where the server keeps no history.
   *
   * Store it once what was handed over last has been dealt with, best in the same transaction, and pass it as `since`
   * to the next client: it goes on from there. It moves when an event or a `SnapshotNeeded` is handed over, and now
   * and then while the next one is waited for.
   */
  get cursor() {
    return this.#cursor;
  }

  /** Resolves when the client has ended: with what ended it, or null if it was closed from our side. Never rejects. */
  get ended() {
    return this.#ended;
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  /** The next event or `SnapshotNeeded`, as an iterator gives it. */
  next() {
    return new Promise((resolve, reject) => {
      this.#takers.push({ resolve, reject });
      this.#serve();
    });
  }

  /**
   * Wait until the device is authenticated: its events arrive from then on.
   *
   * @returns {Promise<object>} The session. Rejects if the client has ended.
   */
  ready() {
    return quiet(this.#until(() => this.session, null));
  }

  /**
   * Replace the subscription, and wait until it is in force. While there is no connection the wish goes along with
   * the next.
   *
   * A vault that was not in the subscription before needs a snapshot, fetched after this resolves; there is no
   * `SnapshotNeeded` for it. If the answer came with a connection that resumed, older events of such a vault may be
   * handed over as well.
   *
   * @param {Iterable<string>} vaults Every vault whose data events are wanted.
   * @returns {Promise<readonly string[]>} The subscription now in force. Rejects with `RequestRefusedError` if the
   *   server refuses it (the earlier one stays), with `NoAnswerError` if no answer comes in time (the wish stands),
   *   or with what ended the client.
   */
  subscribe(vaults) {
    return quiet(this.#subscribe(vaults));
  }

  /**
   * Renew the token now, rather than when the server asks for it: `getToken` is called, and what it gives is sent
   * unless it is the present one. While there is no connection nothing happens. If `getToken` throws, `onStatus` is
   * told.
   */
  async renew() {
    if (this.#link !== null && this.session !== null) await this.#renew(this.#link);
  }

  /** Say goodbye to the server, in bounded time. Resolves when nothing is left running. May be called again. */
  async close() {
    this.#stop();
    await this.#ended;
  }

  #stop = () => {
    if (this.#over || this.#closing) return;
    this.#closing = true;
    this.#conversation.close();
    this.#link?.sayGoodbye();
    this.#tellChange();
  };

  async #subscribe(vaults) {
    const request = this.#conversation.subscribe(vaults);
    this.#link?.flush();
    let outcome;
    try {
      outcome = await this.#until(() => request.outcome, this.#timeouts.answer);
    } finally {
      this.#conversation.forget(request);
    }
    if (outcome === null) throw new NoAnswerError("The server has not confirmed the subscription in time.");
    if (outcome.kind === "error") throw new RequestRefusedError(outcome.code, outcome.message);
    return outcome.vaults;
  }

  async #run() {
    // Not before whoever opened the client has it in hand.
    await null;
    this.#signal?.addEventListener("abort", this.#stop);
    this.#network?.addEventListener("online", this.#online);
    try {
      if (this.#signal?.aborted) this.#stop();
      await this.#stayConnected();
    } catch (error) {
      // Such as what getToken threw. It belongs to whoever iterates.
      if (!this.#closing) this.#failure = error;
    } finally {
      this.#signal?.removeEventListener("abort", this.#stop);
      this.#network?.removeEventListener("online", this.#online);
      this.#conversation.close();
      this.#over = true;
      this.#tellChange();
      this.#serve();
    }
    return this.#failure;
  }

  async #stayConnected() {
    while (!this.#closing) {
      const decision = await this.#connectOnce();
      if (decision.kind === "give-up") {
        this.#failure ??= decision.error;
        return;
      }
      this.#tellChange();
      const { code, reason, message, delay } = decision;
      this.#onStatus({ kind: "disconnected", code, reason, message, delay });
      await this.#pause(decision);
      // A connection that nobody reads from would soon be given up again.
      const roomy = Math.floor(this.#bufferedEvents / 2);
      await this.#wait(null, (done) => this.#watch(() => this.#inbox.length <= roomy && done()));
    }
  }

  async #connectOnce() {
    let token;
    try {
      token = await this.#fetchToken();
    } catch (error) {
      if (!(error instanceof TokenUnavailableError)) throw error;
      return this.#lost(error.message, null);
    }
    if (this.#closing) return { kind: "give-up", error: null };
    return this.#conversation.takeToken(token) ?? (await this.#hold());
  }

  /** Connect and stay connected as long as can be; say what comes next. */
  #hold() {
    return new Promise((resolve, reject) => {
      const link = new Link(this.#WebSocket, this.#url, this.#timers, this.#timeouts, this.#conversation, {
        lost: (message, code, reason) => this.#lost(message, code, reason),
        said: (message) => this.#said(link, message),
        end: (decision) => {
          this.#link = null;
          resolve(decision);
        },
        fail: (error) => {
          this.#link = null;
          reject(error);
        },
      });
      this.#link = link;
    });
  }

  #said(link, message) {
    for (const arrival of this.#conversation.takeArrivals()) this.#inbox.push(arrival);
    this.#serve();
    if (message?.kind === "authenticated") {
      const { session, vaults, resumed } = message;
      this.#onStatus({ kind: "connected", session, vaults, resumed });
    } else if (message?.kind === "error") {
      this.#onStatus({ kind: "refused", code: message.code, message: message.message });
    } else if (message?.kind === "reauthenticate") {
      this.#renew(link);
    }
    this.#tellChange();
    if (this.#inbox.length >= this.#bufferedEvents) link.leave("Too many events wait to be handed over.");
  }

  async #renew(link) {
    try {
      const token = await this.#fetchToken();
      if (link !== this.#link) return;
      this.#conversation.renew(token);
      link.flush();
    } catch (error) {
      if (link === this.#link) link.guard(() => this.#onStatus({ kind: "renewal-failed", error }));
    }
  }

  /** Call `getToken`, for as long as that may take; nothing comes of it once the client is closing. */
  async #fetchToken() {
    const token = await this.#wait(this.#timeouts.token, (done, fail) => {
      Promise.resolve()
        .then(this.#getToken)
        .then((given) => done({ given }), fail);
    });
    if (token === TIMED_OUT) throw new TokenUnavailableError("There is no token: getToken took too long.");
    if (token === STOPPED) return "";
    if (!isText(token.given)) throw new TypeError(`getToken must give a string, not ${typeof token.given}.`);
    return token.given;
  }

  /** Wait before the next connection. Being online again ends it, unless it was the server who wants to be left. */
  async #pause({ delay, code }) {
    await this.#wait(delay, (done) => {
      if (code !== null && code !== LOST) return undefined;
      this.#network?.addEventListener("online", done);
      return () => this.#network?.removeEventListener("online", done);
    });
  }

  #online = () => this.#link?.probe();

  /** Call `onArrival` with one after the other; what it throws ends the client. */
  async #handOver(onArrival) {
    try {
      for await (const arrival of this) await onArrival(arrival);
    } catch (error) {
      if (this.#over || this.#closing) return;
      this.#failure = error;
      this.#stop();
    }
  }

  /** Give what has arrived to those who wait for it, or the end. */
  #serve() {
    while (this.#takers.length > 0 && this.#inbox.length > 0) {
      const { content, cursor } = this.#inbox.shift();
      this.#cursor = cursor;
      if (content !== null) this.#takers.shift().resolve({ value: content, done: false });
      this.#tellChange();
    }
    if (!this.#over) return;
    for (const { resolve, reject } of this.#takers.splice(0)) {
      if (this.#failure === null) resolve({ value: undefined, done: true });
      else reject(this.#failure);
    }
  }

  /** @param {number | null} [code] */
  #lost(message, code = LOST, reason = "") {
    return this.#conversation.connectionLost(code, reason, message, this.#random());
  }

  #tellChange() {
    for (const watcher of [...this.#watchers]) watcher();
  }

  /** Call `look` now and at each change, until what is returned is called. */
  #watch(look) {
    this.#watchers.add(look);
    look();
    return () => this.#watchers.delete(look);
  }

  /** Wait until `look` gives something: resolves with it, or with null after `seconds`; rejects at the end. */
  #until(look, seconds) {
    const found = this.#wait(seconds, (done) => this.#watch(() => look() && done(look())));
    return found.then((value) => {
      if (value === STOPPED) throw this.#failure ?? new ClientClosedError("The client has been closed.");
      return value === TIMED_OUT ? null : value;
    });
  }

  /**
   * Wait until `begin`'s argument is called, for at most `seconds`, or until the client ends.
   *
   * @param {number | null} seconds The bound; null for none.
   * @param {(done: (value?: any) => void, fail: (error: unknown) => void) => (() => void) | void} begin
   *   Returns what to do at the end.
   */
  #wait(seconds, begin) {
    return new Promise((resolve, reject) => {
      let timer = null;
      let cleanUp;
      let settled = false;
      const settle = (how, value) => {
        if (settled) return;
        settled = true;
        if (timer !== null) this.#timers.clearTimeout(timer);
        this.#watchers.delete(stop);
        cleanUp?.();
        how(value);
      };
      const stop = () => (this.#closing || this.#over) && settle(resolve, STOPPED);
      const fail = (error) => settle(reject, error);
      cleanUp = /** @type {(() => void) | undefined} */ (begin((value) => settle(resolve, value), fail));
      if (settled) {
        cleanUp?.();
        return;
      }
      this.#watchers.add(stop);
      stop();
      if (!settled && seconds !== null) timer = later(this.#timers, seconds, () => settle(resolve, TIMED_OUT));
    });
  }
}

const STOPPED = Symbol("stopped");
const TIMED_OUT = Symbol("timed out");

/** One connection: a WebSocket and the timers that watch over it. */
class Link {
  #socket;
  #timers;
  #timeouts;
  #conversation;
  #owner;
  #timer = null;
  #over = false;
  #opened = false;

  constructor(WebSocket, url, timers, timeouts, conversation, owner) {
    this.#timers = timers;
    this.#timeouts = timeouts;
    this.#conversation = conversation;
    this.#owner = owner;
    this.#socket = new WebSocket(url, [SUBPROTOCOL]);
    this.#socket.onopen = () => this.guard(() => this.#open());
    this.#socket.onmessage = ({ data }) => this.guard(() => this.#message(data));
    this.#socket.onclose = ({ code, reason }) => this.#closed(code, reason);
    // A close follows, and it says more.
    this.#socket.onerror = () => {};
    this.#arm(timeouts.connect, () => this.leave("There is no connection: the server did not answer in time.", null));
  }

  /** Send what is to be sent. */
  flush() {
    if (this.#over || !this.#opened) return;
    for (const text of this.#conversation.takeOutgoing()) this.#socket.send(text);
  }

  /** Find out whether the server is still there. */
  probe() {
    if (this.#over || this.#conversation.state !== "ready") return;
    this.#conversation.probe();
    this.flush();
    this.#arm(this.#timeouts.ping, () => this.leave("The server fell silent."));
  }

  /** End the connection from our side, to come back. */
  leave(message, code) {
    if (this.#over) return;
    const decision = this.#owner.lost(message, code);
    this.#drop();
    this.#owner.end(decision);
  }

  /** Close, and wait for the server's answer for a while. */
  sayGoodbye() {
    if (this.#over) return;
    this.#socket.onopen = null;
    this.#socket.onmessage = null;
    this.#arm(this.#timeouts.close, () => this.#closed(LOST, ""));
    this.#socket.close(NORMAL, "normal");
  }

  /** Do something of which an error ends the client, rather than being nobody's. */
  guard(action) {
    try {
      action();
    } catch (error) {
      if (this.#over) return;
      this.#drop();
      if (error instanceof ServerMessageError) this.#owner.end(this.#conversation.serverMisbehaved(error));
      else this.#owner.fail(error);
    }
  }

  #open() {
    this.#opened = true;
    this.#conversation.connectionOpened();
    this.flush();
    this.#arm(this.#timeouts.answer, () => this.leave("The server did not answer in time."));
  }

  #message(data) {
    const message = this.#conversation.receiveText(data);
    // Until it is authenticated, the time for the first answer goes on.
    if (this.#conversation.state === "ready") this.#arm(this.#timeouts.pingInterval, () => this.probe());
    this.flush();
    this.#owner.said(message);
  }

  #closed(code, reason) {
    if (this.#over) return;
    const message = code === LOST ? "The connection broke." : "The server closed the connection.";
    const decision = this.#opened
      ? this.#owner.lost(message, code, reason)
      : this.#owner.lost("There is no connection: no WebSocket server answered.", null);
    this.#drop();
    this.#owner.end(decision);
  }

  #drop() {
    this.#over = true;
    this.#disarm();
    this.#socket.onopen = null;
    this.#socket.onmessage = null;
    this.#socket.onclose = null;
    this.#socket.close(NORMAL, "normal");
  }

  /** At most one thing is waited for at a time. */
  #arm(seconds, action) {
    this.#disarm();
    this.#timer = later(this.#timers, seconds, () => {
      this.#timer = null;
      action();
    });
  }

  #disarm() {
    if (this.#timer !== null) this.#timers.clearTimeout(this.#timer);
    this.#timer = null;
  }
}

function later(timers, seconds, action) {
  return timers.setTimeout(action, Math.min(seconds * 1000, LONGEST_TIMER_MS));
}

/** A promise that nobody has to look at. */
function quiet(promise) {
  promise.catch(() => {});
  return promise;
}
