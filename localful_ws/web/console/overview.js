/**
 * What the daemon is doing: tiles, charts, tables.
 *
 * @module
 */

import { Chart } from "./chart.js";
import { el } from "../elements.js";
import { byId, bytes, clock, delay, duration, moment, plural, rate, setText, whole } from "./dom.js";
import { Samples, sum } from "./samples.js";

const MINUTE = 60;
/** The table of figures has a row for so many seconds. */
const TABLE_SECONDS = 30;
const MOST_TABLE_ROWS = 20;

const CHARTS = [
  {
    title: "Connections",
    lines: [
      { key: "authenticated", name: "authenticated" },
      { key: "awaiting", name: "awaiting auth" },
    ],
    format: whole,
    least: 10,
  },
  {
    title: "Events a second",
    lines: [
      { key: "delivered", name: "delivered" },
      { key: "accepted", name: "accepted" },
    ],
    format: rate,
    least: 1,
  },
  {
    title: "Connections opened and closed a second",
    lines: [
      { key: "opened", name: "opened" },
      { key: "closed", name: "closed" },
    ],
    format: rate,
    least: 1,
  },
  {
    title: "Send buffer peak since the start",
    lines: [{ key: "peakBytes", name: "largest send buffer" }],
    format: bytes,
    least: 1024,
    binary: true,
  },
];

const COLUMNS = [
  ["Time", (sample) => clock(sample.time)],
  ["Authenticated", (sample) => whole(sample.authenticated)],
  ["Awaiting auth", (sample) => whole(sample.awaiting)],
  ["Accepted/s", (sample) => orDash(sample.accepted)],
  ["Delivered/s", (sample) => orDash(sample.delivered)],
  ["Opened/s", (sample) => orDash(sample.opened)],
  ["Closed/s", (sample) => orDash(sample.closed)],
  ["Send buffer peak", (sample) => bytes(sample.peakBytes)],
];

const orDash = (value) => (value === null ? "–" : rate(value));

export class Overview {
  samples = new Samples();
  #charts = CHARTS.map((options) => new Chart(options));
  #tiles = new Map();

  constructor() {
    byId("charts").replaceChildren(...this.#charts.map((chart) => chart.element));
    byId("tiles").replaceChildren();
    byId("figures").addEventListener("toggle", () => this.#table());
  }

  /** Show an overview. */
  update(overview) {
    this.samples.add(overview);
    for (const chart of this.#charts) chart.update(this.samples.all);
    const [first] = this.samples.all;
    setText(byId("charts-note"), `since ${clock(first.time)}, when this page began to look`);
    this.#tell(overview);
    closesTable(overview, this.samples);
    engine(overview);
    daemon(overview, this.samples);
    totals(overview);
    this.#table();
  }

  #tell(overview) {
    const latest = this.samples.latest;
    const { connections, sendBuffer } = overview;
    const half = this.samples.quantile(0.5, MINUTE);
    const most = this.samples.quantile(0.95, MINUTE);
    const slow = this.samples.since((sample) => sample.closes["slow-consumer"] ?? 0, MINUTE);
    this.#tile("Connections", whole(connections.authenticated ?? 0), [
      `${whole(connections["awaiting-auth"] ?? 0)} awaiting auth`,
      connections.closed > 0 ? `${whole(connections.closed)} closing` : "",
    ]);
    const atMost = overview.workers.serving > 1 ? "at most; counted per worker" : "with a connection";
    this.#tile("Users", whole(overview.users), [atMost]);
    this.#tile("Events accepted", `${orDash(latest.accepted)}/s`, [`${whole(sum(overview.events.accepted))} in all`]);
    this.#tile("Events delivered", `${orDash(latest.delivered)}/s`, [`${whole(overview.events.delivered)} in all`]);
    this.#tile("Publish to write, 95 %", most === null ? "–" : upTo(most), [
      most === null ? "no event in the last minute" : `half ${upTo(half)}`,
    ]);
    this.#tile("Send buffer peak", bytes(sendBuffer.peakBytes), [
      plural(sendBuffer.peakEvents, "event"),
      slow > 0 ? `${plural(slow, "slow consumer")} in the last minute` : "",
    ]);
  }

  #tile(name, value, notes) {
    let tile = this.#tiles.get(name);
    if (tile === undefined) {
      tile = { value: el("dd", { class: "tile-value number" }), note: el("dd", { class: "tile-note number" }) };
      this.#tiles.set(name, tile);
      byId("tiles").append(el("div", { class: "card tile" }, el("dt", {}, name), tile.value, tile.note));
    }
    setText(tile.value, value);
    setText(tile.note, notes.filter(Boolean).join(" · "));
  }

  #table() {
    const details = byId("figures");
    if (!details.open) return;
    const rows = [];
    let next = Infinity;
    for (const sample of this.samples.all.toReversed()) {
      if (sample.time > next) continue;
      rows.push(sample);
      next = sample.time - TABLE_SECONDS;
      if (rows.length === MOST_TABLE_ROWS) break;
    }
    const numbers = { class: "number" };
    details
      .querySelector("thead")
      .replaceChildren(el("tr", {}, ...COLUMNS.map(([name]) => el("th", { scope: "col", ...numbers }, name))));
    details
      .querySelector("tbody")
      .replaceChildren(
        ...rows.map((sample) => el("tr", {}, ...COLUMNS.map(([, text]) => el("td", numbers, text(sample))))),
      );
  }
}

