/**
 * Who was told of what, and who was not, and why.
 *
 * For each change, what should become of it at each device follows from the rules. Then what arrives is held against
 * that: a device that is told of what is not for it would be shown as well.
 *
 * @module
 */

import { el } from "/elements.js";
import { RowList } from "/rows.js";
import { clockTime, duration, icon, oncePerFrame } from "./dom.js";

const KEPT = 10_000;
const SIGNATURES = 30_000;
const ROW_HEIGHT = 56;
const NARROW_ROW_HEIGHT = 92;
const NARROW = matchMedia("(max-width: 719px)");
/** For an event that belongs to no change made here, in milliseconds. */
const STRAY = 1500;
/** Who has not been told by then: for a subscription that changed at the same moment, in milliseconds. */
const LATEST = 3000;

/** What may become of a change at a device: how it is shown, and how it is said. */
const FATES = {
  told: { glyph: "told", kind: "good" },
  snapshot: { glyph: "told", kind: "good" },
  own: { glyph: "own", kind: "" },
  other: { glyph: "none", kind: "" },
  unsubscribed: { glyph: "none", kind: "" },
  out: { glyph: "none", kind: "" },
  away: { glyph: "later", kind: "warn" },
  waiting: { glyph: "later", kind: "" },
  wrong: { glyph: "wrong", kind: "bad" },
};

const isAboutData = (event) => event.startsWith("item-") || event.startsWith("version-");
const signatureOf = (user, event, vault, data) => JSON.stringify([user, event, vault, data]);

export class Journal {
  /** The newest first. */
  #entries = [];
  #expected = new Map();
  /** What was told of a change that isn't known (yet): devices and times by signature. */
  #strays = new Map();
  #serial = 0;
  #devices = [];
  #list;
  #live;
  #announced = 0;
  #update = oncePerFrame(() => this.#list.replace(this.#entries));

