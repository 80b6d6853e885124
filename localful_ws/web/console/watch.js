/**
 * The stream of one user's events, as the server accepts them. When it breaks, it goes on where it was.
 *
 * @module
 */

import { RowList } from "../rows.js";
import { KeyRefused, watch } from "./api.js";
import { el } from "../elements.js";
import { bytes, clock, plural, setText, whole } from "./dom.js";

const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 15_000;
/** The daemon says something every ten seconds. */
const SILENCE_MS = 30_000;
const WIDE = matchMedia("(min-width: 60rem)");

export class Watch {
  element;
  #user;
  #refuse;
  #list;
  #button;
  #state = el("span", { class: "badge" }, "not watching");
  #count = el("span", { class: "soft small number" });
  #detail = el("pre", { class: "frame-detail mono", tabindex: "0", "aria-label": "The chosen event", hidden: true });
  #running = null;
  #cursor = null;
  #events = 0;

  /**
   * @param {string} user
   * @param {(error: KeyRefused) => void} refuse Called when the key is not taken any more.
   */
  constructor(user, refuse) {
    this.#user = user;
    this.#refuse = refuse;
    const rows = el("div", { class: "frame-rows" });
    this.#button = el("button", { class: "primary", type: "button", onclick: () => this.#toggle() }, "Watch");
    this.element = el(
      "section",
      { class: "card", "aria-labelledby": "watch-title" },
      el(
        "div",
        { class: "panel-head" },
        el("h2", { id: "watch-title" }, "Events"),
        el(
          "div",
          { class: "buttons" },
          el("button", { class: "quiet", type: "button", onclick: () => this.#clear() }, "Clear"),
          this.#button,
        ),
      ),
      el("p", { class: "panel-line", role: "status" }, this.#state, " ", this.#count),
      rows,
      this.#detail,
    );
    this.#list = new RowList(rows, {
      label: `Events of ${user}`,
      height: WIDE.matches ? 32 : 56,
      follow: true,
      render,
      onSelect: (frame) => this.#show(frame),
      empty: "Watch, and every event that is accepted for this user from then on appears here, whoever gets it.",
    });
  }

  stop() {
    this.#running?.abort();
    this.#running = null;
    this.#button.textContent = "Watch";
    this.#button.className = "primary";
    this.#say("not watching");
  }

  #toggle() {
    if (this.#running === null) this.#run();
    else this.stop();
  }

  async #run() {
    const running = (this.#running = new AbortController());
    this.#button.textContent = "Stop";
    this.#button.className = "";
    // A watch that is begun anew is a new one: what happened in between was not asked for.
    this.#cursor = null;
    let pause = FIRST_PAUSE_MS;
    while (!running.signal.aborted) {
      this.#say("connecting");
      const began = performance.now();
      try {
        await this.#follow(running.signal);
        this.#say("broken", "warn");
      } catch (error) {
        if (running.signal.aborted) return;
        if (error instanceof KeyRefused) {
          this.stop();
          this.#refuse(error);
          return;
        }
        this.#say("broken", "bad");
        setText(this.#count, `${error.message} Trying again.`);
      }
      pause = performance.now() - began > LONGEST_PAUSE_MS ? FIRST_PAUSE_MS : Math.min(2 * pause, LONGEST_PAUSE_MS);
      await sleep(pause * (0.5 + Math.random() / 2), running.signal);
    }
  }

  async #follow(signal) {
    const silence = new AbortController();
    let timer = null;
    const heard = () => {
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_MS);
    };
    heard();
    try {
      const query = { user: this.#user, ...(this.#cursor === null ? {} : { since: this.#cursor }) };
      await watch(query, AbortSignal.any([signal, silence.signal]), (line) => {
        heard();
        if (!signal.aborted) this.#take(line);
      });
    } finally {
      clearTimeout(timer);
    }
  }

  #take(line) {
    if (line.cursor !== undefined) this.#cursor = line.cursor;
    switch (line.type) {
      case "watching":
        this.#say("watching", "good");
        if (line.resumed === false) this.#note(line, "The watch was broken, and what happened meanwhile can't be had any more.");
        this.#tell();
        break;
      case "event":
        this.#events += 1;
        this.#list.push(line);
        this.#tell();
        break;
      case "missed":
        this.#note(line, `${plural(line.count, "event")} not shown: more came than could be taken.`);
        break;
      case "lost":
        this.#note(line, "The node missed events that can't be had any more.");
        break;
      case "end":
        this.#note(line, "The daemon shuts down.");
        break;
    }
  }

  #note(line, text) {
    this.#list.push({ type: "note", time: line.time, text });
  }

  #tell() {
    const { dropped } = this.#list;
    const gone = dropped > 0 ? `; the oldest ${whole(dropped)} are not kept` : "";
    setText(this.#count, this.#events === 0 ? "No event yet." : `${plural(this.#events, "event")}${gone}`);
  }

  #clear() {
    this.#events = 0;
    this.#list.clear();
    this.#detail.hidden = true;
    setText(this.#count, "");
  }

  #show(frame) {
    const { type, ...shown } = frame;
    this.#detail.hidden = false;
    this.#detail.textContent = type === "note" ? frame.text : JSON.stringify(shown, null, 2);
  }

  #say(text, kind = "") {
    this.#state.className = `badge dot ${kind}`;
    setText(this.#state, text);
  }
}

function render(frame, element) {
  const time = el("span", { class: "number soft frame-time" }, clock(frame.time));
  if (frame.type === "note") {
    element.replaceChildren(time, el("span", { class: "frame-note clip" }, frame.text));
    return;
  }
  const data = frame.data === undefined ? "too long to be shown" : JSON.stringify(frame.data);
  element.replaceChildren(
    time,
    el("span", { class: "mono frame-event" }, frame.event),
    el("span", { class: "mono clip frame-vault" }, frame.vault ?? ""),
    el("span", { class: "soft clip frame-group" }, frame.group === undefined ? "" : `by ${frame.group}`),
    el("span", { class: "number soft frame-size" }, bytes(frame.bytes)),
    el("span", { class: "mono clip soft frame-data" }, data),
  );
}

function sleep(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
