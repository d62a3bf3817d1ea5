// State of the page: the objects, kept current, and the shown selection of them.
import { $, el, button, get, fromNow, measured } from "./tools.js";
import { startTable, setColumns, setRows, focusFirst, focusChosen, tickTable, overdue, needsYou, look, word } from "./table.js";
import { startDetail, openDetail, refreshDetail } from "./detail.js";
import { startCreate, create } from "./create.js";

const EVENTS = 1000; // so many of the newest are kept
const objects = new Map(); // by key
const denied = new Map(), trouble = new Map(); // by kind, a sentence
const state = { about: {}, tab: "Tokens", chosen: null, namespace: "" };

const identityOf = (row) => row.spec?.identityRef?.name ?? (row.spec?.teamsUser ? "Teams user " + row.spec.teamsUser.userId : "");
const scopesOf = (row) => (row.status?.scopes ?? row.spec?.scopes ?? []).join(", ");
const place = (row) => row.namespace ?? "cluster";
const standing = { head: "State", look: "w-state", text: (row, now) => [word(row, now), row.state === "Ready" ? row.reason : [row.reason, row.message].filter(Boolean).join(": "), look(row, now)] };
const tabs = {
  Tokens: { one: "token", kinds: ["AcsToken"], columns: [
    { head: "Token, identity", look: "w-name", text: (row) => [row.name, `${place(row)} / ${identityOf(row)}`] },
    { ...standing, look: "w-state wide" },
    { head: "Expires, scopes", look: "w-time wide", text: (row, now) => [row.status?.expiresAt ? fromNow(row.status.expiresAt, now) : "-", scopesOf(row)] },
    { head: "Issued, renewal due, expires", look: "w-line", line: true }] },
  Identities: { one: "identity", kinds: ["AcsIdentity"], columns: [
    { head: "Identity", look: "", text: (row) => [row.name, place(row)] }, standing,
    { head: "Tokens", look: "w-time", text: (row) => [tokensOf(row).length, ""] },
    { head: "Id in ACS", look: "wide", text: (row) => [row.status?.identityId ?? row.spec?.identityId ?? "-", row.status?.origin ?? ""] }] },
  Connections: { one: "connection", kinds: ["AcsConnection", "ClusterAcsConnection"], columns: [
    { head: "Connection", look: "", text: (row) => [row.name, place(row)] }, standing,
    { head: "Identities, tokens", look: "w-time wide", text: (row) => [`${row.status?.identities ?? 0}, ${row.status?.tokens ?? 0}`, ""] },
    { head: "Endpoint, key roll", look: "", text: (row) => [row.status?.endpoint ?? row.spec?.endpoint ?? "-", roll(row)] }] },
  Revocations: { one: "revocation", kinds: ["AcsRevocation", "ClusterAcsRevocation"], columns: [
    { head: "Revocation", look: "", text: (row) => [row.name, place(row)] }, standing,
    { head: "Revoked", look: "w-time", text: (row) => [row.status?.total === undefined ? "-" : `${row.status.revoked ?? 0} of ${row.status.total}`, ""] },
    { head: "Completed, reason", look: "wide", text: (row, now) => [row.status?.completedAt ? fromNow(row.status.completedAt, now) : "-", row.spec?.reason] }] },
  Events: { one: "Event", kinds: ["Event"], columns: [
    { head: "Object", look: "", text: (row) => [row.about.name, row.about.kind] },
    { head: "Reason", look: "w-state", text: (row, now) => [row.reason, fromNow(row.last, now), look(row, now)] },
    { head: "Message", look: "w-line", text: (row) => [row.message, row.count > 1 ? `${row.count} times` : ""] }] },
};
const tokensOf = (identity) => of("AcsToken").filter((row) => row.namespace === identity.namespace && row.spec?.identityRef?.name === identity.name);
const roll = (row) => {
  const left = row.status?.formerTokens?.left;
  return left ? `${left} tokens of the former credential remain` : "";
};
// Whether to show a revocation: a cluster-scoped one only if it has a target in the namespace.
const concerns = (row) => row.kind !== "ClusterAcsRevocation" || !state.namespace || row.status?.targets?.some((target) => target.namespace === state.namespace);
const of = (...kinds) => [...objects.values()].filter((row) => kinds.includes(row.kind));