  /**
   * @param {HTMLElement} rows Where the list goes.
   * @param {HTMLElement} live Where it is said.
   */
  constructor(rows, live) {
    this.#live = live;
    this.#list = new RowList(rows, {
      label: "Changes, the newest first",
      height: () => (NARROW.matches ? NARROW_ROW_HEIGHT : ROW_HEIGHT),
      limit: KEPT,
      key: (entry) => entry.number,
      empty: "No change yet. Create an item on one of the devices: the others are told at once.",
      render: (entry, row) => this.#render(entry, row),
    });
    NARROW.addEventListener("change", () => this.#list.refresh());
  }

  /** Whose changes these are. */
  set devices(devices) {
    this.#devices = devices;
  }

  /**
   * A device makes a change.
   *
   * @returns {object} What `expect`, `finish` and `cancel` take.
   */
  begin(device, what, { event, vault = null, request }, total = 1) {
    const cells = new Map(this.#devices.map((other) => [other.id, this.#foresee(device, other, event, vault)]));
    return this.#add({ actor: device.name, account: device.account, what, event, vault, request, total, cells });
  }

  /** The change is made: this event is to come of it. */
  expect(entry, event, vault, data) {
    entry.due += 1;
    const signature = signatureOf(entry.account.name, event, vault, data);
    const same = this.#expected.get(signature);
    if (same === undefined) this.#expected.set(signature, [entry]);
    else same.push(entry);
    if (this.#expected.size > SIGNATURES) this.#expected.delete(this.#expected.keys().next().value);
    // Events may have been faster than the answer.
    const strays = this.#strays.get(signature) ?? [];
    this.#strays.delete(signature);
    for (const { device, at } of strays) this.#arrive(entry, device, at);
    this.#update();
  }

  /** Nothing more is to come of it. */
  finish(entry, what = entry.what) {
    entry.what = what;
    entry.finished = true;
    if (entry.due === 0) {
      this.cancel(entry);
      return;
    }
    for (const cell of entry.cells.values()) this.#look(entry, cell);
    this.#announce(entry);
    this.#update();
    setTimeout(() => this.#giveUp(entry), LATEST);
  }

  /** Nothing came of it. */
  cancel(entry) {
    this.#entries = this.#entries.filter((other) => other !== entry);
    this.#update();
  }

  /** A device was told of something. */
  told(device, event, vault, data, at) {
    const signature = signatureOf(device.account.name, event, vault, data);
    const entry = this.#expected.get(signature)?.find(({ cells }) => !cells.get(device.id).told.has(signature));
    if (entry !== undefined) {
      entry.cells.get(device.id).told.add(signature);
      this.#arrive(entry, device, at);
      return;
    }
    const strays = this.#strays.get(signature);
    if (strays !== undefined) {
      strays.push({ device, at });
      return;
    }
    const first = [{ device, at }];
    this.#strays.set(signature, first);
    setTimeout(() => {
      if (this.#strays.get(signature) === first) this.#adopt(device, event, vault, data, at);
    }, STRAY);
  }

  /** A device is back: it resumes, or has fetched a snapshot. */
  back(device, how) {
    if (how !== "snapshot") return;
    for (const { cells } of this.#entries) {
      const cell = cells.get(device.id);
      if (cell.fate === "away" || cell.fate === "waiting") cell.fate = "snapshot";
    }
    this.#update();
  }

  /** A device has been told of all that it missed, or won't be. */
  settle(device) {
    for (const entry of this.#entries) {
      const cell = entry.cells.get(device.id);
      if (cell.fate !== "away" || cell.got > 0) continue;
      if (device.state === "ended") cell.fate = "out";
      else if (isAboutData(entry.event) && !device.subscription.includes(entry.vault)) cell.fate = "unsubscribed";
    }
    this.#update();
  }

  /** Forget all. */
  clear() {
    this.#entries = [];
    this.#expected.clear();
    this.#strays.clear();
    this.#update();
  }

  /** What should become of a change at a device. */
  #foresee(actor, device, event, vault) {
    let fate = "waiting";
    if (device === actor) fate = "own";
    else if (actor !== null && device.account !== actor.account) fate = "other";
    else if (device.state === "ended") fate = "out";
    else if (!device.connected) fate = "away";
    else if (isAboutData(event) && !device.subscription.includes(vault)) fate = "unsubscribed";
    return { fate, got: 0, late: false, milliseconds: 0, told: new Set() };
  }

  /** An event that no device here has brought about: another page, or somebody with curl. */
  #adopt(device, event, vault, data, started) {
    const { account } = device;
    const cells = new Map(
      this.#devices.map((other) => {
        const cell = this.#foresee(null, other, event, vault);
        if (other.account !== account) cell.fate = "other";
        return [other.id, cell];
      }),
    );
    const what = "was changed from elsewhere";
    const at = new Date(Date.now() - (performance.now() - started));
    const entry = this.#add({ actor: account.name, account, what, event, vault, request: "not from this page", total: 1, cells, at, started });
    entry.elsewhere = true;
    this.expect(entry, event, vault, data);
    this.finish(entry);
  }

  #add(fields) {
    const entry = {
      number: ++this.#serial,
      at: new Date(),
      started: performance.now(),
      due: 0,
      finished: false,
      elsewhere: false,
      ...fields,
    };
    // One from elsewhere is taken note of later than it came.
    let place = 0;
    while (place < this.#entries.length && this.#entries[place].started > entry.started) place += 1;
    this.#entries.splice(place, 0, entry);
    if (this.#entries.length > KEPT) this.#entries.pop();
    this.#update();
    return entry;
  }

  #arrive(entry, device, at) {
    const cell = entry.cells.get(device.id);
    cell.got += 1;
    cell.milliseconds = at - entry.started;
    if (cell.fate === "own" || cell.fate === "other") cell.fate = "wrong";
    else if (cell.fate === "away" || cell.fate === "out") cell.late = true;
    else if (cell.fate === "unsubscribed") cell.fate = device.subscription.includes(entry.vault) ? "waiting" : "wrong";
    this.#look(entry, cell);
    this.#announce(entry);
    this.#update();
  }

  #giveUp(entry) {
    if (!isAboutData(entry.event)) return;
    for (const device of this.#devices) {
      const cell = entry.cells.get(device.id);
      if (cell.fate === "waiting" && cell.got === 0 && !device.subscription.includes(entry.vault)) cell.fate = "unsubscribed";
    }
    this.#announce(entry);
    this.#update();
  }

  #look(entry, cell) {
    if (entry.finished && cell.got >= entry.due && ["waiting", "away", "out"].includes(cell.fate)) cell.fate = "told";
  }

  #word(entry, { fate, got, late, milliseconds }) {
    const many = entry.total > 1 ? `${got.toLocaleString("en")} of ${Math.max(entry.due, got).toLocaleString("en")}` : "";
    switch (fate) {
      case "told":
        if (many) return `told of ${got.toLocaleString("en")}`;
        if (entry.elsewhere) return "told";
        return late ? "told on return" : `told in ${duration(milliseconds)}`;
      case "snapshot":
        return "by snapshot";
      case "own":
        return "made the change";
      case "other":
        return "another user";
      case "unsubscribed":
        return "not subscribed";
      case "out":
        return "logged out";
      case "away":
        return "offline";
      case "wrong":
        return "told, wrongly!";
      default:
        return many || "…";
    }
  }

  #render(entry, row) {
    const vivid = entry === this.#entries[0];
    row.className = `row change${vivid ? " newest" : ""}`;
    const owner = entry.elsewhere ? "'s account " : " ";
    row.replaceChildren(
      el(
        "div",
        { class: "change-what" },
        el("p", { class: "clip" }, el("strong", {}, `${entry.actor}${owner}`), entry.what),
        el(
          "p",
          { class: "soft small clip" },
          el("span", { class: "number" }, clockTime(entry.at)),
          el("span", { class: "change-request" }, ` · ${entry.request}`),
          " · ",
          el("code", {}, entry.event),
        ),
      ),
      ...this.#devices.map((device) => {
        const cell = entry.cells.get(device.id);
        const { glyph, kind } = FATES[cell.fate];
        return el(
          "p",
          { class: `fate ${kind}` },
          icon(glyph),
          el("span", { class: "visually-hidden" }, `${device.name}: `),
          el("span", { class: "clip" }, this.#word(entry, cell)),
        );
      }),
    );
  }

  /** Say the newest change once it is known what became of it. */
  #announce(entry) {
    if (entry !== this.#entries[0] || entry.number <= this.#announced || !entry.finished || entry.elsewhere) return;
    const cells = [...entry.cells.values()];
    if (cells.some(({ fate }) => fate === "waiting")) return;
    this.#announced = entry.number;
    const fates = this.#devices.map((device) => `${device.name}: ${this.#word(entry, entry.cells.get(device.id))}.`);
    this.#live.textContent = `${entry.actor} ${entry.what}. ${fates.join(" ")}`;
  }
}
