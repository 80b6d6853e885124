/**
 * A device: it logs in, connects, subscribes, and keeps its content by snapshot and events.
 *
 * This is what an app does with `client.js`. How it looks is in panel.js.
 *
 * @module
 */

import { ClosedByServerError, NoAnswerError, openClient, TokenUnavailableError } from "/client.js";
import { Api, ApiError, request } from "./api.js";
import { Content, textOf } from "./content.js";
import { count, shorten } from "./dom.js";
import { Network } from "./socket.js";

/** A token for a connection is good for so much longer than the time before its end at which it is to be renewed. */
const SPARE = 2;
/** After a resumed connection, what was missed has arrived within this time, in milliseconds. */
const REPLAY = 600;
const RETRY = 1000;

export class Device {
  #journal;
  #client = null;
  #run = 0;
  /** Snapshots on their way: what comes meanwhile is applied after them. */
  #fetching = Promise.resolve();
  #missed = null;
  #wentOffline = 0;
  #watchers = [];
  #hearers = [];

  /**
   * @param {object} options
   * @param {string} options.id
   * @param {string} options.name
   * @param {"laptop" | "phone" | "tablet"} options.kind
   * @param {{name: string, email: string, password: string, gone: boolean}} options.account Shared by all devices of
   *   the user.
   * @param {{websocketUrl: string, accessSeconds: number, renewalWindow: number}} options.config
   * @param {import("./journal.js").Journal} options.journal
   * @param {(direction: string, text: string) => void} options.onFrame
   */
  constructor({ id, name, kind, account, config, journal, onFrame }) {
    this.id = id;
    this.name = name;
    this.kind = kind;
    this.account = account;
    this.config = config;
    this.#journal = journal;
    this.api = new Api((text) => onFrame("http", text));
    this.network = new Network(onFrame);
    this.content = new Content(() => this.#changed());
    /** "starting", "connected", "waiting" (it comes back by itself), "offline" or "ended". */
    this.state = "starting";
    this.group = null;
    this.profile = null;
    /** What there is to say: `{kind, text}`, or null. */
    this.notice = null;
    /** The vaults it wants to be subscribed to, its own. */
    this.wanted = new Set();
    /** Vaults of another user that it asks for as well. */
    this.foreign = new Set();
    /** How many events it was told of. */
    this.told = 0;
    /** How much of something long is done: `{done, total, text}`, or null. */
    this.progress = null;
  }

  /** Call `watcher` after each change. */
  watch(watcher) {
    this.#watchers.push(watcher);
  }

  /** Call `hearer` with each event, and with what else is worth a line: `{event, text}`, `event` null for those. */
  hear(hearer) {
    this.#hearers.push(hearer);
  }

  /** The subscription that is in force. */
  get subscription() {
    return this.#client?.vaults ?? [];
  }

  /** Whether the connection is there. */
  get connected() {
    return this.state === "connected";
  }

  /** The session in force, or null. */
  get session() {
    return this.#client?.session ?? null;
  }

  // ------------------------------------------------------------------------------------------------- coming and going

  /** Log in and connect, as a new login. */
  async start() {
    const run = ++this.#run;
    await this.#client?.close();
    if (run !== this.#run) return;
    this.network.online = this.api.online = true;
    this.content.clear();
    this.wanted.clear();
    this.#set("starting", null);
    try {
      await this.#checkPage();
      const { user, group } = await this.api.logIn(this.account.email, this.account.password);
      this.profile = user;
      this.group = group;
      const { results } = await this.api.call("GET", "/v1/vaults");
      if (run !== this.#run) return;
      for (const { id } of results) this.wanted.add(id);
    } catch (error) {
      if (run === this.#run) this.#end(this.account.gone ? "The account was deleted: start over." : error.message);
      return;
    }
    this.#client = openClient(this.config.websocketUrl, () => this.#getToken(), {
      vaults: [...this.wanted, ...this.foreign],
      WebSocket: this.network.WebSocket,
      network: this.network,
      onArrival: (arrival) => this.#arrived(arrival),
      onStatus: (status) => this.#tookNote(status),
    });
    const error = await this.#client.ended;
    if (run === this.#run && error !== null) this.#end(error instanceof ClosedByServerError ? this.#whyClosed(error) : error.message);
  }

  /** A demo that was started anew has its daemon elsewhere, and another page. */
  async #checkPage() {
    const { websocketUrl } = await request("GET", "/config.json");
    if (websocketUrl === this.config.websocketUrl) return;
    location.reload();
    throw new ApiError(0, "other-demo", "The demo was started anew: the page is loaded again.");
  }

  /** Lose the network. */
  goOffline() {
    this.api.online = false;
    this.#wentOffline = performance.now();
    this.#set("offline", { kind: "", text: "Offline. The other devices go on; it will be told when it is back." });
    this.network.goOffline();
    this.#say("went offline");
  }

  /** Have the network back. */
  goOnline() {
    this.api.online = true;
    if (this.state === "offline") this.#set("waiting", null);
    this.network.goOnline();
  }

  /** Get a new token and send it now, rather than when the server asks for it. */
  async renew() {
    await this.#try(async () => {
      await this.api.refresh();
      await this.#client.renew();
    });
  }

