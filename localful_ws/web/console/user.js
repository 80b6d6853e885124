/**
 * One user: their devices with subscriptions, what can be done to them, and the stream of their events.
 *
 * @module
 */

import { RowList } from "../rows.js";
import { ask, KeyRefused, post } from "./api.js";
import { byId, bytes, confirm, duration, h, moment, plural, setText, toast, whole } from "./dom.js";
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
  #rows = h("div", { class: "device-rows" });
  #height = WIDE.matches ? 52 : 116;
  #summary = h("p", { class: "soft small number", role: "status" }, "Loading…");
  #problem = h("p", { class: "notice bad small", hidden: true });
  #watch;
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
    this.element = h(
      "div",
      { class: "user-panels" },
      h(
        "section",
        { class: "card", "aria-labelledby": "user-title" },
        h("a", { class: "back", href: "#/users" }, "All users"),
        h(
          "div",
          { class: "panel-head" },
          h("h2", { id: "user-title", tabindex: "-1" }, "User ", h("span", { class: "mono user-id" }, user)),
          h("button", { class: "danger", type: "button", onclick: () => this.#disconnectUser() }, "Disconnect user…"),
        ),
        h("div", { class: "panel-line" }, this.#summary),
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

  #render(device, element) {
    const left = device.expiresAt - this.#time;
    const waiting = device.waitingBytes > 0;
    const pair = (name, value, more = {}) =>
      h("span", { class: "device-pair", ...more }, h("span", { class: "soft" }, name), h("span", { class: "number" }, value));
    const key = `${device.group} ${device.connectedAt}`;
    const focused = element.contains(document.activeElement) ? document.activeElement.dataset.does : null;
    const same = element.dataset.key === key;
    element.dataset.key = key;
    element.replaceChildren(
      h("span", { class: "device-group mono clip", title: device.group }, device.group),
      pair("connected", duration(this.#time - device.connectedAt), { title: `since ${moment(device.connectedAt)}` }),
      pair("token ends in", duration(left), {
        title: `${moment(device.expiresAt)}${device.issuedAt === null ? "" : `; issued ${moment(device.issuedAt)}`}`,
        class: `device-pair ${left < 60 ? "grave" : ""}`,
      }),
      pair("outbox", waiting ? `${bytes(device.waitingBytes)} in ${whole(device.waitingEvents)}` : "empty"),
      h(
        "span",
        { class: "device-pair device-vaults" },
        h("span", { class: "soft" }, "subscribed to"),
        device.subscribed === 0
          ? h("span", {}, "no vault")
          : h(
              "button",
              { class: "link clip", type: "button", "data-does": "vaults", onclick: () => this.#showVaults(device) },
              vaultsInWords(device),
            ),
      ),
      h(
        "button",
        {
          class: "danger quiet",
          type: "button",
          "data-does": "disconnect",
          "aria-label": `Disconnect group ${device.group}`,
          onclick: () => this.#disconnectGroup(device.group),
        },
        "Disconnect…",
      ),
    );
    // The button that the operator is at may have been made anew.
    if (same && focused) element.querySelector(`[data-does="${focused}"]`)?.focus();
  }

  async #showVaults(device) {
    const dialog = byId("vaults");
    byId("vaults-title").textContent = `Subscription of ${device.group}`;
    setText(byId("vaults-note"), `${plural(device.subscribed, "vault")}. Loading…`);
    const holder = h("div", { class: "vault-rows" });
    byId("vaults-rows").replaceChildren(h("div", {}, holder));
    const list = new RowList(holder, {
      label: `Vaults that ${device.group} is subscribed to`,
      height: 32,
      render: (vault, element) => element.replaceChildren(h("span", { class: "mono clip", title: vault }, vault)),
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
        title: `Disconnect ${this.user}?`,
        text:
          "All their connections close with 4403, on every node, and tokens issued before now are refused. " +
          "Their apps have to log in anew.",
        yes: "Disconnect user",
      },
    );
  }

  #disconnectGroup(group) {
    return this.#disconnect(
      { group },
      {
        title: `Disconnect group ${group}?`,
        text:
          "All connections of this token group close with 4403, on every node, and its tokens are refused for as long " +
          "as revocation-seconds says. That login on that device has to be made anew.",
        yes: "Disconnect group",
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

function vaultsInWords({ vaults, subscribed }) {
  const more = subscribed - vaults.length;
  return `${plural(subscribed, "vault")}: ${vaults.join(", ")}${more > 0 ? ", …" : ""}`;
}
