/** What goes in and out of a device: every frame, and its requests. A drawer that can be opened. */

import { el } from "/elements.js";
import { RowList } from "/rows.js";
import { button, clockTime, oncePerFrame } from "./dom.js";

const KEPT = 10_000;
/** So much of a frame is kept, in characters. */
const KEPT_TEXT = 5000;
const ROW_HEIGHT = 26;
const SIGNS = { in: "↓", out: "↑", note: "·", http: "⇅" };
const WORDS = { in: "received", out: "sent", note: "connection", http: "request" };

export class Frames {
  #list;
  #frames = 0;
  #number = el("span", { class: "badge number" }, "0");
  #detail = el("pre", { class: "frame-detail", tabindex: "0" }, "");
  #showNumber = oncePerFrame(() => {
    this.#number.textContent = this.#frames.toLocaleString("en");
  });

  /** @param {string} name The device's. */
  constructor(name) {
    const rows = el("div", { class: "frame-rows" });
    this.#detail.hidden = true;
    this.#detail.setAttribute("aria-label", `The chosen frame of ${name}`);
    this.element = el(
      "details",
      { class: "drawer frames" },
      el("summary", {}, "Frames ", this.#number),
      el(
        "div",
        { class: "drawer-body" },
        el(
          "p",
          { class: "soft small" },
          "Every frame of the WebSocket, ↓ in and ↑ out, and the HTTP requests ⇅ in between. Choose one to see all of it.",
        ),
        rows,
        this.#detail,
        el("p", {}, button("Clear", () => this.clear(), { describe: `Clear the frames of ${name}` })),
      ),
    );
    this.#list = new RowList(rows, {
      label: `Frames of ${name}`,
      height: ROW_HEIGHT,
      follow: true,
      limit: KEPT,
      empty: "No frames yet.",
      render: (frame, row) => this.#render(frame, row),
      onSelect: (frame) => this.#show(frame),
    });
  }

  /** Add a frame, or what else is worth a line. */
  add(direction, text) {
    if (direction === "in" || direction === "out") this.#frames += 1;
    const kept = text.length > KEPT_TEXT ? `${text.slice(0, KEPT_TEXT)}… (${text.length - KEPT_TEXT} more)` : text;
    this.#list.push({ direction, text: kept, at: new Date() });
    this.#showNumber();
  }

  /** Forget what was. */
  clear() {
    this.#frames = 0;
    this.#list.clear();
    this.#detail.hidden = true;
    this.#showNumber();
  }

  #render({ direction, text, at }, row) {
    row.className = `row frame ${direction}`;
    row.replaceChildren(
      el("span", { class: "frame-time number" }, clockTime(at)),
      el("span", { class: "frame-sign", "aria-hidden": "true" }, SIGNS[direction]),
      el("span", { class: "visually-hidden" }, `${WORDS[direction]} `),
      el("span", { class: "frame-text clip" }, text.slice(0, 400)),
    );
  }

  #show({ direction, text }) {
    let pretty = text;
    try {
      if (direction === "in" || direction === "out") pretty = JSON.stringify(JSON.parse(text), null, 2);
    } catch {
      // It is shown as it is.
    }
    this.#detail.textContent = pretty;
    this.#detail.hidden = false;
  }
}
