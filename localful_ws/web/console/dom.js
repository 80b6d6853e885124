/**
 * Small things that all parts of the console use: numbers and times in words, questions to the operator.
 *
 * @module
 */

const TOAST_MS = 6000;

export const byId = (id) => document.getElementById(id);

/** Set a text, but only if it is another: what did not change is not read out again. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const FINE = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });
const TIME = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const MOMENT = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

export const whole = (value) => WHOLE.format(value);

/** A rate: whole when it is large. */
export const rate = (value) => (value >= 10 || value === 0 ? WHOLE.format(value) : FINE.format(value));

export function bytes(value) {
  let size = value;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (size < 1024 || unit === "GiB") return `${unit === "B" || size >= 100 ? WHOLE.format(size) : size.toFixed(1)} ${unit}`;
    size /= 1024;
  }
  return "";
}

/** A span of time, in at most two units. */
export function duration(seconds) {
  const left = Math.max(0, Math.round(seconds));
  const [days, hours, minutes] = [Math.floor(left / 86400), Math.floor(left / 3600) % 24, Math.floor(left / 60) % 60];
  if (days > 0) return `${days} d ${hours} h`;
  if (hours > 0) return `${hours} h ${minutes} min`;
  if (minutes > 9) return `${minutes} min`;
  if (minutes > 0) return `${minutes} min ${left % 60} s`;
  return `${left} s`;
}

/** A short span of time, such as a delay. */
export function delay(seconds) {
  if (seconds >= 1) return `${FINE.format(seconds)} s`;
  return `${FINE.format(seconds * 1000)} ms`;
}

export const clock = (time) => TIME.format(time * 1000);
export const moment = (time) => MOMENT.format(time * 1000);
export const plural = (count, word) => `${whole(count)} ${word}${count === 1 ? "" : "s"}`;

/** Ask whether something is to be done; false if not. */
export function confirm({ title, text, yes }) {
  const dialog = byId("confirm");
  byId("confirm-title").textContent = title;
  byId("confirm-text").textContent = text;
  byId("confirm-yes").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

let toastTimer = null;

/** Say for a while what came of something. */
export function toast(text, kind = "good") {
  const element = byId("toast");
  clearTimeout(toastTimer);
  element.className = `toast ${kind}`;
  element.textContent = text;
  element.hidden = false;
  toastTimer = setTimeout(() => (element.hidden = true), TOAST_MS);
}
