/** A device in JavaScript, for browsers and Node. All durations are in seconds; cursors are opaque. */

/** The WebSocket subprotocol that is offered. */
export declare const SUBPROTOCOL: "localful.v1";

/** Anything the client raises of its own. No message holds a token. */
export declare class ClientError extends Error {
  constructor(message: string);
}
/** The server closed the connection in a way that means: don't come back. */
export declare class ClosedByServerError extends ClientError {
  constructor(code: number, reason: string, sentence: string);
  /** The WebSocket close code. */
  readonly code: number;
  /** Its reason word. */
  readonly reason: string;
  /** The server's sentence, if it sent an `error` first, or ours. */
  readonly sentence: string;
}
/** The server sent what this protocol does not have; there is something else at that URL. */
export declare class ServerMessageError extends ClientError {}
/** The server answered a request with an `error`; the connection goes on, and nothing has changed. */
export declare class RequestRefusedError extends ClientError {
  constructor(code: string, sentence: string);
  /** The error's code word, such as `too-many-vaults`. */
  readonly code: string;
  /** The server's sentence. */
  readonly sentence: string;
}
/** No answer came in time. What was asked for is asked for again with the next connection. */
export declare class NoAnswerError extends ClientError {}
/** The client was closed from our side, and something still waited for it. */
export declare class ClientClosedError extends ClientError {}
/** For `getToken` to throw: there is no token just now, ask again later. */
export declare class TokenUnavailableError extends ClientError {}

/** One change that the server told of. */
export declare class ReceivedEvent {
  constructor(event: string, vault: string | null, data: unknown, cursor: string | null);
  readonly kind: "event";
  /** One of the eleven names, or one that this version does not know. */
  readonly event: string;
  readonly vault: string | null;
  /** What the publisher gave, as parsed JSON. */
  readonly data: unknown;
  readonly cursor: string | null;
}
/** What happened before this point can't be told: fetch a snapshot from the HTTP API. */
export declare class SnapshotNeeded {
  constructor(cursor: string | null, vaults: readonly string[]);
  readonly kind: "snapshot-needed";
  /** The position from which events are told again; null if the server keeps no history. */
  readonly cursor: string | null;
  /** The subscription in force: the vaults whose content the snapshot has to hold. */
  readonly vaults: readonly string[];
}
export type Handed = ReceivedEvent | SnapshotNeeded;

/** What a verified token says. */
export interface Session {
  readonly user: string;
  readonly group: string;
  /** Unix seconds. */
  readonly expiresAt: number;
}

export type Status =
  /** Authenticated, or renewed. `resumed` is null if there was nothing to go on from, or in a renewal. */
  | {
      readonly kind: "connected";
      readonly session: Session;
      readonly vaults: readonly string[];
      readonly resumed: boolean | null;
    }
  /** The connection ended, or could not be made (`code` null, or 1006 without a code); tried again after `delay`. */
  | {
      readonly kind: "disconnected";
      readonly code: number | null;
      readonly reason: string;
      readonly message: string;
      readonly delay: number;
    }
  /** The server sent an `error`: it refused a request, or is about to close. */
  | { readonly kind: "refused"; readonly code: string; readonly message: string }
  /** `getToken` threw when a renewal was due. It is called again once the token has expired. */
  | { readonly kind: "renewal-failed"; readonly error: unknown };

/** How long a client waits, in seconds. */
export interface Timeouts {
  /** For `getToken`; 30. */
  token: number;
  /** For the connection and the WebSocket handshake together; 10. */
  connect: number;
  /** For the server's answer to a message; 10. */
  answer: number;
  /** Of silence, before the server is asked for a sign of life; 30. */
  pingInterval: number;
  /** For that sign; after it the connection counts as lost; 20. */
  ping: number;
  /** For the server's answer to our close; 5. */
  close: number;
}

/** What the client needs of a WebSocket. */
export interface WebSocketLike {
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(data: string): void;
  close(code?: number, reason?: string): void;
}
export type WebSocketClass = new (url: string, protocols: string[]) => WebSocketLike;

export interface ClientOptions {
  /** The vaults whose data events are wanted; none. */
  vaults?: Iterable<string>;
  /** The cursor of an earlier client of the same user, to go on where it ended; else it begins at the present. */
  since?: string | null;
  /** How long to wait for what. */
  timeouts?: Partial<Timeouts>;
  /** Events that may wait to be handed over, at least 1; 1024. When they are so many, the connection is closed and
   *  made anew once half of them have been taken. */
  bufferedEvents?: number;
  /** Called with each event and `SnapshotNeeded`, one after the other, instead of iterating. A promise it returns is
   *  waited for; what it throws ends the client. */
  onArrival?: (arrival: Handed) => unknown;
  /** Called when the connection comes and goes. What it throws ends the client. */
  onStatus?: (status: Status) => void;
  /** Closes the client when it is aborted. */
  signal?: AbortSignal;
  /** The WebSocket class, where there is no global one (Node before 22). */
  WebSocket?: WebSocketClass;
  /** Whose `online` event says that it is worth to connect again at once; `globalThis`, if it has such events. */
  network?: {
    addEventListener(type: string, listener: () => void): void;
    removeEventListener(type: string, listener: () => void): void;
  } | null;
  /** Timers to use; the global ones. */
  timers?: { setTimeout(action: () => void, milliseconds: number): any; clearTimeout(timer: any): void };
  /** Draws a number from 0 to 1, for the jitter of reconnections; `Math.random`. */
  random?: () => number;
}

