/**
 * A form that publishes a test event for one user.
 *
 * @module
 */

import { KeyRefused, post } from "./api.js";
import { el } from "../elements.js";
import { confirm, plural, setText } from "./dom.js";

const EVENTS = [
  "user-update",
  "user-password-change",
  "user-email-change",
  "user-delete",
  "vault-create",
  "vault-update",
  "vault-delete",
  "item-create",
  "item-delete",
  "version-create",
  "version-delete",
];

/** What these do to devices can't be taken back. */
const ENDING = {
  "user-delete": "All the user's connections close with 4403, and tokens issued before now are refused.",
  "vault-delete": "The vault leaves the subscription of every device of this user.",
};

export class SendForm {
  element;
  #user;
  #hooks;
  #event;
  #vault;
  #group;
  #data;
  #result = el("p", { class: "small send-result", role: "status" });

  /**
   * @param {string} user
   * @param {object} hooks
   * @param {(error: KeyRefused) => void} hooks.refuse Called when the key is not taken any more.
   * @param {() => void} hooks.sent Called when something was sent.
   */
  constructor(user, hooks) {
    this.#user = user;
    this.#hooks = hooks;
    const text = { class: "mono", maxlength: 128, autocomplete: "off", autocapitalize: "off", spellcheck: "false" };
    this.#event = el("select", { id: "send-event" }, ...EVENTS.map((name) => el("option", {}, name)));
    this.#event.value = "item-create";
    this.#vault = el("input", { id: "send-vault", ...text });
    this.#group = el("input", { id: "send-group", ...text, "aria-describedby": "send-group-note" });
    this.#data = el("textarea", { id: "send-data", class: "mono", rows: 3, spellcheck: "false" });
    this.#data.value = '{"test": true}';
    const form = el(
      "form",
      { class: "send" },
      field("send-event", "Event", this.#event),
      field("send-vault", "Vault", this.#vault),
      field(
        "send-group",
        "Origin group",
        this.#group,
        el("span", { id: "send-group-note", class: "soft small" }, "Its devices are not told. May be empty."),
      ),
      el("div", { class: "field send-data" }, el("label", { for: "send-data" }, "Data, as JSON"), this.#data),
      el("div", { class: "send-foot" }, el("button", { class: "primary", type: "submit" }, "Send"), this.#result),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#event.addEventListener("change", () => this.#fit());
    this.#data.addEventListener("input", () => this.#data.setCustomValidity(""));
    this.#fit();
    this.element = el(
      "section",
      { class: "card", "aria-labelledby": "send-title" },
      el("div", { class: "panel-head" }, el("h2", { id: "send-title" }, "Send a test event")),
      el("p", { class: "soft small panel-line" }, "Published as your HTTP API would: real devices get it."),
      form,
    );
  }

  #fit() {
    const wanted = !this.#event.value.startsWith("user-");
    this.#vault.disabled = !wanted;
    this.#vault.required = wanted;
  }

  async #send() {
    const name = this.#event.value;
    const event = { event: name, user: this.#user };
    if (!this.#vault.disabled) event.vault = this.#vault.value;
    if (this.#group.value !== "") event.group = this.#group.value;
    if (this.#data.value.trim() !== "") {
      try {
        event.data = JSON.parse(this.#data.value);
      } catch {
        this.#say("The data is not JSON.", "bad");
        this.#data.focus();
        return;
      }
    }
    const ending = ENDING[name];
    if (ending !== undefined) {
      const question = { title: `Send ${name}?`, text: `Devices take it as true. ${ending}`, yes: `Send ${name}` };
      if (!(await confirm(question))) return;
    }
    try {
      const { accepted } = await post("v1/events", event);
      this.#say(`${plural(accepted, "event")} accepted.`, "good");
      this.#hooks.sent();
    } catch (error) {
      if (error instanceof KeyRefused) this.#hooks.refuse(error);
      this.#say(error.message, "bad");
    }
  }

  #say(text, kind) {
    this.#result.className = `small send-result ${kind}`;
    setText(this.#result, text);
  }
}

function field(id, name, input, ...more) {
  return el("div", { class: "field" }, el("label", { for: id }, name), input, ...more);
}
