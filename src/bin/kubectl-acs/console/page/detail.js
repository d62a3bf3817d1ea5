// Details of the selected object: its state and the reason, its actions, its Events and, on request, its token.
import { $, el, button, grey, isGrey, get, post, copy, fromNow, length, toast } from "./tools.js";
import { newLine, drawLine, lineText, windowOf, look, lookOf, overdue, word } from "./table.js";
import { act } from "./act.js";
import { create } from "./create.js";

const SHOWN_FOR = 30; // seconds, then a token is cleared from the page
const EVENTS = 20;

// Buttons of each kind: [text, verb, right, look].
const actions = (row) => {
  const isToken = row.kind === "AcsToken", suffix = isToken ? "Token" : "Identity";
  if (!isToken && row.kind !== "AcsIdentity") return [];
  return [
    isToken ? ["Renew", "renew", "renew"] : ["New token", "issue", "issue"],
    ["Revoke", "revoke", "revoke", "danger"],
    row.spec?.suspend ? ["Resume", "resume" + suffix, "suspend" + suffix] : ["Suspend", "suspend" + suffix, "suspend" + suffix],
    ["Delete", "delete" + suffix, "delete" + suffix, "danger"],
  ];
};

const panel = $("detail");
let parts = null; // the elements that are kept current
let secret = null; // ends the display of a token
// Functions and state of the rest of the page.
let objects, of, tokensOf, state, choose, openTab;
export const startDetail = (page) => { ({ objects, of, tokensOf, state, choose, openTab } = page); };

const hide = () => { secret?.(); secret = null; };
document.addEventListener("visibilitychange", () => document.hidden && hide());
window.addEventListener("pagehide", hide);

const facts = (row, now) => {
  const status = row.status ?? {}, spec = row.spec ?? {}, list = [];
  const fact = (name, value) => value !== undefined && value !== null && value !== "" && list.push([name, value]);
  const time = (name, value) => value && fact(name, `${value} (${fromNow(value, now)})`);
  fact("Identity", spec.identityRef && { text: spec.identityRef.name, key: `AcsIdentity/${row.namespace}/${spec.identityRef.name}` });
  fact("Teams user", spec.teamsUser?.userId);
  fact("Id in ACS", status.identityId ?? spec.identityId);
  fact("Scopes", (status.scopes ?? spec.scopes)?.join(", "));
  time("Issued", status.issuedAt);
  time("Renewal due", status.renewAt);
  time("Expires", status.expiresAt);
  fact("Requested lifetime", spec.expiresIn);
  fact("Secret", status.secretName ?? (row.kind === "AcsToken" ? spec.secret?.name ?? row.name : undefined));
  fact("Connection", status.connectionRef && {
    text: `${status.connectionRef.kind} ${status.connectionRef.name}`,
    key: `${status.connectionRef.kind}/${status.connectionRef.kind === "AcsConnection" ? row.namespace : ""}/${status.connectionRef.name}` });
  fact("Endpoint", status.endpoint ?? spec.endpoint);
  fact("Credential", status.credential);
  fact("Origin", status.origin);
  fact("Deletion policy", spec.deletionPolicy);
  time("Tokens valid after", status.tokensValidAfter);
  fact("Last revocation", status.lastRevocation && `${status.lastRevocation.reason}, ${fromNow(status.lastRevocation.time, now)}`);
  fact("Clock offset", status.clockOffset);
  fact("Identities", status.identities);
  fact("Tokens", status.tokens);
  fact("Reason", spec.reason);
  fact("Revoked", status.total === undefined ? undefined : `${status.revoked ?? 0} of ${status.total}`);
  time("Completed", status.completedAt);
  fact("Labels", Object.entries(row.labels ?? {}).map(([key, value]) => `${key}=${value}`).join(", "));
  fact("Managed by", row.keeper && `${row.keeper}: also make changes in git`);
  for (const target of status.targets ?? []) {
    const what = target.revokedAt ? `revoked ${fromNow(target.revokedAt, now)}` : target.note ?? "waiting";
    fact("Target", `${target.namespace ? target.namespace + "/" : ""}${target.name}: ${what}`);
  }
  return list;
};
const notes = (row, now) => {
  const status = row.status ?? {};
  const late = overdue(row, now);
  return [
    late && `The renewal is overdue by ${length(late)}. Check that the operator is running and that ACS answers it. Renew requests the renewal again.`,
    row.requestedAt && row.requestedAt !== status.lastHandledRequest && (row.kind === "AcsToken" ? "A new token is requested." : "A revocation of its tokens is requested."),
    status.pendingRevocation && "A revocation of its tokens is in progress.",
    status.refusedCredentials?.length && "ACS rejects a credential that it accepted before: tokens issued with it may no longer work.",
    status.unknownCreates && `${status.unknownCreates} identities may have been left behind in ACS.`,
    status.lastFailure && `${fromNow(status.lastFailure.time, now)} a call failed: ${status.lastFailure.reason}: ${status.lastFailure.message}`,
  ].filter(Boolean);
};
const factElements = (list) => list.flatMap(([name, value]) => [el("dt", "", name),
  el("dd", "", value.key ? button(value.text, "plain tint", () => choose(value.key)) : String(value))]);

