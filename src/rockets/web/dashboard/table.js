// A long table of which only the visible rows exist.

import { element, setText } from "./dom.js";

const ROW_PX = 34;
const MORE_ROWS = 6; // above and below what is visible, so that scrolling finds them drawn

/**
 * @typedef {object} Column
 * @property {string} name the key of the API that it sorts by
 * @property {string} title
 * @property {boolean} [wide] left out where there is no room
 * @property {boolean} [numeric]
 * @property {(item: object) => string} text
 * @property {(item: object) => string} [href] makes the text a link
 * @property {(item: object) => string} [state] a word for the style sheet
 */

export class Table {
  #columns;
  #items = [];
  #rows = new Map(); // by key: what is drawn
  #above = element("tr", { "aria-hidden": "true" });
  #below = element("tr", { "aria-hidden": "true" });
  #body = element("tbody");
  #table;
  #heads = new Map();
  #due = false;

  /** @param {Column[]} columns */
  constructor(columns, { label, key, sort }) {
    this.#columns = columns;
    this.key = key;
    const heads = columns.map((column) => this.#head(column, sort));
    this.#table = element(
      "table",
      { "aria-label": label },
      element("thead", {}, element("tr", { "aria-rowindex": 1 }, ...heads)),
      this.#body,
    );
    this.element = element(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": `${label}, scrolls`, onscroll: () => this.#draw() },
      this.#table,
    );
    new ResizeObserver(() => this.#draw()).observe(this.element);
  }

  #head(column, sort) {
    const button = element("button", { type: "button", onclick: () => sort(column.name) }, column.title);
    const head = element("th", { scope: "col", class: classes(column) }, button);
    this.#heads.set(column.name, head);
    return head;
  }

  /** Show these items, sorted by these keys. */
  show(items, sort) {
    this.#items = items;
    for (const [name, head] of this.#heads) {
      const key = sort[0].name === name ? sort[0] : null;
      if (key === null) head.removeAttribute("aria-sort");
      else head.setAttribute("aria-sort", key.descending ? "descending" : "ascending");
    }
    this.#table.setAttribute("aria-rowcount", items.length + 1);
    this.#draw();
  }

  #draw() {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => {
      this.#due = false;
      this.#drawNow();
    });
  }

  #drawNow() {
    const { scrollTop, clientHeight } = this.element;
    const first = Math.max(0, Math.floor(scrollTop / ROW_PX) - MORE_ROWS);
    const end = Math.min(this.#items.length, Math.ceil((scrollTop + clientHeight) / ROW_PX) + MORE_ROWS);
    const focused = document.activeElement;
    const visible = new Map();
    const spare = new Map(this.#rows);
    for (let index = first; index < end; index += 1) {
      const key = this.key(this.#items[index]);
      visible.set(key, spare.get(key) ?? null);
      spare.delete(key);
    }
    const free = [...spare.values()];
    const order = [this.#above];
    let index = first;
    for (const [key, row] of visible) {
      const drawn = row ?? free.pop() ?? this.#row();
      visible.set(key, drawn);
      this.#fill(drawn, this.#items[index], index);
      order.push(drawn.element);
      index += 1;
    }
    this.#rows = visible;
    this.#above.style.height = `${first * ROW_PX}px`;
    this.#below.style.height = `${(this.#items.length - end) * ROW_PX}px`;
    order.push(this.#below);
    place(this.#body, order);
    // A row that moves loses the focus.
    if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
  }

  #row() {
    const cells = this.#columns.map((column) => {
      const inner = column.href ? element("a") : document.createElement("span");
      return { inner, cell: element("td", { class: classes(column) }, inner) };
    });
    return { cells, element: element("tr", {}, ...cells.map(({ cell }) => cell)) };
  }

  #fill(row, item, index) {
    row.element.setAttribute("aria-rowindex", index + 2);
    this.#columns.forEach((column, at) => {
      const { inner } = row.cells[at];
      setText(inner, column.text(item));
      if (column.href) inner.setAttribute("href", column.href(item));
      if (column.state) inner.dataset.state = column.state(item);
    });
  }
}

function classes(column) {
  return [`column-${column.name}`, column.wide && "wide", column.numeric && "numeric"].filter(Boolean).join(" ");
}

/** Make these the children, moving as few as possible. */
function place(parent, order) {
  let at = parent.firstChild;
  for (const child of order) {
    if (child === at) at = at.nextSibling;
    else parent.insertBefore(child, at);
  }
  while (at !== null) {
    const rest = at.nextSibling;
    at.remove();
    at = rest;
  }
}
