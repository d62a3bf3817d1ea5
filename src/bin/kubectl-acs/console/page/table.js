// Table of thousands of rows, of which only the visible ones are elements.
import { $, el, length, fromNow, measured } from "./tools.js";

// Time after which a due renewal is overdue, as in the metric, in ms.
const GRACE = 60000;
const EXTRA = 8; // rows above and below the visible ones
const DAY = 86400000;

export const overdue = (row, now) => {
  const due = Date.parse(row.status?.renewAt ?? "");
  return row.kind === "AcsToken" && row.state !== "Suspended" && row.state !== "Deleting" && now - due > GRACE ? now - due : 0;
};
export const needsYou = (row, now) => row.state === "Stalled" || row.state === "Missing" || overdue(row, now) > 0;
export const lookOf = (row) => {
  if (row.kind === "Event") return row.type === "Warning" ? "warn" : "soft";
  return { Ready: "good", Deleting: "soft", Stalled: "bad", Missing: "bad" }[row.state] ?? "warn";
};
export const look = (row, now) => (overdue(row, now) ? "bad" : lookOf(row));
export const word = (row, now) => {
  const late = overdue(row, now);
  return late ? `${row.word}, renewal overdue` : row.word;
};

// issued ----- renewal due ----- expires, and now; one scale for all rows.
export const newLine = () => {
  const part = (name) => el("span", name);
  const line = el("div", "line", part("life"), part("over"), part("late"), part("renew"), part("now"), part("label"));
  line.setAttribute("role", "img");
  return line;
};
export const drawLine = (line, row, now, [from, to]) => {
  const { issuedAt, renewAt, expiresAt } = row.status ?? {};
  const at = (time) => Math.min(100, Math.max(0, 100 * (time - from) / (to - from)));
  const [life, over, late, renew, nowMark, label] = line.children;
  const span = (part, start, end) => {
    part.hidden = !(end > start) || end < from || start > to;
    if (part.hidden) return;
    part.style.left = at(start) + "%";
    part.style.width = at(end) - at(start) + "%";
  };
  const [issued, due, ends] = [issuedAt, renewAt, expiresAt].map((time) => Date.parse(time ?? ""));
  span(life, issued, ends);
  span(over, issued, ends <= now ? ends : NaN);
  span(late, due, overdue(row, now) ? now : NaN);
  renew.hidden = !(due >= from && due <= to);
  renew.style.left = at(due) + "%";
  nowMark.style.left = at(now) + "%";
  const lateness = overdue(row, now);
  label.textContent = lateness ? `overdue ${length(lateness)}` : row.state === "Ready" ? "" : row.word;
  label.className = "label " + look(row, now);
  line.classList.toggle("overdue", lateness > 0);
  line.classList.toggle("paused", row.state === "Suspended");
  line.setAttribute("aria-label", lineText(row, now));
};
export const lineText = (row, now) => {
  const { issuedAt, renewAt, expiresAt } = row.status ?? {};
  if (!issuedAt || !expiresAt) return "no token yet";
  const late = overdue(row, now);
  const due = !renewAt ? null : late ? `renewal overdue by ${length(late)}` : `renewal due ${fromNow(renewAt, now)}`;
  const end = Date.parse(expiresAt) <= now ? "expired" : "expires";
  return [`issued ${fromNow(issuedAt, now)}`, due, `${end} ${fromNow(expiresAt, now)}`].filter(Boolean).join(", ");
};
// Returns the time window that contains the lifetimes of all rows, or this many hours before and after now.
export const windowOf = (rows, now, hours) => {
  if (hours) return [now - hours * 3600000, now + hours * 3600000];
  let [from, to] = [now, now];
  for (const { status } of rows) {
    if (!status?.issuedAt || !status.expiresAt) continue;
    from = Math.min(from, Date.parse(status.issuedAt));
    to = Math.max(to, Date.parse(status.expiresAt));
  }
  const margin = Math.max(60000, (to - from) / 40);
  return [Math.max(from - margin, now - 2 * DAY), Math.min(to + margin, now + 2 * DAY)];
};

// Table of the page.
const scroll = $("scroll"), body = $("rows"), table = $("table");
const above = el("tr", "space", el("td")), below = el("tr", "space", el("td"));
for (const space of [above, below]) space.setAttribute("aria-hidden", "true");
const made = new Map(); // the elements of visible rows, by key
let choose = null; // called with the key of a row that a person chose
let columns = [], rows = [], chosen = null, hours = 0, height = 46, scale = [0, 1];