  /** Renew tokens, or let them run out. */
  setRenews(renews) {
    this.api.renews = renews;
    if (renews && this.state === "waiting") this.network.goOnline();
    this.#changed();
  }

  /** End this login. */
  async logOut() {
    await this.#try(() => this.api.logOut());
  }

  async #getToken() {
    if (!this.network.online) throw new TokenUnavailableError("This device is offline.");
    if (!this.api.renews && this.api.remaining <= 0) throw new TokenUnavailableError("The token has run out.");
    const connecting = this.session === null;
    if (!this.api.renews && !connecting) throw new TokenUnavailableError("The token is not renewed.");
    try {
      return await this.api.token(this.config.renewalWindow + SPARE);
    } catch (error) {
      if (error.status === 401) throw error;
      throw new TokenUnavailableError(error.message);
    }
  }

  #tookNote(status) {
    if (status.kind === "connected" && this.state === "connected") {
      this.#say("token renewed");
      this.#changed();
    } else if (status.kind === "connected") {
      this.#set("connected", null);
      if (status.resumed === true) this.#resumed();
    } else if (status.kind === "renewal-failed") {
      this.#set("connected", { kind: "warn", text: "The token is not renewed: when it runs out, the server closes the connection." });
    } else if (status.kind === "disconnected" && this.network.online) {
      const closed = status.code === null || status.code === 1006 ? "" : ` (${status.code} ${status.reason})`;
      const what = this.state === "waiting" && this.notice !== null ? this.notice.text : `${status.message}${closed}`;
      this.#set("waiting", { kind: "warn", text: what });
    } else if (status.kind === "refused") {
      this.#set(this.state, { kind: "warn", text: `${status.message} (${status.code})` });
    }
  }

  #resumed() {
    this.#missed = 0;
    const away = this.#wentOffline;
    this.#journal.back(this, "resumed");
    setTimeout(() => {
      const missed = this.#missed;
      this.#missed = null;
      const told = missed === 0 ? "nothing was missed" : `it was told the ${count(missed, "event")} it missed`;
      const seconds = Math.max(1, Math.round((performance.now() - away) / 1000));
      const text = away === 0 ? `Reconnected: ${told}.` : `Back after ${seconds} s: ${told}.`;
      this.#wentOffline = 0;
      this.#say(`resumed: ${told}`);
      if (this.connected) this.#set("connected", { kind: "good", text });
      this.#journal.settle(this);
    }, REPLAY);
  }

  #whyClosed({ code, reason, sentence }) {
    if (this.account.gone) return "Closed with 4403 forbidden: the account was deleted.";
    if (code === 4403) return "Closed with 4403 forbidden: this login has ended, and its tokens are refused.";
    return `${sentence} (${code} ${reason})`;
  }

  #end(text) {
    this.#set("ended", { kind: "bad", text });
    this.#journal.settle(this);
  }

  // ------------------------------------------------------------------------------------------------------ being told

  async #arrived(arrival) {
    const at = performance.now();
    await this.#fetching;
    if (arrival.kind === "snapshot-needed") {
      await this.#fetchAll(arrival);
      return;
    }
    const { event, vault, data } = arrival;
    const name = this.content.vaults.get(vault)?.name ?? data?.protectedData ?? null;
    this.told += 1;
    if (this.#missed !== null) this.#missed += 1;
    this.content.apply(event, vault, data);
    this.#journal.told(this, event, vault, data, at);
    this.#hear(event, name === null ? "" : shorten(name, 24), this.#missed !== null);
    if (event === "version-create") this.#fetchVersion(vault, data.id);
    else if (event === "vault-create") this.setWanted(vault, true);
    else if (event === "vault-delete") this.wanted.delete(vault);
    else if (event === "user-update") this.profile.displayName = data.displayName;
    else if (event === "user-email-change") this.profile.email = data.email;
    this.#changed();
  }

  /** Fetch everything anew: at the start, or when what was missed can't be told. */
  async #fetchAll() {
    const first = this.content.vaults.size === 0;
    if (!first) this.#say("can't be told what it missed: fetches a snapshot");
    const run = this.#run;
    await this.#fetch(async () => this.content.replace(await this.api.call("GET", "/v1/snapshot")));
    if (first || run !== this.#run) return;
    this.#set("connected", { kind: "warn", text: "Too much was missed to be told: it fetched a snapshot of everything." });
    this.#journal.back(this, "snapshot");
    this.#wentOffline = 0;
  }

  #fetchVault(vault) {
    return this.#fetch(async () => {
      try {
        const snapshot = await this.api.call("GET", `/v1/vaults/${vault}/snapshot`);
        this.content.replaceVault(snapshot.vaults[0], snapshot);
      } catch (error) {
        // It has been deleted, and the event is on its way.
        if (error.status !== 404) throw error;
      }
    });
  }

  /** Do it after what is fetched already, again and again until it is done or the login has ended. */
  #fetch(work) {
    const run = this.#run;
    const before = this.#fetching;
    this.#fetching = (async () => {
      await before;
      while (run === this.#run && this.state !== "ended") {
        try {
          await work();
          return;
        } catch (error) {
          if (!(error instanceof ApiError)) throw error;
          await new Promise((done) => setTimeout(done, RETRY));
        }
      }
    })();
    return this.#fetching;
  }

  async #fetchVersion(vault, id) {
    try {
      this.content.fill(vault, await this.api.call("GET", `/v1/versions/${id}`));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
    }
  }

  // ------------------------------------------------------------------------------------------------------ subscribing

  /** Whether the device is to be subscribed to a vault of its own. */
  setWanted(vault, wanted) {
    if (wanted) this.wanted.add(vault);
    else this.wanted.delete(vault);
    return this.#subscribe();
  }

  /** Ask for vaults of another user as well. */
  setForeign(vaults) {
    if (vaults.size === this.foreign.size && [...vaults].every((vault) => this.foreign.has(vault))) return;
    this.foreign = new Set(vaults);
    this.#subscribe();
  }

  async #subscribe() {
    const client = this.#client;
    if (client === null || this.state === "ended") return;
    const before = new Set(client.vaults);
    this.#changed();
    let now;
    try {
      now = await client.subscribe([...this.wanted, ...this.foreign]);
    } catch (error) {
      // While offline the wish goes along with the next connection; what refuses it has been shown.
      if (client === this.#client && !(error instanceof NoAnswerError)) this.#changed();
      return;
    }
    for (const vault of now) {
      // What happened in it before is in the snapshot.
      if (!before.has(vault) && this.content.vaults.has(vault)) this.#fetchVault(vault);
    }
    this.#changed();
  }

  // ---------------------------------------------------------------------------------------------------- making changes

  createVault(name) {
    return this.#act(`created the vault ${name}`, "POST", "/v1/vaults", { protectedData: name }, ({ id }) => {
      this.#own("vault-create", id, { protectedData: name });
      this.setWanted(id, true);
      return { event: "vault-create", vault: id, data: { protectedData: name } };
    }, { event: "vault-create" });
  }

  renameVault(vault, name) {
    return this.#act(`renamed ${vault.name} to ${name}`, "PATCH", `/v1/vaults/${vault.id}`, { protectedData: name }, () => {
      this.#own("vault-update", vault.id, { protectedData: name });
      return { event: "vault-update", vault: vault.id, data: { protectedData: name } };
    }, { event: "vault-update", vault: vault.id });
  }

  deleteVault(vault) {
    return this.#act(`deleted the vault ${vault.name}`, "DELETE", `/v1/vaults/${vault.id}`, undefined, () => {
      this.#own("vault-delete", vault.id, null);
      this.wanted.delete(vault.id);
      return { event: "vault-delete", vault: vault.id, data: null };
    }, { event: "vault-delete", vault: vault.id });
  }

  createItem(vault) {
    const body = { vaultId: vault.id, type: "note" };
    return this.#act(`created an item in ${vault.name}`, "POST", "/v1/items", body, ({ id, type }) => {
      this.#own("item-create", vault.id, { id, type });
      return { event: "item-create", vault: vault.id, data: { id, type } };
    }, { event: "item-create", vault: vault.id });
  }

  deleteItem(vault, item) {
    const what = textOf(item) === null ? "an item" : `“${shorten(textOf(item), 24)}”`;
    return this.#act(`deleted ${what} in ${vault.name}`, "DELETE", `/v1/items/${item.id}`, undefined, () => {
      this.#own("item-delete", vault.id, { id: item.id });
      return { event: "item-delete", vault: vault.id, data: { id: item.id } };
    }, { event: "item-delete", vault: vault.id });
  }

  /** An item is edited by adding a version. */
  write(vault, item, text) {
    const body = { itemId: item.id, protectedData: text };
    return this.#act(`wrote “${shorten(text, 24)}” in ${vault.name}`, "POST", "/v1/versions", body, (version) => {
      const data = { id: version.id, itemId: item.id };
      this.#own("version-create", vault.id, data);
      this.content.fill(vault.id, version);
      return { event: "version-create", vault: vault.id, data };
    }, { event: "version-create", vault: vault.id });
  }

  deleteVersion(vault, item, version) {
    return this.#act(`deleted a version in ${vault.name}`, "DELETE", `/v1/versions/${version.id}`, undefined, () => {
      const data = { id: version.id, itemId: item.id };
      this.#own("version-delete", vault.id, data);
      return { event: "version-delete", vault: vault.id, data };
    }, { event: "version-delete", vault: vault.id });
  }

  changeProfile(displayName) {
    return this.#act(`changed the profile: ${displayName}`, "PATCH", "/v1/users", { displayName }, (user) => {
      this.profile = user;
      return { event: "user-update", vault: null, data: { displayName } };
    }, { event: "user-update" });
  }

  changeEmail(email) {
    const body = { email, password: this.account.password };
    return this.#act(`changed the e-mail address`, "PUT", "/v1/users/email", body, (user) => {
      this.profile = user;
      this.account.email = user.email;
      return { event: "user-email-change", vault: null, data: { email: user.email } };
    }, { event: "user-email-change" });
  }

  changePassword(newPassword) {
    const body = { currentPassword: this.account.password, newPassword };
    return this.#act(`changed the password`, "PUT", "/v1/users/password", body, () => {
      this.account.password = newPassword;
      return { event: "user-password-change", vault: null, data: null };
    }, { event: "user-password-change" });
  }

  deleteAccount() {
    const body = { password: this.account.password };
    return this.#act(`deleted the account`, "DELETE", "/v1/users", body, () => {
      this.account.gone = true;
      return { event: "user-delete", vault: null, data: null };
    }, { event: "user-delete" });
  }

  /** Create many items, one request after the other; `signal` ends it early. */
  async createItems(vault, total, signal) {
    const journal = this.#journal;
    const change = { event: "item-create", vault: vault.id, request: `POST /v1/items × ${total.toLocaleString("en")}` };
    const entry = journal.begin(this, `creates ${count(total, "item")} in ${vault.name}`, change, total);
    let done = 0;
    await this.#try(async () => {
      while (done < total && !signal.aborted) {
        this.progress = { done, total, text: `Creating items: ${done.toLocaleString("en")} of ${total.toLocaleString("en")}` };
        this.#changed();
        const { id, type } = await this.api.call("POST", "/v1/items", { vaultId: vault.id, type: "note" });
        await this.#fetching;
        this.#own("item-create", vault.id, { id, type });
        journal.expect(entry, "item-create", vault.id, { id, type });
        done += 1;
      }
    });
    this.progress = null;
    journal.finish(entry, `created ${count(done, "item")} in ${vault.name}`);
    this.#changed();
  }

  async #act(what, method, path, body, succeed, change) {
    const journal = this.#journal;
    const entry = journal.begin(this, what, { ...change, request: `${method} ${path.replace(/[0-9a-f-]{36}/u, "{id}")}` });
    const done = await this.#try(async () => {
      const result = await this.api.call(method, path, body);
      await this.#fetching;
      const { event, vault, data } = succeed(result);
      journal.expect(entry, event, vault, data);
      journal.finish(entry);
    });
    if (!done) journal.cancel(entry);
    this.#changed();
  }

  /** Take over a change of its own, of which the server doesn't tell it. */
  #own(event, vault, data) {
    this.content.apply(event, vault, data);
  }

  /** Do it; what the backend refuses is shown. Gives whether it was done. */
  async #try(work) {
    try {
      await work();
      return true;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const run = error.status === 401 && !this.api.renews ? " Renew the token again." : "";
      this.#set(this.state, { kind: "bad", text: `${error.message}${run}` });
      return false;
    }
  }

  // ---------------------------------------------------------------------------------------------------------- showing

  #set(state, notice) {
    this.state = state;
    this.notice = notice;
    this.#changed();
  }

  #say(text) {
    this.#hear(null, text, false);
  }

  #hear(event, text, missed) {
    for (const hearer of this.#hearers) hearer({ event, text, missed, at: new Date() });
  }

  #changed() {
    for (const watcher of this.#watchers) watcher();
  }
}
