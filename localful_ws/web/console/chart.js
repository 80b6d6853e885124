/**
 * A line chart of the last minutes, in SVG. What it shows is said in words as well, for those who don't see it.
 *
 * @module
 */

import { el } from "../elements.js";
import { clock, setText } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 132;
const PAD = { top: 8, right: 8, bottom: 20, left: 8 };
/** The least span of time that is drawn. */
const LEAST_SECONDS = 60;
const GAP_SECONDS = 15;

function s(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

/** The least of 1, 2, 5 times a power of ten (for bytes of two) that is not below. */
function roundUp(value, binary) {
  const base = binary ? 2 : 10;
  const power = base ** Math.floor(Math.log(value) / Math.log(base));
  for (const factor of binary ? [1, 2] : [1, 2, 5, 10]) if (factor * power >= value) return factor * power;
  return 10 * power;
}

export class Chart {
  #lines;
  #format;
  #binary;
  #least;
  #title;
  #svg;
  #values = new Map();
  #samples = [];
  #pointed = null;

  /**
   * @param {object} options
   * @param {string} options.title
   * @param {{ key: string, name: string }[]} options.lines What of a sample is drawn; null is a gap.
   * @param {(value: number) => string} options.format
   * @param {number} options.least What the axis ends at, at least.
   * @param {boolean} [options.binary] Whether the axis ends at a power of two.
   */
  constructor({ title, lines, format, least, binary = false }) {
    this.#lines = lines;
    this.#format = format;
    this.#binary = binary;
    this.#least = least;
    this.#title = title;
    this.#svg = s("svg", { role: "img", height: HEIGHT, class: "chart-lines" });
    const legend = el("ul", { class: "legend" });
    lines.forEach((line, index) => {
      const value = el("span", { class: "number" }, "–");
      this.#values.set(line.key, value);
      legend.append(el("li", { class: `line-${index + 1}` }, `${line.name} `, value));
    });
    this.element = el("figure", { class: "card chart" }, el("figcaption", {}, el("h3", {}, title), legend), this.#svg);
    this.#svg.addEventListener("pointermove", (event) => this.#point(event.offsetX));
    this.#svg.addEventListener("pointerleave", () => this.#point(null));
    new ResizeObserver(() => this.#draw()).observe(this.#svg);
  }

  /** Draw these samples. */
  update(samples) {
    this.#samples = samples;
    this.#draw();
    this.#describe();
  }

  #point(x) {
    this.#pointed = x;
    this.#draw();
  }

  #draw() {
    const width = this.#svg.clientWidth;
    const samples = this.#samples;
    if (width === 0 || samples.length === 0) return;
    const now = samples.at(-1).time;
    const span = Math.max(LEAST_SECONDS, now - samples[0].time);
    const values = samples.flatMap((sample) => this.#lines.map((line) => sample[line.key] ?? 0));
    const top = roundUp(Math.max(this.#least, ...values), this.#binary);
    const inner = { width: width - PAD.left - PAD.right, height: HEIGHT - PAD.top - PAD.bottom };
    const x = (time) => PAD.left + inner.width * (1 - (now - time) / span);
    const y = (value) => PAD.top + inner.height * (1 - value / top);
    const parts = [];
    // Above the lines, so that they can be read.
    const labels = [];
    for (const share of [0, 0.5, 1]) {
      const level = y(top * share);
      parts.push(s("line", { class: "grid", x1: PAD.left, x2: width - PAD.right, y1: level, y2: level }));
      if (share > 0) labels.push(s("text", { x: PAD.left, y: level + 12, class: "axis" }, this.#format(top * share)));
    }
    const step = span > 300 ? 120 : span > 150 ? 60 : span > 90 ? 30 : 15;
    for (let back = 0; back <= span; back += step) {
      const at = x(now - back);
      if (at < PAD.left + 24 && back > 0) continue;
      const label = back === 0 ? "now" : back % 60 === 0 ? `−${back / 60} min` : `−${back} s`;
      labels.push(s("text", { x: at, y: HEIGHT - 5, class: "axis", "text-anchor": back === 0 ? "end" : "middle" }, label));
    }
    this.#lines.forEach((line, index) => {
      parts.push(s("path", { class: `line line-${index + 1}`, d: this.#path(line.key, x, y) }));
    });
    const pointed = this.#nearest(x);
    if (pointed !== null) {
      parts.push(s("line", { class: "pointer", x1: x(pointed.time), x2: x(pointed.time), y1: PAD.top, y2: y(0) }));
    }
    this.#svg.replaceChildren(...parts, ...labels);
    const shown = pointed ?? samples.at(-1);
    for (const line of this.#lines) setText(this.#values.get(line.key), this.#say(shown[line.key]));
  }

  #path(key, x, y) {
    let path = "";
    let previous = null;
    for (const sample of this.#samples) {
      const value = sample[key];
      if (value === null) {
        previous = null;
        continue;
      }
      const joined = previous !== null && sample.time - previous < GAP_SECONDS;
      path += `${joined ? "L" : "M"}${x(sample.time).toFixed(1)} ${y(value).toFixed(1)}`;
      // A single value is a dot.
      if (!joined) path += "h0.01";
      previous = sample.time;
    }
    return path;
  }

  #nearest(x) {
    if (this.#pointed === null) return null;
    let nearest = null;
    for (const sample of this.#samples) {
      const distance = Math.abs(x(sample.time) - this.#pointed);
      if (nearest === null || distance < nearest.distance) nearest = { sample, distance };
    }
    return nearest?.sample ?? null;
  }

  #say(value) {
    return value === null ? "–" : this.#format(value);
  }

  #describe() {
    const said = this.#lines.map((line) => {
      const values = this.#samples.map((sample) => sample[line.key]).filter((value) => value !== null);
      const highest = values.length > 0 ? this.#format(Math.max(...values)) : "–";
      return `${line.name} now ${this.#say(this.#samples.at(-1)[line.key])}, at most ${highest}`;
    });
    this.#svg.setAttribute(
      "aria-label",
      `${this.#title}, since ${clock(this.#samples[0].time)}: ${said.join("; ")}.`,
    );
  }
}