// View state.
let isStale = false, attention = -1;
const stale = () => {
  if (isStale) return;
  isStale = true;
  requestAnimationFrame(() => { isStale = false; refresh(); });
};
const matches = (row, words, wanted, now) =>
  words.every((part) => row.text.includes(part)) &&
  (!wanted || row.kind === "Event" || (wanted === "attention" ? needsYou(row, now) : row.state === wanted));
const order = (now) => (a, b) => {
  if (a.kind === "Event") return a.last < b.last ? 1 : a.last > b.last ? -1 : 0;
  const [first, second] = [needsYou(a, now), needsYou(b, now)];
  if (first !== second) return first ? -1 : 1;
  return a.key < b.key ? -1 : a.key > b.key ? 1 : 0;
};
const refresh = () => {
  const start = performance.now(), now = Date.now(), { kinds } = tabs[state.tab];
  const all = of(...kinds).filter(concerns);
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = all.filter((row) => matches(row, words, $("state").value, now)).sort(order(now));
  setRows(rows, state.chosen, Number($("window").value));
  const why = kinds.map((kind) => denied.get(kind) ?? trouble.get(kind)).filter(Boolean);
  $("denied").hidden = !why.length;
  $("denied").classList.toggle("soft", why.length < kinds.length);
  $("denied").textContent = why.join("; ");
  $("empty").hidden = rows.length > 0;
  $("empty").textContent = all.length ? "No object matches the search and the state."
    : `There are no ${state.tab.toLowerCase()} ${state.namespace ? "in namespace " + state.namespace : "in any namespace"}.`;
  summarise(all, rows, now);
  for (const tab of $("tabs").children) {
    const name = tab.dataset.tab, mine = tabs[name].kinds;
    tab.textContent = `${name} ${of(...mine).length}`;
    tab.classList.toggle("denied", mine.every((kind) => denied.has(kind)));
    tab.title = mine.map((kind) => denied.get(kind)).filter(Boolean).join("; ");
    tab.setAttribute("aria-current", String(name === state.tab));
  }
  refreshDetail();
  measured("refresh", start);
};
const summarise = (all, rows, now) => {
  const late = all.filter((row) => overdue(row, now)).length, stuck = all.filter((row) => row.state === "Stalled").length;
  const alarm = [late && `${late} ${late === 1 ? "renewal is" : "renewals are"} overdue`, stuck && `${stuck} ${stuck === 1 ? "needs" : "need"} action`].filter(Boolean).join(", ");
  const named = all.length === 1 ? tabs[state.tab].one : state.tab.toLowerCase();
  const text = rows.length === all.length ? `${all.length} ${named}` : `${rows.length} of ${all.length} ${named}`;
  if ($("summary").dataset.shown === text + alarm) return;
  $("summary").dataset.shown = text + alarm;
  const show = button(alarm, "plain", () => { $("state").value = "attention"; stale(); });
  $("summary").replaceChildren(text, ...(alarm ? [": ", show] : []));
};
const openTab = (name) => {
  state.tab = name;
  setColumns(tabs[name].columns);
  for (const id of ["window-field", "legend"]) $(id).hidden = name !== "Tokens";
  stale();
};
const choose = (key) => {
  const row = objects.get(key);
  if (row?.kind === "Event") return choose(`${row.about.kind}/${row.about.namespace ?? ""}/${row.about.name}`);
  state.chosen = key; // it may be on its way
  openDetail(state.chosen);
  document.querySelector("#detail h2")?.focus();
  stale();
};

