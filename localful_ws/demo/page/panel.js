/** How one device looks: its state, its content, what it was told, and what can be done with it. */

import { el } from "/elements.js";
import { RowList } from "/rows.js";
import { ask } from "./dialogs.js";
import { textOf } from "./content.js";
import { button, count, icon, oncePerFrame } from "./dom.js";
import { RENDER, renderTold } from "./lines.js";

const STATES = {
  starting: ["connecting", "warn"],
  connected: ["connected", "good"],
  waiting: ["reconnecting", "warn"],
  offline: ["offline", ""],
  ended: ["closed", "bad"],
};
const MANY = 1000;
const CONTENT_ROW = 38;
const TOLD_ROW = 28;
/** How long something new stands out, in milliseconds. */
const FRESH = 2500;
const NAMES = ["Ideas", "Recipes", "Garden", "Music", "House", "Letters"];
const TEXTS = ["Water the plants", "Ring the plumber", "A birthday present for Eve", "Return the library books", "Sharpen the skates"];

export class Panel {
  #device;
  #frames;
  #closedVaults = new Set();
  #openItems = new Set();
  #stopMany = null;
  #named = 0;
  #parts = {};
  #update = oncePerFrame(() => this.#show());

  /**
   * @param {import("./device.js").Device} device
   * @param {import("./frames.js").Frames} frames
   */
  constructor(device, frames) {
    this.#device = device;
    this.#frames = frames;
    this.element = this.#build();
    device.watch(this.#update);
    device.hear((line) => this.#told.push(line));
    this.#update();
  }

  #content;
  #told;

  #build() {
    const { id, name, kind, account } = this.#device;
    const parts = this.#parts;
    parts.state = el("span", { class: "badge dot" });
    parts.online = el("input", {
      type: "checkbox",
      class: "switch",
      role: "switch",
      id: `${id}-online`,
      onchange: () => (parts.online.checked ? this.#device.goOnline() : this.#device.goOffline()),
    });
    parts.group = el("code", {});
    parts.left = el("span", { class: "number" });
    parts.token = el("progress", { max: String(this.#device.config.accessSeconds), value: "0", "aria-label": `Time that the token of ${name} is still good` });
    parts.renew = button("Renew now", () => this.#device.renew(), { kind: "small", describe: `Renew the token of ${name} now` });
    parts.expire = el("input", {
      type: "checkbox",
      id: `${id}-expire`,
      onchange: () => this.#device.setRenews(!parts.expire.checked),
    });
    parts.notice = el("div", { class: "panel-notice notice", role: "status" });
    parts.rows = el("div");
    parts.toldRows = el("div");
    parts.number = el("span", { class: "badge number" }, "0");
    parts.newVault = button("New vault", () => this.#newVault(), { describe: `New vault, by ${name}` });
    parts.many = button(`${MANY.toLocaleString("en")} items`, () => this.#createMany(), {
      describe: `Create ${MANY} items, by ${name}`,
    });
    parts.progress = el("div", { class: "long-work", hidden: true });
    parts.profile = el("span", {});
    const foreign = this.#foreignNote();
    const panel = el(
      "section",
      { class: "card panel", id: `panel-${id}`, "data-device": id, "aria-labelledby": `${id}-name` },
      el(
        "header",
        { class: "panel-head" },
        el("span", { class: `device-icon ${account.name.toLowerCase()}` }, icon(kind)),
        el("div", { class: "panel-title" }, el("h2", { id: `${id}-name` }, name), parts.state),
        el("label", { class: "check online", for: `${id}-online` }, "Online", parts.online),
      ),
      el(
        "div",
        { class: "session" },
        el(
          "p",
          { class: "session-line" },
          el("span", { class: "soft" }, "Token group "),
          parts.group,
          el("span", { class: "session-left" }, parts.left),
        ),
        parts.token,
        el("p", { class: "session-line" }, parts.renew, el("label", { class: "check", for: `${id}-expire` }, parts.expire, "let it run out")),
      ),
      parts.notice,
      el(
        "div",
        { class: "section-head" },
        el("h3", {}, "Vaults"),
        el("span", { class: "soft small subscribed-hint" }, "☑ subscribed"),
        el("div", { class: "section-actions" }, parts.many, parts.newVault),
      ),
      parts.progress,
      el("div", { class: "content-box" }, parts.rows, foreign),
      el("div", { class: "section-head" }, el("h3", {}, "It was told"), parts.number),
      el("div", { class: "told-box" }, parts.toldRows),
      this.#accountDrawer(),
      this.#frames.element,
    );
    this.#content = new RowList(parts.rows, {
      label: `Vaults and items on ${name}`,
      height: CONTENT_ROW,
      limit: 50_000,
      key: (row) => row.key,
      empty: "No vaults.",
      render: (row, element) => this.#renderContent(row, element),
    });
    this.#told = new RowList(parts.toldRows, {
      label: `What ${name} was told`,
      height: TOLD_ROW,
      follow: true,
      empty: "Nothing yet.",
      render: (line, element) => renderTold(line, element),
    });
    return panel;
  }

  #foreignNote() {
    this.#parts.foreign = el("input", { type: "checkbox", id: `${this.#device.id}-foreign`, checked: true });
    this.#parts.foreignRow = el(
      "label",
      { class: "check small foreign", for: `${this.#device.id}-foreign`, hidden: true },
      this.#parts.foreign,
      el("span", {}, "Ask for Ada's vaults as well (it gets nothing of them)"),
    );
    return this.#parts.foreignRow;
  }

