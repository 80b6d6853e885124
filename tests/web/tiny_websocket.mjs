// As much of a WebSocket over node:net as the test needs, for Node before 22.

import { randomBytes } from "node:crypto";
import { connect } from "node:net";

export class TinyWebSocket {
  onopen = null;
  onmessage = null;
  onclose = null;
  onerror = null;
  #socket;
  #received = Buffer.alloc(0);
  #upgraded = false;
  #ended = { code: 1006, reason: "" };

  constructor(url, protocols) {
    const { hostname, port, host, pathname } = new URL(url);
    this.#socket = connect(Number(port), hostname, () => this.#socket.write([
      `GET ${pathname} HTTP/1.1`, `Host: ${host}`, "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
      `Sec-WebSocket-Key: ${randomBytes(16).toString("base64")}`, `Sec-WebSocket-Protocol: ${protocols.join(", ")}`, "", "",
    ].join("\r\n")));
    this.#socket.on("data", (data) => this.#take(data));
    this.#socket.on("error", () => this.onerror?.({}));
    this.#socket.on("close", () => this.onclose?.(this.#ended));
  }

  send(text) { this.#write(1, Buffer.from(text)); }

  close(code = 1000, reason = "") {
    if (!this.#upgraded) { this.#socket.destroy(); return; }
    const payload = Buffer.alloc(2 + Buffer.byteLength(reason));
    payload.writeUInt16BE(code);
    payload.write(reason, 2);
    this.#write(8, payload);
  }

  /** For tests: break the connection. */
  cut() { this.#socket.destroy(); }

  #write(opcode, payload) {
    if (!this.#socket.writable) return;
    const mask = randomBytes(4);
    const head = payload.length < 126 ? [0x80 | payload.length] : [0x80 | 126, payload.length >> 8, payload.length & 255];
    this.#socket.write(Buffer.concat([Buffer.from([0x80 | opcode, ...head]), mask, payload.map((byte, at) => byte ^ mask[at % 4])]));
  }

  #take(data) {
    this.#received = Buffer.concat([this.#received, data]);
    if (!this.#upgraded) {
      const end = this.#received.indexOf("\r\n\r\n");
      if (end < 0) return;
      if (!this.#received.subarray(0, end).toString().startsWith("HTTP/1.1 101")) { this.#socket.destroy(); return; }
      this.#received = this.#received.subarray(end + 4);
      this.#upgraded = true;
      this.onopen?.({});
    }
    for (;;) {
      if (this.#received.length < 2) return;
      const short = this.#received[1];
      const start = short < 126 ? 2 : 4;
      if (this.#received.length < start) return;
      const length = short < 126 ? short : this.#received.readUInt16BE(2);
      if (this.#received.length < start + length) return;
      const opcode = this.#received[0] & 15;
      const payload = Buffer.from(this.#received.subarray(start, start + length));
      this.#received = this.#received.subarray(start + length);
      if (opcode === 1) this.onmessage?.({ data: payload.toString() });
      if (opcode === 9) this.#write(10, payload);
      if (opcode === 8) {
        this.#ended = { code: payload.length ? payload.readUInt16BE() : 1005, reason: payload.subarray(2).toString() };
        this.#write(8, payload);
        this.#socket.end();
      }
    }
  }
}
