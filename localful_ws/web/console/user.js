/**
 * One user: their devices with subscriptions, what can be done to them, and the stream of their events.
 *
 * @module
 */

import { RowList } from "../rows.js";
import { ask, KeyRefused, post } from "./api.js";
import { el } from "../elements.js";
import { byId, bytes, confirm, duration, moment, plural, setText, toast, whole } from "./dom.js";
import { SendForm } from "./send.js";
import { Watch } from "./watch.js";

const REFRESH_MS = 3000;
const WIDE = matchMedia("(min-width: 60rem)");
const NAMED = 3;

export class User {
  user;
  element;
  #refuse;
  #list;
  #rows = el("div", { class: "device-rows" });
  #height = WIDE.matches ? 52 : 116;
  #summary = el("p", { class: "soft small number", role: "status" }, "Loading…");
  #problem = el("p", { class: "notice bad small", hidden: true });
  #watch;
  /** What is in a row, by its element. */
  #parts = new WeakMap();
  /** The devices that are shown, and how many there are. */
  #devices = [];
  #total = 0;
  #time = 0;
  #loadedAt = -Infinity;
  #loading = false;

  /**
   * @param {string} user
   * @param {(error: KeyRefused) => void} refuse Called when the key is not taken any more.
   */
  constructor(user, refuse) {
    this.user = user;
    this.#refuse = refuse;
    const send = new SendForm(user, { refuse, sent: () => this.load() });
    this.#watch = new Watch(user, refuse);
    this.element = el(
      "div",
      { class: "user-panels" },
      el(
        "section",
        { class: "card", "aria-labelledby": "user-title" },
        el("a", { class: "back", href: "#/users" }, "All users"),
        el(
          "div",
          { class: "panel-head" },
          el("h2", { id: "user-title", tabindex: "-1" }, "User ", el("span", { class: "mono user-id" }, user)),
          el("button", { class: "danger", type: "button", onclick: () => this.#disconnectUser() }, "Disconnect user…"),
        ),
        el("div", { class: "panel-line" }, this.#summary),
        this.#problem,
        this.#rows,
      ),
      this.#watch.element,
      send.element,
    );
    this.#list = new RowList(this.#rows, {
      label: `Devices of ${user}`,
      height: this.#height,
      render: (device, element) => this.#render(device, element),
      empty: "This user has no device connected here. Events can be watched and sent all the same.",
    });
    this.load();
  }

  /** Do what is due; called every now and then. */
  tick() {
    if (!this.#loading && !document.hidden && performance.now() - this.#loadedAt > REFRESH_MS) this.load();
  }

  /** Show this user no more. */
  close() {
    this.#watch.stop();
    this.element.remove();
  }

  async load() {
    this.#loading = true;
    try {
      const answer = await ask("devices", { user: this.user, vaults: NAMED });
      this.#time = answer.time;
      this.#devices = answer.devices;
      this.#total = answer.total;
      this.#list.replace(answer.devices);
      this.#rows.style.height = `${answer.devices.length * this.#height + 1}px`;
      const shown = answer.devices.length < answer.total ? `the first ${whole(answer.devices.length)} of ` : "";
      setText(this.#summary, `${shown}${plural(answer.total, "device")} connected`);
      this.#problem.hidden = true;
    } catch (error) {
      if (error instanceof KeyRefused) this.#refuse(error);
      setText(this.#problem, `${error.message} Trying again.`);
      this.#problem.hidden = false;
    }
    this.#loading = false;
    this.#loadedAt = performance.now();
  }

  /** Fill a row. Where it is still the same device, only texts change: somebody may be about to press a button. */
  #render(device, element) {
    const key = `${device.group} ${device.connectedAt}`;
    let parts = this.#parts.get(element);
    if (parts?.key !== key) {
      parts = this.#makeRow(device, key);
      this.#parts.set(element, parts);
      element.replaceChildren(...parts.row);
    }
    parts.device = device;
    const left = device.expiresAt - this.#time;
    setText(parts.connected, duration(this.#time - device.connectedAt));
    setText(parts.expires, duration(left));
    parts.expires.parentElement.title = moment(device.expiresAt);
    parts.expires.parentElement.classList.toggle("grave", left < 60);
    setText(
      parts.sendBuffer,
      device.waitingBytes > 0 ? `${bytes(device.waitingBytes)} in ${whole(device.waitingEvents)}` : "empty",
    );
    parts.vaults.hidden = device.subscribed === 0;
    parts.none.hidden = device.subscribed > 0;
    setText(parts.vaults, vaultsInWords(device));
  }

  #makeRow(device, key) {
    const { group, connectedAt } = device;
    const parts = {
      key,
      device,
      connected: el("span", { class: "number" }),
      expires: el("span", { class: "number" }),
      sendBuffer: el("span", { class: "number" }),
      none: el("span", {}, "no vault"),
      vaults: el("button", { class: "link clip", type: "button", onclick: () => this.#showVaults(parts.device) }),
    };
    const pair = (name, ...values) => el("span", { class: "device-pair" }, el("span", { class: "soft" }, name), ...values);
    const connected = pair("connected", parts.connected);
    connected.title = `since ${moment(connectedAt)}`;
    const vaults = pair("subscribed to", parts.none, parts.vaults);
    vaults.classList.add("device-vaults");
    const disconnect = { class: "danger quiet", type: "button", "aria-label": `Disconnect ${loginInWords(this.user, group)}` };
    parts.row = [
      el("span", { class: "device-group mono clip", title: group }, group),
      connected,
      pair("token ends in", parts.expires),
      pair("send buffer", parts.sendBuffer),
      vaults,
      el("button", { ...disconnect, onclick: () => this.#disconnectLogin(group) }, "Disconnect…"),
    ];
    return parts;
  }

  async #showVaults(device) {
    const dialog = byId("vaults");
    byId("vaults-title").textContent = `Subscription of ${loginInWords(this.user, device.group)}`;
    setText(byId("vaults-note"), `${plural(device.subscribed, "vault")}. Loading…`);
    const holder = el("div", { class: "vault-rows" });
    byId("vaults-rows").replaceChildren(el("div", {}, holder));
    const list = new RowList(holder, {
      label: `Vaults that ${loginInWords(this.user, device.group)} is subscribed to`,
      height: 32,
      render: (vault, element) => element.replaceChildren(el("span", { class: "mono clip", title: vault }, vault)),
    });
    dialog.showModal();
    try {
      const answer = await ask("devices", { user: this.user, group: device.group, vaults: 1000 });
      const now = answer.devices.find((other) => other.connectedAt === device.connectedAt);
      list.replace(now?.vaults ?? []);
      const some = now !== undefined && now.vaults.length < now.subscribed ? `; the first ${whole(now.vaults.length)}` : "";
      setText(byId("vaults-note"), now === undefined ? "The device is gone." : plural(now.subscribed, "vault") + some);
    } catch (error) {
      if (error instanceof KeyRefused) {
        dialog.close();
        this.#refuse(error);
      }
      setText(byId("vaults-note"), error.message);
    }
  }

  #disconnectUser() {
    return this.#disconnect(
      { user: this.user },
      {
        title: `Disconnect user ${this.user}?`,
        text:
          `Closes ${plural(this.#total, "connection")} here and those on other nodes, of all logins of user ${this.user}. ` +
          "Tokens of theirs that were issued before now are refused; their apps have to log in anew.",
        yes: "Disconnect user",
      },
    );
  }

  #disconnectLogin(group) {
    const login = loginInWords(this.user, group);
    const count = this.#devices.filter((device) => device.group === group).length;
    const atLeast = this.#devices.length < this.#total ? "at least " : "";
    return this.#disconnect(
      { user: this.user, group },
      {
        title: `Disconnect ${login}?`,
        text:
          `Closes ${atLeast}${plural(count, "connection")} here and those on other nodes, of this login only. Tokens of ` +
          `${login} that were issued before now are refused; the app there has to log in anew.`,
        yes: "Disconnect login",
      },
    );
  }

  async #disconnect(whom, question) {
    if (!(await confirm(question))) return;
    try {
      const { closed } = await post("v1/disconnect", whom);
      toast(`Disconnected: ${plural(closed, "connection")} closed.`);
      await this.load();
    } catch (error) {
      if (error instanceof KeyRefused) this.#refuse(error);
      toast(`Not disconnected. ${error.message}`, "bad");
    }
  }
}

const loginInWords = (user, group) => `user ${user}, group ${group}`;

function vaultsInWords({ vaults, subscribed }) {
  const more = subscribed - vaults.length;
  return `${plural(subscribed, "vault")}: ${vaults.join(", ")}${more > 0 ? ", …" : ""}`;
}
