/**
 * The list of users who have a connection: searched by how an id begins, loaded page by page.
 *
 * @module
 */

import { RowList } from "../rows.js";
import { ask, KeyRefused } from "./api.js";
import { el } from "../elements.js";
import { byId, plural, setText, whole } from "./dom.js";

const HEIGHT = 36;
const PAGE = 1000;
const MOST = 10_000;
const TYPING_MS = 250;
const REFRESH_MS = 10_000;

export class Users {
  #list;
  #open;
  #refuse;
  #users = [];
  #expected = () => 0;
  #load = null;
  #typing = null;
  #visible = false;
  #current = null;
  #loadedAt = -Infinity;

  /**
   * @param {object} options
   * @param {(user: string) => void} options.open Called when a user is chosen, or looked up.
   * @param {(error: KeyRefused) => void} options.refuse Called when the key is not taken any more.
   * @param {() => number} options.expected About how many users there are.
   */
  constructor({ open, refuse, expected }) {
    this.#open = open;
    this.#refuse = refuse;
    this.#expected = expected;
    byId("users-rows").className = "users-rows";
    this.#list = new RowList(byId("users-rows"), {
      label: "Users",
      height: HEIGHT,
      limit: MOST,
      render: (row, element) => this.#render(row, element),
      onSelect: (row) => this.#open(row.user),
      empty: "No connected user matches.",
    });
    byId("lookup").addEventListener("submit", (event) => {
      event.preventDefault();
      const id = byId("lookup-id").value;
      if (id !== "") this.#open(id);
    });
    byId("lookup-id").addEventListener("input", () => {
      clearTimeout(this.#typing);
      this.#typing = setTimeout(() => this.load(), TYPING_MS);
    });
    byId("users-order").addEventListener("change", () => this.#show());
    byId("users-refresh").addEventListener("click", () => this.load());
  }

  /** Say whether the list is in view. It is loaded when it comes into view, and kept fresh while it is short. */
  setVisible(visible) {
    const comes = visible && !this.#visible;
    this.#visible = visible;
    if (comes && this.#load === null) this.load();
  }

  /** Forget everybody. */
  clear() {
    this.#load?.abort();
    this.#load = null;
    this.#users = [];
    this.#visible = false;
    byId("lookup-id").value = "";
    byId("users-progress").hidden = true;
    this.#problem("");
    this.#show();
  }

  /** Say whose devices are shown beside the list. */
  setCurrent(user) {
    this.#current = user;
    this.#list.refresh();
  }

  /** Do what is due; called every now and then. */
  tick() {
    const idle = this.#load === null && !document.hidden;
    if (this.#visible && idle && this.#users.length < PAGE && performance.now() - this.#loadedAt > REFRESH_MS) this.load();
  }

  /** Load the list. What was under way is given up. */
  async load() {
    this.#load?.abort();
    const load = (this.#load = new AbortController());
    const prefix = byId("lookup-id").value;
    const users = [];
    let after = "";
    let more = true;
    try {
      while (more && users.length < MOST) {
        const page = await ask("users", { prefix, after, limit: PAGE });
        if (load.signal.aborted) return;
        users.push(...page.users);
        more = page.next !== undefined;
        after = page.next;
        // The first page at once; then the reader sees how far it is.
        if (users.length === page.users.length || !more) this.#users = users;
        if (more) this.#progress(users.length, prefix);
        this.#show();
      }
      this.#problem("");
      this.#users = users;
      this.#show();
      this.#more(more, prefix);
    } catch (error) {
      if (load.signal.aborted) return;
      if (error instanceof KeyRefused) this.#refuse(error);
      this.#problem(`${error.message} The list is not complete, or not fresh.`);
    }
    this.#loadedAt = performance.now();
    this.#load = null;
    byId("users-progress").hidden = true;
  }

  #progress(count, prefix) {
    const bar = byId("users-progress");
    bar.hidden = false;
    if (prefix === "") {
      bar.max = Math.min(MOST, Math.max(count, this.#expected()));
      bar.value = count;
    } else {
      bar.removeAttribute("value");
    }
    setText(byId("users-count"), `${whole(count)} so far`);
  }

  #problem(text) {
    byId("users-problem").hidden = text === "";
    setText(byId("users-problem"), text);
  }

  #more(more, prefix) {
    const note = byId("users-more");
    note.hidden = !more;
    const all = prefix === "" && this.#expected() > MOST ? ` of about ${whole(this.#expected())}` : "";
    setText(note, `These are the first ${whole(MOST)}${all}. Type how an id begins to see others.`);
    setText(byId("users-count"), plural(this.#users.length, "user"));
  }

  #show() {
    const byCount = (one, other) => other.connections - one.connections;
    this.#list.replace(byId("users-order").checked ? this.#users.toSorted(byCount) : this.#users);
    byId("users-rows").style.height = `${this.#list.length * HEIGHT + 1}px`;
  }

  #render(row, element) {
    element.classList.toggle("current", row.user === this.#current);
    element.replaceChildren(
      el("span", { class: "mono clip", title: row.user }, row.user),
      el("span", { class: "number soft" }, plural(row.connections, "device")),
    );
  }
}