  /** Let this device ask for vaults that are not its user's; `onchange` is told whether it does. */
  offerForeign(onchange) {
    this.#parts.foreignRow.hidden = false;
    this.#parts.foreign.addEventListener("change", () => onchange(this.#parts.foreign.checked));
    onchange(true);
  }

  #accountDrawer() {
    const device = this.#device;
    const by = (what) => ({ kind: "small", describe: `${what}, by ${device.name}` });
    this.#parts.accountButtons = [
      button("Profile", () => this.#changeProfile(), by("Change the profile")),
      button("E-mail", () => this.#changeEmail(), by("Change the e-mail address")),
      button("Password", () => this.#changePassword(), by("Change the password")),
      button("Log out", () => device.logOut(), by("Log out")),
      button("Delete account", () => this.#deleteAccount(), { kind: "small danger", describe: `Delete the account, by ${device.name}` }),
    ];
    return el(
      "details",
      { class: "drawer" },
      el("summary", {}, "Account ", this.#parts.profile),
      el("div", { class: "drawer-body account" }, ...this.#parts.accountButtons),
    );
  }

  /** Show how much time is left. */
  tick() {
    const { api, session, group, state } = this.#device;
    const parts = this.#parts;
    const remaining = session === null ? api.remaining : session.expiresAt - Date.now() / 1000;
    const gone = group === null || state === "ended";
    parts.token.value = gone ? 0 : Math.max(0, remaining);
    parts.token.className = remaining < this.#device.config.renewalWindow ? "warn" : "";
    parts.left.textContent = gone ? "" : remaining > 0 ? `token good for ${Math.ceil(remaining)} s` : "token has run out";
  }

  #show() {
    const device = this.#device;
    const parts = this.#parts;
    const [word, kind] = STATES[device.state];
    parts.state.className = `badge dot ${kind}`;
    parts.state.textContent = word;
    parts.online.checked = device.network.online;
    parts.online.disabled = device.state === "ended" || device.state === "starting";
    parts.expire.checked = !device.api.renews;
    parts.renew.disabled = !device.connected;
    parts.group.textContent = device.group === null ? "–" : device.group.slice(0, 8);
    parts.group.title = device.group ?? "";
    parts.number.textContent = device.told.toLocaleString("en");
    const { profile } = device;
    parts.profile.replaceChildren(
      el("span", { class: "soft account-line" }, profile === null ? "" : `${profile.displayName} · ${profile.email}`),
    );
    const idle = device.state !== "ended" && device.network.online;
    for (const action of [parts.newVault, ...parts.accountButtons]) action.disabled = !idle;
    parts.many.disabled = !idle || device.progress !== null || device.content.vaults.size === 0;
    this.element.classList.toggle("away", !device.connected);
    this.#showNotice();
    this.#showProgress();
    this.#showContent();
    this.tick();
  }

  #showNotice() {
    const { notice, state, name } = this.#device;
    const { kind, text } = notice ?? { kind: "", text: this.#usual() };
    const signature = JSON.stringify([kind, text, state]);
    if (this.#parts.notice.dataset.shown === signature) return;
    this.#parts.notice.dataset.shown = signature;
    const again =
      state === "ended"
        ? button("Log in again", () => this.#device.start(), { kind: "small primary", describe: `Log in again on ${name}` })
        : null;
    this.#parts.notice.className = `panel-notice notice ${kind}`;
    this.#parts.notice.replaceChildren(el("p", { class: "small" }, text), ...(again === null ? [] : [again]));
  }

  /** What to say while nothing has happened: what it is subscribed to. */
  #usual() {
    const { content, subscription, foreign, connected, account } = this.#device;
    if (!connected) return "Connecting…";
    const names = subscription.filter((id) => content.vaults.has(id)).map((id) => content.vaults.get(id).name);
    const others = subscription.filter((id) => foreign.has(id)).length;
    const own = names.length === 0 ? "none of its vaults" : names.length > 3 ? count(names.length, "vault") : list(names);
    const more = others === 0 ? "" : `, and to ${count(others, "vault")} that ${others === 1 ? "isn't" : "aren't"} ${account.name}'s`;
    return `Subscribed to ${own}${more}.`;
  }

  #showProgress() {
    const { progress } = this.#device;
    const parts = this.#parts;
    parts.progress.hidden = progress === null;
    if (progress === null) {
      parts.progress.replaceChildren();
    } else if (parts.progress.childElementCount === 0) {
      const text = el("span", { class: "number small" });
      const bar = el("progress", { max: String(progress.total), "aria-label": "Creating items" });
      const stop = button("Stop", () => this.#stopMany.abort(), { kind: "small", describe: "Stop creating items" });
      parts.progress.replaceChildren(text, stop, bar);
    }
    if (progress !== null) {
      parts.progress.firstChild.textContent = progress.text;
      parts.progress.lastChild.value = progress.done;
    }
  }

  #showContent() {
    const { content, subscription, wanted } = this.#device;
    const now = performance.now();
    for (const [id, at] of content.touched) if (now - at > FRESH) content.touched.delete(id);
    const inForce = new Set(subscription);
    const rows = [];
    for (const vault of content.vaults.values()) {
      const open = !this.#closedVaults.has(vault.id);
      rows.push({ key: vault.id, kind: "vault", vault, open, wanted: wanted.has(vault.id), inForce: inForce.has(vault.id) });
      if (!open) continue;
      // The newest first.
      for (const item of [...vault.items.values()].reverse()) {
        const expanded = this.#openItems.has(item.id);
        rows.push({ key: item.id, kind: "item", vault, item, expanded });
        if (!expanded) continue;
        for (const version of [...item.versions.values()].reverse()) {
          rows.push({ key: version.id, kind: "version", vault, item, version });
        }
      }
    }
    this.#content.replace(rows);
    if (content.touched.size > 0) setTimeout(this.#update, FRESH + 50);
  }

  #renderContent(row, element) {
    const fresh = this.#device.content.touched.has(row.key);
    const idle = this.#device.state !== "ended" && this.#device.network.online;
    const { className, signature, children, number = null } = RENDER[row.kind](row, this);
    element.className = `row content-row ${className}${fresh ? " fresh" : ""}`;
    const shown = JSON.stringify([row.key, signature]);
    // What is pressed must be there when it is let go: buttons are made anew only if they have to.
    if (element.dataset.shown !== shown) {
      element.dataset.shown = shown;
      const focused = element.contains(document.activeElement) ? document.activeElement.dataset.action : undefined;
      element.replaceChildren(...children());
      if (focused !== undefined) element.querySelector(`[data-action="${focused}"]`)?.focus();
    }
    if (number !== null) element.querySelector(".row-number").textContent = number;
    for (const action of element.querySelectorAll("[data-changes]")) action.disabled = !idle;
  }

  // ---------------------------------------------------------------------------------------------------------- actions

  get device() {
    return this.#device;
  }

  toggle(kind, id) {
    const set = kind === "vault" ? this.#closedVaults : this.#openItems;
    if (!set.delete(id)) set.add(id);
    this.#update();
  }

  async #newVault() {
    const taken = new Set([...this.#device.content.vaults.values()].map(({ name }) => name));
    const value = NAMES.find((name) => !taken.has(name)) ?? `Vault ${taken.size + 1}`;
    const answer = await ask({
      title: `New vault, by ${this.#device.name}`,
      text: "A real app encrypts the name before it sends it: the server doesn't look into it.",
      fields: [{ name: "name", label: "Name", value, maxlength: 60 }],
      action: "Create",
    });
    if (answer !== null) await this.#device.createVault(answer.name);
  }

  async rename(vault) {
    const answer = await ask({
      title: `Rename ${vault.name}, by ${this.#device.name}`,
      fields: [{ name: "name", label: "Name", value: vault.name, maxlength: 60 }],
      action: "Rename",
    });
    if (answer !== null) await this.#device.renameVault(vault, answer.name);
  }

  async deleteVault(vault) {
    const answer = await ask({
      title: `Delete ${vault.name}?`,
      text: `${this.#device.name} deletes the vault with its ${count(vault.items.size, "item")}. One event says it for all of them.`,
      action: "Delete",
      danger: true,
    });
    if (answer !== null) await this.#device.deleteVault(vault);
  }

  async write(vault, item) {
    const value = textOf(item) ?? TEXTS[this.#named++ % TEXTS.length];
    const answer = await ask({
      title: `${item.versions.size === 0 ? "Write" : "Edit"}, by ${this.#device.name}`,
      text: "An item is changed by adding a version. The event holds its id; the others fetch what is in it.",
      fields: [{ name: "text", label: "Text", value, maxlength: 2000 }],
      action: "Save",
    });
    if (answer !== null) await this.#device.write(vault, item, answer.text);
  }

  async #createMany() {
    const vault = this.#device.content.vaults.values().next().value;
    this.#stopMany = new AbortController();
    await this.#device.createItems(vault, MANY, this.#stopMany.signal);
  }

  async #changeProfile() {
    const answer = await ask({
      title: `Change the profile, by ${this.#device.name}`,
      fields: [{ name: "name", label: "Display name", value: this.#device.profile.displayName, maxlength: 60 }],
      action: "Change",
    });
    if (answer !== null) await this.#device.changeProfile(answer.name);
  }

  async #changeEmail() {
    const answer = await ask({
      title: `Change the e-mail address, by ${this.#device.name}`,
      fields: [{ name: "email", label: "E-mail address", type: "email", value: this.#device.profile.email, maxlength: 200 }],
      action: "Change",
    });
    if (answer !== null) await this.#device.changeEmail(answer.email);
  }

  async #changePassword() {
    const answer = await ask({
      title: `Change the password, by ${this.#device.name}`,
      text: "All other logins of the user end: their devices are told, then closed, and their tokens refused.",
      fields: [{ name: "password", label: "New password", value: "another password", minlength: 8, maxlength: 200 }],
      action: "Change",
    });
    if (answer !== null) await this.#device.changePassword(answer.password);
  }

  async #deleteAccount() {
    const answer = await ask({
      title: `Delete the account of ${this.#device.account.name}?`,
      text: "All of the user's devices are closed. “Start over” brings everything back.",
      action: "Delete",
      danger: true,
    });
    if (answer !== null) await this.#device.deleteAccount();
  }
}

function list(words) {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}