/**
 * Be a device until it is closed. Does not wait for the server: iterate, or await `Client.ready`.
 *
 * @param getToken Gives an access token. Called before each connection and when the server asks for a renewal. It may
 *   throw `TokenUnavailableError` to be asked again later; whatever else it throws before a connection ends the client.
 */
export declare function openClient(
  url: string,
  getToken: () => string | Promise<string>,
  options?: ClientOptions,
): Client;

/** A device: iterate over it for its events. Leaving a `for await` does not close it. */
export declare class Client implements AsyncIterableIterator<Handed> {
  private constructor();
  /** The session in force; null while not connected. */
  get session(): Session | null;
  /** The subscription that the server confirmed last. */
  get vaults(): readonly string[];
  /** The position up to which everything has been handed over: store it, and pass it as `since` to the next client. */
  get cursor(): string | null;
  /** Resolves when the client has ended: with what ended it, or null if it was closed from our side. Never rejects. */
  get ended(): Promise<unknown>;
  [Symbol.asyncIterator](): this;
  next(): Promise<IteratorResult<Handed, undefined>>;
  /** Wait until the device is authenticated. Rejects if the client has ended. */
  ready(): Promise<Session>;
  /**
   * Replace the subscription, and wait until it is in force. Rejects with `RequestRefusedError` if the server refuses
   * it, with `NoAnswerError` if no answer comes in time (the wish stands), or with what ended the client.
   */
  subscribe(vaults: Iterable<string>): Promise<readonly string[]>;
  /** Renew the token now, rather than when the server asks for it. While there is no connection nothing happens. */
  renew(): Promise<void>;
  /** Say goodbye to the server, in bounded time. Resolves when nothing is left running. */
  close(): Promise<void>;
}

/** How long to wait before connecting again after a close, in seconds; null if there is no coming back. */
export declare function pauseAfter(code: number, attempt: number, chance: number): number | null;

export type ConversationState = "disconnected" | "authenticating" | "ready" | "ended";
export type Decision =
  | {
      readonly kind: "come-back";
      readonly delay: number;
      readonly code: number | null;
      readonly reason: string;
      readonly message: string;
    }
  | { readonly kind: "give-up"; readonly error: ClientError | null };
export interface Arrival {
  /** What is handed over; null if nothing but the cursor moves. */
  readonly content: Handed | null;
  /** The cursor to resume from once it has been handed over. */
  readonly cursor: string | null;
}
export type ServerMessage =
  | {
      readonly kind: "authenticated";
      readonly session: Session;
      readonly vaults: readonly string[];
      readonly cursor: string | null;
      readonly resumed: boolean | null;
      readonly id: string | null;
    }
  | { readonly kind: "subscribed"; readonly vaults: readonly string[]; readonly id: string | null }
  | { readonly kind: "reauthenticate"; readonly expiresAt: number }
  | { readonly kind: "error"; readonly code: string; readonly message: string; readonly id: string | null }
  | ReceivedEvent;
export interface SubscribeRequest {
  readonly id: string;
  readonly vaults: readonly string[];
  /** The server's answer, once it is there. */
  readonly outcome: Extract<ServerMessage, { kind: "subscribed" | "error" }> | null;
}

/** The device's side of the protocol without any I/O: for tests and for other drivers. */
export declare class Conversation {
  constructor(wanted: Iterable<string>, since?: string | null);
  wanted: readonly string[];
  cursor: string | null;
  state: ConversationState;
  session: Session | null;
  vaults: readonly string[];
  takeToken(token: string): Extract<Decision, { kind: "give-up" }> | null;
  connectionOpened(): void;
  takeOutgoing(): string[];
  takeArrivals(): Arrival[];
  subscribe(vaults: Iterable<string>): SubscribeRequest;
  forget(request: SubscribeRequest): void;
  renew(token: string): void;
  probe(): void;
  receiveText(text: unknown): ServerMessage | null;
  connectionLost(code: number | null, reason: string, message: string, chance: number): Decision;
  serverMisbehaved(error: ServerMessageError): Extract<Decision, { kind: "give-up" }>;
  close(): void;
}