const newRow = (row) => {
  const tr = el("tr", "row");
  tr.dataset.key = row.key;
  for (const [number, column] of columns.entries()) {
    const td = el("td", column.look);
    if (column.line) td.append(newLine());
    else td.append(number === 0 ? el("div", "", el("button", "plain")) : el("div"), el("div", "soft"));
    tr.append(td);
  }
  return tr;
};
const fill = (tr, row, now) => {
  tr.classList.toggle("chosen", row.key === chosen);
  for (const [number, column] of columns.entries()) {
    const td = tr.children[number];
    if (column.line) { drawLine(td.firstChild, row, now, scale); continue; }
    const [first, second, style] = column.text(row, now);
    const target = number === 0 ? td.firstChild.firstChild : td.firstChild;
    for (const [part, text] of [[target, first], [td.lastChild, second]]) {
      const wanted = text === undefined || text === null ? "" : String(text);
      if (part.textContent !== wanted) { part.textContent = wanted; part.title = wanted; }
    }
    if (number > 0) td.firstChild.className = style ?? "";
  }
  tr.firstChild.querySelector("button").setAttribute("aria-pressed", String(row.key === chosen));
};
const draw = () => {
  const start = performance.now(), now = Date.now();
  const first = Math.max(0, Math.floor(scroll.scrollTop / height) - EXTRA);
  const last = Math.min(rows.length, Math.ceil((scroll.scrollTop + scroll.clientHeight) / height) + EXTRA);
  const visible = rows.slice(first, last);
  const kept = new Set(visible.map((row) => row.key));
  for (const [key, tr] of made) if (!kept.has(key)) { tr.remove(); made.delete(key); }
  if (above.parentNode !== body) body.replaceChildren(above, below);
  above.firstChild.style.height = first * height + "px";
  below.firstChild.style.height = (rows.length - last) * height + "px";
  let before = above;
  for (const [number, row] of visible.entries()) {
    let tr = made.get(row.key);
    if (!tr) made.set(row.key, tr = newRow(row));
    fill(tr, row, now);
    tr.setAttribute("aria-rowindex", first + number + 2);
    // A row that is in its place is not moved: it may have the focus.
    if (before.nextSibling !== tr) before.after(tr);
    before = tr;
  }
  table.setAttribute("aria-rowcount", rows.length + 1);
  measured("draw", start);
};
let isAsked = false;
const ask = () => {
  if (isAsked) return;
  isAsked = true;
  requestAnimationFrame(() => { isAsked = false; draw(); });
};
const measure = () => {
  height = parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--row")) || 46;
  ask();
};
const goTo = (position) => {
  const index = Math.min(rows.length - 1, Math.max(0, position));
  if (index < 0) return;
  const top = index * height, head = table.tHead.offsetHeight;
  if (top < scroll.scrollTop) scroll.scrollTop = top;
  else if (top + height + head > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = top + height + head - scroll.clientHeight;
  draw();
  made.get(rows[index].key)?.querySelector("button").focus({ preventScroll: true });
};
scroll.addEventListener("scroll", ask, { passive: true });
new ResizeObserver(measure).observe(scroll);
body.addEventListener("click", (event) => {
  const tr = event.target.closest("tr.row");
  if (tr) choose(tr.dataset.key);
});
scroll.addEventListener("keydown", (event) => {
  const here = event.target.closest("tr.row");
  const position = here ? rows.findIndex((row) => row.key === here.dataset.key) : -1;
  const page = Math.max(1, Math.floor(scroll.clientHeight / height) - 1);
  const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -rows.length, End: rows.length }[event.key];
  if (step === undefined) return;
  event.preventDefault();
  goTo(position + step);
});
export const startTable = (onChoice) => { choose = onChoice; };
export const setColumns = (next) => {
  columns = next;
  made.clear();
  body.replaceChildren();
  $("heads").replaceChildren(...columns.map((column) => {
    const th = el("th", column.look, column.head);
    th.scope = "col";
    return th;
  }));
  scroll.scrollTop = 0;
};
export const setRows = (next, key, inHours) => {
  [rows, chosen, hours] = [next, key, inHours];
  tickTable();
};
export const focusFirst = () => goTo(0);
export const focusChosen = () => goTo(rows.findIndex((row) => row.key === chosen));
// Updates the table to the current time.
export const tickTable = () => {
  scale = windowOf(rows, Date.now(), hours);
  ask();
};
