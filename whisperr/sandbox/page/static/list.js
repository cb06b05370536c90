// The list of events: one page of the server's, grown at the top by what arrives.
import { $, announce, el, stateName, timeOf } from "./dom.js";

const LIMIT = 400; // rows; the oldest leave when more arrive

/** The name under which a row is opened. */
const nameOf = (row) => row.type || (row.kind === "identity" ? "identify" : "(request)");

export class List {
  /** open(seq): show a row. laneName(number): what its process is called. */
  constructor(open, laneName) {
    this.open = open;
    this.laneName = laneName;
    this.body = $("rows");
    this.next = null;
    this.held = 0;
    this.heldMore = false; // more than was sent
    // At the press, not at the click: in a stream the row may have moved before the release.
    let pressed = false;
    this.body.addEventListener("pointerdown", (event) => {
      pressed = event.pointerType === "mouse" && event.button === 0;
      if (pressed) this.openAt(event);
    });
    this.body.addEventListener("click", (event) => {
      if (!pressed) this.openAt(event);
      pressed = false;
    });
    this.body.addEventListener("keydown", (event) => this.move(event));
  }

  /** The first page. */
  show({ rows, next }) {
    this.body.replaceChildren(...rows.map((row) => this.make(row)));
    this.setNext(next);
    this.held = 0;
    this.hold(0, false);
    this.makeReachable();
  }

  /** The page that follows. */
  append({ rows, next }) {
    const first = rows.length ? this.make(rows[0]) : null;
    if (first) this.body.append(first, ...rows.slice(1).map((row) => this.make(row)));
    this.setNext(next);
    this.makeReachable();
    if (first) this.focus(first);
  }

  /** What has arrived since. Nothing moves under someone who is in the list. */
  arrive(rows, skipped) {
    if (!rows.length) return;
    announce(`${rows.length}${skipped ? " and more" : ""} new events`);
    if (this.body.contains(document.activeElement)) {
      this.hold(rows.length, skipped);
      return;
    }
    const fresh = rows.map((row) => this.make(row));
    if (skipped) {
      this.body.replaceChildren(...fresh);
      this.setNext(rows[rows.length - 1].seq);
    } else {
      for (const row of fresh) row.classList.add("fresh");
      this.body.prepend(...fresh);
      this.trim();
    }
    this.makeReachable();
  }

  /** Mark the row that is open. */
  select(seq) {
    for (const row of this.body.children) {
      if (row.dataset.seq === String(seq)) row.setAttribute("aria-selected", "true");
      else row.removeAttribute("aria-selected");
    }
  }

  /** Move the focus to a row that is in the list; false if it is not. */
  focusOn(seq) {
    const row = [...this.body.children].find((each) => each.dataset.seq === String(seq));
    if (row) this.focus(row);
    return Boolean(row);
  }

  /** Back into a list that was made anew. */
  focusFirst() {
    if (!this.isEmpty) this.focus(this.body.firstElementChild);
  }

  /** The number of its first row; 0 if it has none. */
  get newest() {
    return this.isEmpty ? 0 : Number(this.body.firstElementChild.dataset.seq);
  }

  renameLanes() {
    for (const row of this.body.children) {
      const name = this.laneName(Number(row.dataset.lane));
      const shown = row.cells[4].firstElementChild;
      if (shown.textContent !== name) shown.textContent = name;
    }
  }

  get isEmpty() {
    return !this.body.children.length;
  }

  // --- inside

  openAt(event) {
    const row = event.target.closest("tr");
    if (row) this.open(Number(row.dataset.seq));
  }

  make(row) {
    const title = nameOf(row);
    return el("tr", { "data-seq": row.seq, "data-lane": row.lane },
      el("td", {}, timeOf(row.time)),
      el("td", {}, el("span", { className: "state", "data-state": row.state }, stateName(row.state))),
      el("td", {}, el("button", { type: "button", tabindex: -1, title }, title)),
      el("td", { title: row.user }, row.user || ""),
      el("td", {}, el("span", {}, this.laneName(row.lane)),
        row.relay ? el("small", { title: `through relay ${row.relay}` }, `relay ${row.relay}`) : null),
      el("td", { title: row.reason }, row.reason || row.preview));
  }

  setNext(next) {
    this.next = next;
    $("older").hidden = next === null;
  }

  /** So many more wait to be shown, and perhaps others that were skipped. */
  hold(count, skipped) {
    this.heldMore = (this.held > 0 && this.heldMore) || skipped;
    this.held += count;
    $("show-new").hidden = this.held === 0;
    $("show-new").textContent = `Show ${this.held}${this.heldMore ? "+" : ""} new`;
  }

  trim() {
    while (this.body.children.length > LIMIT) this.body.lastElementChild.remove();
    if (this.body.children.length === LIMIT) this.setNext(Number(this.body.lastElementChild.dataset.seq));
  }

  /** One row at a time can be reached with Tab; the arrow keys go on from there. */
  makeReachable() {
    const buttons = [...this.body.querySelectorAll("button")];
    const current = buttons.find((button) => button.tabIndex === 0);
    if (!current && buttons.length) buttons[0].tabIndex = 0;
  }

  focus(row) {
    for (const button of this.body.querySelectorAll('button[tabindex="0"]')) button.tabIndex = -1;
    const button = row.querySelector("button");
    button.tabIndex = 0;
    button.focus();
    row.scrollIntoView({ block: "nearest" });
  }

  move(event) {
    const row = event.target.closest("tr");
    const rows = this.body;
    const to = {
      ArrowDown: row.nextElementSibling,
      ArrowUp: row.previousElementSibling,
      Home: rows.firstElementChild,
      End: rows.lastElementChild,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    if (to) this.focus(to);
  }
}
