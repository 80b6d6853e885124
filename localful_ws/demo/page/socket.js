/**
 * A WebSocket class for one device that shows every frame, and that can be offline.
 *
 * The client is given it as `WebSocket`. A token is shortened before anybody gets to see the frame.
 *
 * @module
 */

const LOST = 1006;

/** A frame as it may be shown. */
export function presentable(text) {
  let message;
  try {
    message = JSON.parse(text);
  } catch {
    return text;
  }
  if (typeof message?.token !== "string") return text;
  return JSON.stringify({ ...message, token: shortToken(message.token) });
}

/** A token that nobody can use: where it begins and ends. */
export function shortToken(token) {
  return `${token.slice(0, 6)}…${token.slice(-4)}`;
}

/**
 * The network of one device.
 */
export class Network extends EventTarget {
  #sockets = new Set();
  #note;

  /** @param {(direction: "in" | "out" | "note", text: string) => void} note Called with each frame. */
  constructor(note) {
    super();
    this.#note = note;
    /** Whether there is a network. */
    this.online = true;
    const network = this;
    /** The class that the client is given. */
    this.WebSocket = class {
      onopen = null;
      onmessage = null;
      onclose = null;
      onerror = null;
      #socket = null;

      constructor(url, protocols) {
        if (network.online) this.#connect(url, protocols);
        else setTimeout(() => this.#end(LOST, ""));
      }

      send(text) {
        if (this.#socket === null) return;
        network.#note("out", presentable(text));
        this.#socket.send(text);
      }

      close(code, reason) {
        this.#socket?.close(code, reason);
      }

      /** Break: neither side says goodbye. (A page can't drop a connection; the server does see it closed.) */
      cut() {
        const socket = this.#socket;
        this.#end(LOST, "");
        socket?.close();
      }

      #connect(url, protocols) {
        const socket = new WebSocket(url, protocols);
        this.#socket = socket;
        network.#sockets.add(this);
        const own = (action) => (event) => this.#socket === socket && action(event);
        socket.onopen = own((event) => {
          network.#note("note", `connected to ${url}`);
          this.onopen?.(event);
        });
        socket.onmessage = own((event) => {
          network.#note("in", presentable(event.data));
          this.onmessage?.(event);
        });
        socket.onclose = own(({ code, reason }) => this.#end(code, reason));
      }

      #end(code, reason) {
        this.#socket = null;
        network.#sockets.delete(this);
        network.#note("note", `closed: ${code}${reason ? ` ${reason}` : ""}`);
        this.onclose?.({ code, reason });
      }
    };
  }

  /** Go offline: connections break, and no other comes about. */
  goOffline() {
    this.online = false;
    for (const socket of [...this.#sockets]) socket.cut();
  }

  /** Be online again, and say so. */
  goOnline() {
    this.online = true;
    this.dispatchEvent(new Event("online"));
  }
}