const upTo = (bound) => (bound === Infinity ? "over 5 s" : `≤ ${delay(bound)}`);

function closesTable(overview, samples) {
  const recent = (reason) => samples.since((sample) => sample.closes[reason] ?? 0, MINUTE);
  const reasons = Object.entries(overview.closes)
    .filter(([, count]) => count > 0)
    .map(([reason, count]) => ({ reason, count, recent: recent(reason) }))
    .sort((one, other) => other.recent - one.recent || other.count - one.count);
  const table = byId("closes");
  if (reasons.length === 0) {
    table.replaceChildren(el("tbody", {}, el("tr", {}, el("td", { class: "soft" }, "No connection has ended yet."))));
    return;
  }
  const grave = new Set(["slow-consumer", "internal-error", "missed-events"]);
  table.replaceChildren(
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        el("th", { scope: "col" }, "Reason"),
        el("th", { scope: "col", class: "number" }, "Last minute"),
        el("th", { scope: "col", class: "number" }, "In all"),
      ),
    ),
    el(
      "tbody",
      {},
      ...reasons.map(({ reason, count, recent: now }) =>
        el(
          "tr",
          {},
          el("th", { scope: "row", class: "mono" }, el("span", { class: grave.has(reason) ? "grave" : "" }, reason)),
          el("td", { class: `number ${now > 0 ? "" : "soft"}` }, whole(now)),
          el("td", { class: "number" }, whole(count)),
        ),
      ),
    ),
  );
}

const rows = (entries) =>
  el("dl", { class: "pairs" }, ...entries.filter(Boolean).map(([name, value]) => el("div", {}, el("dt", {}, name), value)));
const cell = (...content) => el("dd", { class: "number" }, ...content);

function engine({ engine: { name, place, up, figures } }) {
  const badge = el("span", { class: `badge dot ${up ? "good" : "bad"}` }, up ? "up" : "unavailable");
  byId("engine").replaceChildren(
    rows([
      ["State", cell(badge)],
      ["Kind", cell(name)],
      place !== "" && ["Place", cell(el("span", { class: "mono" }, place))],
      ...figures.map((figure) => [
        figure.text.replace(/\.$/, ""),
        cell(figure.name.endsWith("_bytes") ? bytes(figure.value) : whole(figure.value)),
      ]),
    ]),
  );
}

function daemon(overview, samples) {
  const { workers, process, engine: { name } } = overview;
  const cpu = samples.latest.cpu;
  byId("process").replaceChildren(
    rows([
      ["Version", cell(overview.version)],
      ["Running since", cell(`${moment(overview.startedAt)} (${duration(overview.time - overview.startedAt)})`)],
      ["Workers", cell(workersInWords(workers))],
      ["Memory", cell(bytes(process.memoryBytes))],
      ["CPU", cell(cpu === null ? "–" : `${Math.round(cpu * 100)} % of a core`)],
      ["Open files", cell(`${whole(process.openFiles)} of ${whole(process.maxFiles)}`)],
    ]),
    el(
      "p",
      { class: "soft small panel-note" },
      name === "memory"
        ? "With the memory engine this daemon is all there is."
        : "This is one node, with all its workers. Other nodes on the same Redis have a console of their own.",
    ),
  );
}

function workersInWords({ serving, missing, restarts }) {
  const parts = [`${whole(serving)} serving`];
  if (missing > 0) parts.push(`${whole(missing)} not answering`);
  if (restarts > 0) parts.push(plural(restarts, "restart"));
  return parts.join(", ");
}

function totals(overview) {
  const row = (name, value, kind = "") =>
    el("tr", {}, el("th", { scope: "row" }, el("span", { class: kind }, name)), el("td", { class: "number" }, whole(value)));
  const each = (counts, say) => Object.entries(counts).filter(([, count]) => count > 0).map(([word, count]) => row(say(word), count));
  byId("totals").replaceChildren(
    el(
      "tbody",
      {},
      row("Connections opened", overview.connectionsOpened),
      row("Sessions accepted, renewals included", overview.authentications),
      ...each(overview.authenticationFailures, (word) => `Sessions refused: ${word}`),
      ...each(overview.handshakesRefused, (status) => `Handshakes refused with HTTP ${status}`),
      row("Devices that resumed", overview.resumes.true ?? 0),
      row("Devices that could not resume", overview.resumes.false ?? 0),
      row("Events published twice", overview.events.duplicates),
      row("Events kept from the device that made them", overview.events.echoes),
      row("Slow consumers", overview.slowConsumers),
    ),
  );
}
