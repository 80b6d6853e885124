/**
 * A list that stays usable with tens of thousands of rows: only those in view are in the document.
 *
 *     const list = new RowList(element, { label: "Frames", height: 28, follow: true, render: (frame, row) => {
 *       row.replaceChildren(frame.text);
 *     } });
 *     list.push(frame);
 *
 * Every row has the same height. The element scrolls and can be focused: arrows, Page Up and Down, Home and End work.
 * With `follow`, the list stays at its end as rows are added, until the reader scrolls away from it.
 *
 * With `onSelect` it is a listbox: arrows and clicks choose a row. Without, it is a list, and rows may hold buttons.
 *
 * @module
 */

/** Rows above and below those in view, so that scrolling doesn't show gaps. */
const MARGIN = 6;
const PAGE_OVERLAP = 1;

let serial = 0;

export class RowList {
  #element;
  #canvas;
  #rows = [];
  #first = 0;
  #options;
  #id = `rows-${++serial}`;
  /** The elements in the document, by what their row is known by. */
  #shown = new Map();
  #stale = false;
  #frame = null;
  #following;
  #selected = null;
  #empty;

  /**
   * @param {HTMLElement} element An empty element, whose height the style sheet says.
   * @param {object} options
   * @param {string} options.label What the list is, for those who can't see it.
   * @param {number | (() => number)} options.height Height of a row, in pixels. If it is a function, `refresh` asks anew.
   * @param {(row: any, element: HTMLElement) => void} options.render Fills a row's element, which may be filled already.
   * @param {boolean} [options.follow] Whether to stay at the end as rows are added; no.
   * @param {number} [options.limit] How many rows are kept, the newest; 10,000.
   * @param {(row: any) => unknown} [options.key] What a row is known by when `replace` moves it; its place, if left out.
   * @param {(row: any) => void} [options.onSelect] Called when a row is chosen.
   * @param {string} [options.empty] What to say when there is no row.
   */
  constructor(element, options) {
    const { label, height, render, follow = false, limit = 10_000, key = null, onSelect = null, empty = "" } = options;
    this.#element = element;
    const heightNow = typeof height === "function" ? height : () => height;
    this.#options = { heightNow, height: heightNow(), render, follow, limit, key, onSelect };
    this.#following = follow;
    element.classList.add("rows");
    element.tabIndex = 0;
    element.setAttribute("aria-label", label);
    element.setAttribute("role", onSelect ? "listbox" : "list");
    this.#canvas = document.createElement("div");
    this.#canvas.className = "rows-canvas";
    this.#canvas.setAttribute("role", "presentation");
    this.#empty = document.createElement("p");
    this.#empty.className = "rows-empty";
    this.#empty.textContent = empty;
    element.append(this.#canvas);
    element.before(this.#empty);
    element.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    element.addEventListener("keydown", (event) => this.#key(event));
    if (onSelect) element.addEventListener("click", (event) => this.#click(event));
    new ResizeObserver(() => this.#schedule()).observe(element);
    this.#schedule();
  }

  /** How many rows there are. */
  get length() {
    return this.#rows.length;
  }

  /** The rows; don't change it. */
  get rows() {
    return this.#rows;
  }

  /** How many rows were dropped at the beginning, since there were too many. */
  get dropped() {
    return this.#first;
  }

  /** The row that was chosen last, if it is still there. */
  get selected() {
    return this.#selected === null ? null : this.#rows[this.#selected - this.#first] ?? null;
  }

  /** Add rows at the end. */
  push(...rows) {
    for (const row of rows) this.#rows.push(row);
    const surplus = this.#rows.length - this.#options.limit;
    // Not one by one: to drop the first of many costs as much as to drop many.
    if (surplus > Math.min(1000, this.#options.limit / 10)) this.#drop(surplus);
    this.#schedule();
  }

  /** Have other rows. The place in the list stays, as far as there are rows. */
  replace(rows) {
    this.#rows = rows.slice(-this.#options.limit);
    this.#first = 0;
    if (this.#selected !== null && this.#selected >= this.#rows.length) this.#selected = null;
    this.refresh();
  }

  /** Have no rows. */
  clear() {
    this.#selected = null;
    this.#following = this.#options.follow;
    this.replace([]);
  }

  /** Render the rows in view once more: something in them has changed. */
  refresh() {
    this.#options.height = this.#options.heightNow();
    this.#stale = true;
    this.#schedule();
  }

  /** Choose a row by its index, and bring it into view. */
  select(index) {
    if (this.#rows.length === 0) return;
    const within = Math.max(0, Math.min(index, this.#rows.length - 1));
    this.#selected = this.#first + within;
    this.#reveal(within);
    this.refresh();
    this.#options.onSelect?.(this.#rows[within]);
  }

  /** Bring the end into view, and stay there if the list follows. */
  scrollToEnd() {
    this.#following = this.#options.follow;
    this.#sizeCanvas();
    this.#element.scrollTop = this.#element.scrollHeight;
    this.#schedule();
  }

  #drop(count) {
    this.#rows.splice(0, count);
    this.#first += count;
    if (this.#selected !== null && this.#selected < this.#first) this.#selected = null;
    // What the reader looks at stays where it is.
    if (!this.#following) this.#element.scrollTop -= count * this.#options.height;
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#element;
    this.#following = this.#options.follow && scrollHeight - clientHeight - scrollTop < this.#options.height;
    this.#schedule();
  }

  #schedule() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      this.#draw();
    });
  }

  #sizeCanvas() {
    this.#canvas.style.height = `${this.#rows.length * this.#options.height}px`;
  }

  #draw() {
    const { height, render } = this.#options;
    this.#sizeCanvas();
    this.#empty.hidden = this.#rows.length > 0 || this.#empty.textContent === "";
    this.#element.hidden = !this.#empty.hidden;
    if (this.#following) this.#element.scrollTop = this.#element.scrollHeight;
    const { scrollTop, clientHeight } = this.#element;
    const from = Math.max(0, Math.floor(scrollTop / height) - MARGIN);
    const to = Math.min(this.#rows.length, Math.ceil((scrollTop + clientHeight) / height) + MARGIN);
    const wanted = new Map();
    for (let index = from; index < to; index++) wanted.set(this.#keyOf(index), index);
    for (const [key, element] of this.#shown) {
      if (wanted.has(key)) continue;
      // Whoever works in a row is not to lose it by scrolling.
      const index = element.contains(document.activeElement) ? this.#find(key) : -1;
      if (index >= 0) {
        wanted.set(key, index);
      } else {
        element.remove();
        this.#shown.delete(key);
      }
    }
    let previous = null;
    for (const [key, index] of [...wanted].sort(([, one], [, other]) => one - other)) {
      let element = this.#shown.get(key);
      if (element === undefined) {
        element = this.#make(key);
        render(this.#rows[index], element);
      } else if (this.#stale) {
        render(this.#rows[index], element);
      }
      this.#place(element, index, previous);
      previous = element;
    }
    this.#stale = false;
    this.#showSelection();
  }

  #keyOf(index) {
    return this.#options.key === null ? this.#first + index : this.#options.key(this.#rows[index]);
  }

  #find(key) {
    if (this.#options.key !== null) return this.#rows.findIndex((row) => this.#options.key(row) === key);
    const index = key - this.#first;
    return index < this.#rows.length ? index : -1;
  }

  #make(key) {
    const element = document.createElement("div");
    element.className = "row";
    element.setAttribute("role", this.#options.onSelect ? "option" : "listitem");
    this.#shown.set(key, element);
    return element;
  }

  #place(element, index, previous) {
    const { height } = this.#options;
    element.id = `${this.#id}-${this.#first + index}`;
    element.dataset.index = this.#first + index;
    element.style.height = `${height}px`;
    element.style.transform = `translateY(${index * height}px)`;
    element.setAttribute("aria-posinset", index + 1);
    element.setAttribute("aria-setsize", this.#rows.length);
    // In the order of the rows, for those who go from one to the next.
    const next = previous === null ? this.#canvas.firstChild : previous.nextSibling;
    if (next !== element) this.#canvas.insertBefore(element, next);
  }

  #showSelection() {
    if (!this.#options.onSelect) return;
    let active = null;
    for (const element of this.#shown.values()) {
      const chosen = this.#selected !== null && Number(element.dataset.index) === this.#selected;
      element.setAttribute("aria-selected", String(chosen));
      if (chosen) active = element.id;
    }
    if (active === null) this.#element.removeAttribute("aria-activedescendant");
    else this.#element.setAttribute("aria-activedescendant", active);
  }

  #reveal(index) {
    const { height } = this.#options;
    const top = index * height;
    const { scrollTop, clientHeight } = this.#element;
    if (top < scrollTop) this.#element.scrollTop = top;
    else if (top + height > scrollTop + clientHeight) this.#element.scrollTop = top + height - clientHeight;
    this.#following = this.#options.follow && index === this.#rows.length - 1;
  }

  #click(event) {
    const row = event.target.closest(".row");
    if (row !== null) this.select(Number(row.dataset.index) - this.#first);
  }

  #key(event) {
    if (event.target !== this.#element || event.altKey || event.ctrlKey || event.metaKey) return;
    const page = Math.max(1, Math.floor(this.#element.clientHeight / this.#options.height) - PAGE_OVERLAP);
    const last = this.#rows.length - 1;
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    const step = steps[event.key];
    if (step === undefined || last < 0) return;
    event.preventDefault();
    if (this.#options.onSelect) {
      const current = this.#selected === null ? null : this.#selected - this.#first;
      // The first key goes to what is in view.
      const from = Math.floor(this.#element.scrollTop / this.#options.height);
      this.select(current === null && Number.isFinite(step) ? from : (current ?? 0) + step);
    } else if (step === Infinity) {
      this.scrollToEnd();
    } else {
      this.#element.scrollTop = step === -Infinity ? 0 : this.#element.scrollTop + step * this.#options.height;
    }
  }
}