const keyRoll = (row) => {
  const former = row.status?.formerTokens, safe = row.status?.conditions?.find((condition) => condition.type === "SafeToRegenerate");
  if (!safe && !former?.left) return [];
  const total = Math.max(row.status.tokens ?? 0, former?.left ?? 0), bar = el("progress");
  bar.max = Math.max(1, total);
  bar.value = total - (former?.left ?? 0);
  bar.setAttribute("aria-label", "Tokens issued with the current credential");
  return [el("h3", "", "Key roll"), bar,
    el("p", "", `${former?.left ?? 0} of ${total} tokens were issued with the former credential.`),
    safe && el("p", "why " + (safe.status === "True" ? "good" : "warn"), el("b", "", `${safe.reason}: `), el("span", "", safe.message))];
};
const eventElements = (row) => {
  const mine = of("Event").filter(({ about }) => about.kind === row.kind && about.name === row.name && (about.namespace ?? "") === (row.namespace ?? ""));
  mine.sort((a, b) => (a.last < b.last ? 1 : -1));
  const now = Date.now();
  const items = mine.slice(0, EVENTS).map((event) => el("li", "", el("b", event.type === "Warning" ? "warn" : "", event.reason), " ",
    el("span", "soft", fromNow(event.last, now) + (event.count > 1 ? `, ${event.count} times` : "")), el("br"), event.message));
  return items.length ? items : [el("li", "soft", "No recent Events.")];
};

const showToken = async (row, into) => {
  hide();
  let shown;
  try {
    shown = await post("/api/token", { namespace: row.namespace, token: row.name });
  } catch (error) {
    return toast(error.message, true);
  }
  if (state.chosen !== row.key) return;
  const output = el("code", "", shown.token), left = el("span", "soft");
  output.id = "secret";
  output.tabIndex = 0;
  output.setAttribute("aria-label", "The token");
  shown = null;
  let seconds = SHOWN_FOR;
  const count = () => { left.textContent = `cleared in ${seconds}s`; };
  const timer = setInterval(() => { seconds -= 1; if (seconds <= 0) hide(); else count(); }, 1000);
  secret = () => { clearInterval(timer); output.textContent = ""; into.replaceChildren(); };
  count();
  into.replaceChildren(output, el("div", "buttons", button("Copy token", "", () => copy(output.textContent, "the token")), button("Hide", "", hide), left));
  output.focus();
};

const buttons = (row, into, missing) => {
  const lacking = new Set();
  const made = actions(row).map(([text, verb, right, style]) => {
    const isTeams = row.spec?.teamsUser && verb === "revoke";
    const why = isTeams ? "ACS cannot revoke the token of a Teams user." : missing === null ? "Your permissions are being checked." : missing[right]?.length ? `Missing permissions: ${missing[right].join("; ")}` : null;
    if (missing) for (const one of missing[right] ?? []) lacking.add(one);
    const one = button(text + (["revoke", "deleteToken", "deleteIdentity"].includes(verb) ? "\u2026" : ""), style, () => {
      if (isGrey(one)) return toast(one.title, true);
      if (verb === "issue") return create(row);
      act(verb, row);
    });
    one.dataset.verb = verb;
    grey(one, why);
    return one;
  });
  if (row.kind === "AcsToken") {
    const show = button("Show token", "", () => (isGrey(show) ? toast(show.title, true) : showToken(row, parts.secret)));
    show.dataset.verb = "show";
    grey(show, missing === null ? "Your permissions are being checked." : missing.show?.length ? `Missing permissions: ${missing.show.join("; ")}` : null);
    if (missing) for (const one of missing.show ?? []) lacking.add(one);
    made.push(show);
  }
  // The descriptions of the buttons may arrive while one of them has the focus.
  const focused = into.querySelector(":focus")?.dataset.verb;
  into.replaceChildren(...made);
  if (focused) into.querySelector(`[data-verb="${focused}"]`)?.focus();
  parts.missing.hidden = !lacking.size;
  parts.missing.textContent = lacking.size ? `Missing permissions: ${[...lacking].join("; ")}.` : "";
};
const askRights = async (row) => {
  if (!actions(row).length) return;
  const isToken = row.kind === "AcsToken";
  const query = isToken ? { token: row.name, identity: row.spec?.identityRef?.name, secret: row.status?.secretName ?? row.spec?.secret?.name ?? row.name } : { identity: row.name };
  let missing;
  try {
    missing = await get("/api/rights", { namespace: row.namespace, ...query });
  } catch (error) {
    missing = {};
    toast(error.message, true);
  }
  if (state.chosen !== row.key || !parts) return;
  parts.rights = missing;
  buttons(objects.get(row.key) ?? row, parts.buttons, missing);
};

