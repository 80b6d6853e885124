/** Asking before something is done. */

import { el } from "/elements.js";

/**
 * Ask for some values, or just whether to go on.
 *
 * @param {object} question
 * @param {string} question.title
 * @param {string} [question.text] What it does.
 * @param {{name: string, label: string, value?: string, type?: string, minlength?: number, maxlength?: number}[]}
 *   [question.fields]
 * @param {string} question.action The word on the button.
 * @param {boolean} [question.danger] Whether something is lost by it.
 * @returns {Promise<object | null>} The values by name; null if it was called off.
 */
export function ask({ title, text = null, fields = [], action, danger = false }) {
  const opener = document.activeElement;
  return new Promise((resolve) => {
    const inputs = fields.map(({ name, label, ...attributes }) => {
      const input = el("input", { id: `ask-${name}`, required: true, autocomplete: "off", type: "text", ...attributes });
      return { name, input, element: el("div", { class: "field" }, el("label", { for: input.id }, label), input) };
    });
    const form = el(
      "form",
      { class: "ask" },
      el("h2", { id: "ask-title" }, title),
      text === null ? null : el("p", { class: "soft" }, text),
      ...inputs.map(({ element }) => element),
      el(
        "div",
        { class: "ask-buttons" },
        el("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
        el("button", { type: "submit", class: danger ? "danger" : "primary" }, action),
      ),
    );
    const dialog = el("dialog", { "aria-labelledby": "ask-title" }, form);
    let answer = null;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      answer = Object.fromEntries(inputs.map(({ name, input }) => [name, input.value]));
      dialog.close();
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      // Where it was opened from may be a row that has been drawn anew.
      if (opener?.isConnected) opener.focus();
      resolve(answer);
    });
    document.body.append(dialog);
    dialog.showModal();
    inputs[0]?.input.select();
  });
}
