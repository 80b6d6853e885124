/** The lines of a panel's lists: vaults, items and versions with their buttons, and what the device was told. */

import { el } from "/elements.js";
import { textOf } from "./content.js";
import { button, clockTime, count, icon, shorten } from "./dom.js";

const act = (name, control) => {
  control.dataset.action = name;
  return control;
};
const change = (name, control) => {
  control.dataset.changes = "";
  return act(name, control);
};

/** By kind of row: its class, what it is made anew for, what is in it, and a number that may change any time. */
export const RENDER = {
  vault({ vault, open, wanted, inForce }, panel) {
    const { name, id } = vault;
    const box = `${panel.device.id}-${id}`;
    return {
      className: `vault-row${wanted ? "" : " unsubscribed"}`,
      signature: [name, open, wanted, inForce],
      number: wanted ? vault.items.size.toLocaleString("en") : "not subscribed",
      children: () => [
        act(
          "toggle",
          el(
            "button",
            { type: "button", class: "icon quiet toggle", "aria-expanded": String(open), "aria-label": `Items in ${name}`, onclick: () => panel.toggle("vault", id) },
            icon(open ? "close" : "open"),
          ),
        ),
        act(
          "subscribe",
          el("input", {
            type: "checkbox",
            id: box,
            checked: wanted,
            "aria-label": `Subscribed to ${name}`,
            title: "Subscribed: told of items and versions in it",
            onchange: (event) => panel.device.setWanted(id, event.target.checked),
          }),
        ),
        el("label", { for: box, class: "clip vault-name" }, name),
        el("span", { class: "soft small number nowrap row-number" }),
        el(
          "span",
          { class: "row-actions" },
          change("add", button(`New item in ${name}`, () => panel.device.createItem(vault), { glyph: "add" })),
          change("edit", button(`Rename ${name}`, () => panel.rename(vault), { glyph: "edit" })),
          change("delete", button(`Delete ${name}`, () => panel.deleteVault(vault), { glyph: "delete" })),
        ),
      ],
    };
  },

  item({ vault, item, expanded }, panel) {
    const text = textOf(item);
    const called = text === null ? `empty ${item.type}` : shorten(text, 40);
    return {
      className: "item-row",
      signature: [text, item.versions.size, expanded],
      children: () => [
        item.versions.size === 0
          ? el("span", { class: "toggle" })
          : act(
              "toggle",
              el(
                "button",
                { type: "button", class: "icon quiet toggle", "aria-expanded": String(expanded), "aria-label": `Versions of ${called}`, onclick: () => panel.toggle("item", item.id) },
                icon(expanded ? "close" : "open"),
              ),
            ),
        el("span", { class: `clip item-text${text === null ? " soft" : ""}`, title: text ?? "" }, text ?? `Empty ${item.type}`),
        item.versions.size > 1 ? el("span", { class: "soft small number nowrap" }, count(item.versions.size, "version")) : null,
        el(
          "span",
          { class: "row-actions" },
          change("edit", button(text === null ? `Write into ${called}` : `Edit ${called}`, () => panel.write(vault, item), { glyph: "edit" })),
          change("delete", button(`Delete ${called}`, () => panel.device.deleteItem(vault, item), { glyph: "delete" })),
        ),
      ].filter((child) => child !== null),
    };
  },

  version({ vault, item, version }, panel) {
    const text = version.text ?? "not fetched";
    return {
      className: "version-row",
      signature: [text],
      children: () => [
        el("span", { class: "clip item-text soft", title: text }, text),
        el(
          "span",
          { class: "row-actions" },
          change("delete", button(`Delete the version ${shorten(text, 40)}`, () => panel.device.deleteVersion(vault, item, version), { glyph: "delete" })),
        ),
      ],
    };
  },
};

/** A line of what a device was told. */
export function renderTold({ event, text, missed, at }, element) {
  const kind = event === null ? "note" : event.split("-")[0];
  element.className = `row told ${kind}`;
  element.replaceChildren(
    el("span", { class: "soft number told-time" }, clockTime(at)),
    event === null ? el("span", { class: "soft clip" }, text) : el("span", { class: "badge event" }, event),
    event === null ? "" : el("span", { class: "clip told-where" }, text),
    missed && event !== null ? el("span", { class: "soft small nowrap" }, "missed") : "",
  );
}
