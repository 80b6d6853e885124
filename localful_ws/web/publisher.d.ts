/**
 * Publishing from an HTTP API in JavaScript: the queue, the ids and the trying again. `publisher.js` says more.
 *
 * All durations are in seconds.
 *
 * @module
 */

/** Anything a publisher throws of its own. No message holds the key. */
export declare class PublisherError extends Error {
  constructor(message: string);
}
/** So much waits already that this was not taken: the server is away, or slower than the events come. */
export declare class QueueFullError extends PublisherError {}
/** The publisher has been closed: it takes no more, or what was waited for has not left. */
export declare class PublisherClosedError extends PublisherError {}
/** The server has refused it, and would refuse it again; with `too-many-revocations`, for some time. */
export declare class EventRefusedError extends PublisherError {
  constructor(status: number, identifier: string, sentence: string);
  /** The HTTP status. */
  readonly status: number;
  /** The server's word for it, such as `event-too-big`; empty if somebody else answered. */
  readonly identifier: string;
  /** The server's sentence, likewise. */
  readonly sentence: string;
}

/** What can have happened. */
export type EventName =
  | "user-update" | "user-email-change" | "user-password-change" | "user-delete"
  | "vault-create" | "vault-update" | "vault-delete"
  | "item-create" | "item-delete" | "version-create" | "version-delete";

/** What `POST /v1/events` takes. */
export interface PublishedEvent {
  event: EventName;
  /** Whose devices may hear of it. */
  user: string;
  /** The vault it happened in; for vault and data events. */
  vault?: string;
  /** The token group whose request made the change, and which is not told. */
  group?: string;
  /** What the devices see, exactly as it is: ids, not content. */
  data?: unknown;
  /** Your own name for it; else a UUID is made. */
  id?: string;
}

export interface PublisherOptions {
  /** Is given each event that the server refused, and why; else that is logged. */
  onRefused?: (event: PublishedEvent & { id: string }, error: EventRefusedError) => void;
  /** Is told, in a sentence, why nothing gets through at present, once until that changes; else that is logged. */
  onTrouble?: (reason: string) => void;
  /** Events that may wait; 10 000. */
  maxWaiting?: number;
  /** Their size as JSON; 64 MiB. */
  maxWaitingBytes?: number;
  /** Events in a request, at most the server's `max-batch`; 1000. */
  maxBatch?: number;
  /** Their size; 1 MiB. An event that is larger goes by itself. */
  maxBatchBytes?: number;
  /** How long the server has to answer; 10. */
  timeout?: number;
  /** What the pauses between attempts grow to; 30. */
  longestPause?: number;
  /** The `fetch` to use; the global one. */
  fetch?: typeof fetch;
  /** Timers to use; the global ones. */
  timers?: { setTimeout(action: () => void, milliseconds: number): any; clearTimeout(timer: any): void };
  /** Draws a number from 0 to 1, for pauses; `Math.random`. */
  random?: () => number;
  /** Tells the time, in Unix seconds, for disconnects; by `Date.now`. */
  now?: () => number;
}

/** Publishes events, in order. */
export declare class Publisher {
  /**
   * @param url The server's internal port: `http://127.0.0.1:42103`.
   * @param key The publisher key.
   */
  constructor(url: string, key: string, options?: PublisherOptions);
  /**
   * Have an event published. Returns at once, with the event's id. It is written as JSON here and now. Throws
   * `QueueFullError` if too much waits, and `PublisherClosedError` once closed.
   */
  publish(event: PublishedEvent): string;
  /** Wait until everything published so far has been accepted, or refused. Rejects if it is closed before that. */
  flush(): Promise<void>;
  /**
   * End sessions, after what was published before, and wait for that. Only those are meant whose tokens were issued
   * before this call, however often it is tried. Resolves with how many connections are being closed; rejects with
   * `EventRefusedError`, `QueueFullError` or `PublisherClosedError`.
   *
   * @param whose `user` and `group` are one login; `user` alone, all of the user's. `group` alone is every user's group
   *   of this id: only where no two users have groups of the same id. `until` is the Unix second until which tokens are
   *   refused; else `revocation-seconds` from then on.
   */
  disconnect(whose: { user: string; group?: string; until?: number } | { group: string; until?: number }): Promise<number>;
  /**
   * Take nothing more, and wait for what was taken, for `timeout` (5) at most. Resolves with the events that are left:
   * some of them may have been accepted; they have ids, so to publish them later is harmless.
   */
  close(timeout?: number): Promise<(PublishedEvent & { id: string })[]>;
}
