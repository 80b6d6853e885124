/**
 * Builds what pages show.
 *
 * @module
 */

/**
 * Make an element: el("p", { class: "soft", onclick: act }, "text", other).
 *
 * @param {string} tag
 * @param {object} attributes Attributes; functions are listeners, true is an attribute without a value.
 * @param {...(Node|string|number|null|undefined|false)} children
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false).map(asNode));
  return element;
}

const asNode = (child) => (child instanceof Node ? child : String(child));
