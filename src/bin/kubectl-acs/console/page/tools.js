// Helper functions. Data from the cluster is inserted into the page as text, never as markup.

export const $ = (id) => document.getElementById(id);

export const el = (tag, look, ...children) => {
  const made = document.createElement(tag);
  if (look) made.className = look;
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return made;
};

export const button = (text, look, click) => {
  const made = el("button", look, text);
  made.type = "button";
  made.addEventListener("click", click);
  return made;
};

// Greys a button out; it stays focusable, so that a screen reader reads the reason.
export const grey = (target, why) => {
  if (why) target.setAttribute("aria-disabled", "true");
  else target.removeAttribute("aria-disabled");
  target.title = why ?? "";
};
export const isGrey = (target) => target.getAttribute("aria-disabled") === "true";

// Formats the two largest units, as `kubectl acs status` does.
export const length = (ms) => {
  let left = Math.floor(Math.abs(ms) / 1000);
  const words = [];
  const units = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]];
  const first = units.findIndex(([size]) => left >= size);
  for (const [size, unit] of first < 0 ? [] : units.slice(first, first + 2)) {
    if (left >= size) words.push(Math.floor(left / size) + unit);
    left %= size;
  }
  return words.join(" ") || "0s";
};
export const fromNow = (time, now) => {
  const until = Date.parse(time) - now;
  return until < 0 ? length(until) + " ago" : "in " + length(until);
};

const answered = async (answer) => {
  const text = await answer.text();
  let body = {};
  try { body = JSON.parse(text); } catch { body = { error: text.trim() }; }
  if (!answer.ok) throw new Error(body.error || `the console answered ${answer.status}`);
  return body;
};
const send = (path, options) => fetch(path, { cache: "no-store", ...options }).catch(() => {
  throw new Error("The console does not answer. Check that `kubectl acs console` is still running.");
});
export const get = async (path, query = {}) => {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
  return answered(await send(given.length ? `${path}?${new URLSearchParams(given)}` : path));
};
export const post = async (path, body) =>
  answered(await send(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) }));

export const toast = (text, isBad = false) => {
  const made = el("p", isBad ? "bad" : "", text);
  $("toasts").append(made);
  setTimeout(() => made.remove(), isBad ? 30000 : 12000);
};

export const copy = async (text, what) => {
  try {
    await navigator.clipboard.writeText(text);
    toast(`Copied ${what}.`);
  } catch {
    toast(`The browser does not allow copying: select ${what} and copy it yourself.`, true);
  }
};

// Records how long something took, for measurements; only the last thousand are kept.
export const measured = (name, start) => {
  performance.measure(name, { start });
  if (performance.getEntriesByName(name).length > 1000) performance.clearMeasures(name);
};