// Stream of changes.
let stream = null, generation = 0;
const apply = (message) => {
  const begun = new Set(message.begin);
  if (begun.size) generation += 1;
  for (const kind of begun) { starts.set(kind, generation); denied.delete(kind); trouble.delete(kind); }
  for (const row of message.rows) {
    row.generation = generation;
    row.text = JSON.stringify([row.kind, row.namespace, row.name, row.word, row.reason, row.message, row.labels, row.about, row.status?.identityId,
      row.status?.secretName, row.status?.endpoint, scopesOf(row), identityOf(row)]).toLowerCase();
    objects.set(row.key, row);
    trouble.delete(row.kind);
  }
  for (const key of message.gone) objects.delete(key);
  for (const kind of message.done) {
    trouble.delete(kind);
    for (const row of of(kind)) if (row.generation < starts.get(kind)) objects.delete(row.key);
  }
  for (const [kind, why] of Object.entries(message.denied)) {
    denied.set(kind, why);
    for (const row of of(kind)) objects.delete(row.key);
  }
  for (const [kind, why] of Object.entries(message.trouble)) trouble.set(kind, why);
  if (message.rows.some((row) => row.kind === "Event")) {
    for (const row of of("Event").sort(order(0)).slice(EVENTS)) objects.delete(row.key);
  }
  stale();
};
const starts = new Map(); // the generation with which the list of a kind began
const link = (text, style) => { $("link").textContent = text; $("link").className = "pill " + style; };
const listen = () => {
  stream?.close();
  stream = new EventSource("/api/live?" + new URLSearchParams({ namespace: state.namespace }));
  stream.onopen = () => link("live", "good");
  stream.onmessage = (event) => apply(JSON.parse(event.data));
  stream.onerror = () => link("no connection: check that kubectl acs console is still running", "bad");
};
const goTo = (namespace) => {
  state.namespace = namespace;
  $("namespace").value = namespace;
  objects.clear();
  denied.clear();
  choose(null);
  listen();
};
// A hidden page closes its stream, so that the console exits when no page is visible for a while.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) { stream?.close(); stream = null; link("paused", "warn"); } else if (state.about.server) listen();
});

const page = { objects, of, tokensOf, state, choose, openTab };
startTable(choose);
startDetail(page);
startCreate(page);

for (const name of Object.keys(tabs)) {
  const tab = button(name, "", () => openTab(name));
  tab.dataset.tab = name;
  $("tabs").append(tab);
}
$("search").addEventListener("input", stale);
for (const id of ["state", "window"]) $(id).addEventListener("change", stale);
$("new").addEventListener("click", () => create());
$("namespace").addEventListener("change", () => {
  const wanted = $("namespace").value.trim(), why = state.about.missingForAll;
  $("notice").hidden = Boolean(wanted) || !why;
  if (wanted || !why) return goTo(wanted);
  $("notice").textContent = `You are not allowed to see all namespaces. Missing permission: ${why}.`;
  $("namespace").value = state.namespace;
});
$("search").addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown") { event.preventDefault(); focusFirst(); }
});
document.addEventListener("keydown", (event) => {
  const isTyping = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) || document.querySelector("dialog[open]");
  if (event.key === "Escape" && !document.querySelector("dialog[open]") && state.chosen) { focusChosen(); choose(null); }
  if (event.key === "/" && !isTyping) { event.preventDefault(); $("search").focus(); }
});
setInterval(() => {
  const now = Date.now(), count = of("AcsToken").filter((row) => needsYou(row, now)).length;
  if (count !== attention) { attention = count; stale(); } else tickTable();
  refreshDetail();
}, 1000);

const begin = async () => {
  try {
    state.about = await get("/api/about");
  } catch (error) {
    $("notice").textContent = error.message;
    $("notice").hidden = false;
    return;
  }
  const { server, user, namespace, namespaces, missingForAll } = state.about;
  $("server").textContent = server;
  $("user").textContent = user ?? "an unknown user";
  $("namespace").placeholder = missingForAll ? "a namespace" : "all namespaces";
  $("namespaces").replaceChildren(...namespaces.map((name) => el("option", "", name)));
  goTo(namespace);
};
openTab("Tokens");
begin();