const once = (part, name, value, elements) => {
  const text = JSON.stringify(value);
  if (parts.shown[name] === text) return;
  parts.shown[name] = text;
  part.replaceChildren(...elements());
};
export const refreshDetail = () => {
  const row = objects.get(state.chosen);
  if (!parts) return row && openDetail(row.key);
  if (!row) { state.chosen = null; return openDetail(null); }
  const now = Date.now(), list = facts(row, now), told = notes(row, now);
  parts.pill.textContent = word(row, now);
  parts.pill.className = "pill " + look(row, now);
  const why = row.reason || row.message;
  parts.why.hidden = !why;
  parts.why.className = "why " + lookOf(row);
  once(parts.why, "why", [row.reason, row.message], () => [el("b", "", row.reason + (row.message ? ": " : "")), el("span", "", row.message)]);
  once(parts.notes, "notes", told, () => told.map((note) => el("p", "why warn", el("span", "", note))));
  once(parts.facts, "facts", list, () => factElements(list));
  once(parts.roll, "roll", [row.status?.formerTokens, row.status?.conditions, row.status?.tokens], () => keyRoll(row));
  once(parts.events, "events", of("Event").length + ":" + Math.floor(now / 10000) + row.uid, () => eventElements(row));
  if (parts.line) {
    drawLine(parts.line, row, now, windowOf([row], now, 0));
    parts.text.textContent = lineText(row, now);
  }
  if (parts.tokens) {
    const mine = tokensOf(row);
    once(parts.tokens, "tokens", mine.map((token) => [token.key, word(token, now)]), () => mine.map((token) =>
      el("li", "", button(token.name, "plain", () => { openTab("Tokens"); choose(token.key); }), " ", el("span", look(token, now), word(token, now)))));
  }
  if (parts.isSuspended !== Boolean(row.spec?.suspend)) {
    parts.isSuspended = Boolean(row.spec?.suspend);
    buttons(row, parts.buttons, parts.rights);
  }
};
export const openDetail = (key) => {
  hide();
  const row = objects.get(key);
  panel.hidden = !row;
  parts = null;
  if (!row) { panel.replaceChildren(); return; }
  const title = el("h2", "", row.name), isToken = row.kind === "AcsToken";
  title.tabIndex = -1;
  parts = { shown: {}, rights: null, isSuspended: Boolean(row.spec?.suspend), pill: el("span", "pill"), why: el("p", "why"), notes: el("div"), facts: el("dl"), roll: el("div"),
    events: el("ul"), buttons: el("div", "buttons"), missing: el("p", "missing"), secret: el("div"),
    line: isToken ? newLine() : null, text: isToken ? el("p", "ends") : null, tokens: row.kind === "AcsIdentity" ? el("ul") : null };
  parts.missing.id = "missing";
  parts.secret.setAttribute("aria-live", "polite");
  panel.replaceChildren(...[
    el("div", "top", el("div", "", title, el("p", "soft", `${row.kind} in ${row.namespace ? "namespace " + row.namespace : "the cluster"}`), parts.pill), button("Close", "", () => choose(null))),
    parts.why, parts.notes, parts.line, parts.text, parts.buttons, parts.missing, parts.secret, parts.facts, parts.roll,
    parts.tokens && el("h3", "", "Tokens"), parts.tokens, el("h3", "", "Events"), parts.events].filter(Boolean));
  buttons(row, parts.buttons, null);
  refreshDetail();
  askRights(row);
};
