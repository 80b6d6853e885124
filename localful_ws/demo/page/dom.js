/** Small helpers to build elements. */

import { el } from "/elements.js";

const SVG = "http://www.w3.org/2000/svg";

const PATHS = {
  laptop: "M5 5h14v10H5zM2.5 19h19",
  phone: "M8 3h8v18H8zM11 18h2",
  tablet: "M5.5 3h13v18h-13zM11 18h2",
  vault: "M4 7.5 12 4l8 3.5v9L12 20l-8-3.5zM4 7.5l8 3.5 8-3.5M12 11v9",
  add: "M12 5v14M5 12h14",
  edit: "M4 20h4L19 9l-4-4L4 16zM13 7l4 4",
  delete: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  open: "m9 6 6 6-6 6",
  close: "m6 9 6 6 6-6",
  told: "m5 13 4 4L19 7",
  own: "M4 20h4L19 9l-4-4L4 16z",
  none: "M6 12h12",
  later: "M12 7v5l3 2M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17",
  wrong: "M12 8v5M12 16.5v.5M12 3.5 2.5 20h19z",
};

/** Draw an icon. It says nothing by itself to those who can't see it. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "glyph");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/** Make a button. With an icon instead of a text, `label` says what it does. */
export function button(label, onclick, { kind = "", glyph = null, describe = null } = {}) {
  if (glyph === null) return el("button", { type: "button", class: kind, onclick, "aria-label": describe }, label);
  return el("button", { type: "button", class: `icon quiet ${kind}`, onclick, "aria-label": label, title: label }, icon(glyph));
}

/** Call `action` with the next picture, once however often it is asked for until then. */
export function oncePerFrame(action) {
  let frame = null;
  return () => {
    frame ??= requestAnimationFrame(() => {
      frame = null;
      action();
    });
  };
}

/** A time of day with seconds. */
export function clockTime(date) {
  return date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
}

/** Some milliseconds, as a person says it. */
export function duration(milliseconds) {
  if (milliseconds < 1000) return `${Math.max(1, Math.round(milliseconds))} ms`;
  return `${(milliseconds / 1000).toFixed(milliseconds < 10_000 ? 1 : 0)} s`;
}

/** A number and what it counts. */
export function count(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

/** The beginning of a text. */
export function shorten(text, length = 60) {
  return text.length > length ? `${text.slice(0, length - 1)}…` : text;
}
