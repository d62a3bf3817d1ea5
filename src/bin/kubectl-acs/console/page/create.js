// Form for a new identity and token, which shows its YAML and its `kubectl acs` command line.
import { $, el, grey, isGrey, get, post, copy } from "./tools.js";
import { failed, carryOut, showPlan } from "./dialog.js";

const SETTLE = 250; // ms after the last key press, before a plan is asked for

// Functions and state of the rest of the page.
let of, state, choose, openTab;
export const startCreate = (page) => { ({ of, state, choose, openTab } = page); };

const dialog = $("create"), submit = $("create-do"), error = $("create-error");
const field = (id) => $(id).value.trim();
const isOld = () => document.querySelector('input[name="whose"]:checked').value === "old";
const scopes = () => [...document.querySelectorAll('#scopes input:checked')].map((box) => box.value);
let plan = null, timer = null, rights = {}, asked = 0;

const action = () => {
  const [kind, name] = field("connection").split("/");
  const chosen = scopes(), isToken = chosen.length > 0 || isOld();
  const made = { verb: isToken ? "issue" : "create", namespace: field("into"), name: field("name") };
  if (isToken) {
    made.scopes = chosen;
    if (field("life")) made.expiresIn = field("life");
    if (isOld()) made.user = field("owner");
  }
  if (!isOld() && kind) made[kind === "AcsConnection" ? "connection" : "clusterConnection"] = name;
  return made;
};
const policy = () => {
  const [kind, name] = (field("connection") || "AcsConnection/default").split("/");
  const found = of(kind).find((row) => row.name === name && (kind !== "AcsConnection" || row.namespace === field("into")));
  return isOld() ? undefined : found?.spec?.policy?.scopes;
};
const drawScopes = () => {
  const allowed = policy();
  for (const box of document.querySelectorAll("#scopes input")) {
    box.disabled = allowed !== undefined && !allowed.includes(box.value);
    if (box.disabled) box.checked = false;
    box.parentNode.title = box.disabled ? "The policy of the connection does not allow this scope." : "";
  }
};
const drawLife = () => {
  const given = /^(?:(\d+)h)?(?:(\d+)m)?$/.exec(field("life"));
  const ms = given ? ((Number(given[1] ?? 0) * 60) + Number(given[2] ?? 0)) * 60000 : 0;
  $("life-end").textContent = ms ? `a token issued now expires at ${new Date(Date.now() + ms).toLocaleString()}` : "use hours and minutes, such as 12h or 90m";
};
const look = async () => {
  const number = asked += 1, wanted = action();
  plan = null;
  submit.textContent = wanted.verb === "create" ? "Create identity" : isOld() ? "Create token" : "Create identity and token";
  const needs = [...(isOld() ? [] : rights.create ?? []), ...(wanted.verb === "issue" ? rights.issue ?? [] : [])];
  $("create-missing").hidden = !needs.length;
  $("create-missing").textContent = `Missing permissions: ${needs.join("; ")}. A user with these permissions can apply the YAML.`;
  grey(submit, needs.length ? `Missing permissions: ${needs.join("; ")}` : "The YAML is being generated.");
  try {
    const found = await post("/api/plan", wanted);
    if (number !== asked) return;
    plan = found;
    failed(error, null);
    showPlan($("create-plan"), plan);
    if (!needs.length) grey(submit, null);
  } catch (failure) {
    if (number !== asked) return;
    failed(error, failure);
    showPlan($("create-plan"), null);
  }
};
const changed = () => {
  $("owner").disabled = !isOld();
  $("connection").disabled = isOld();
  plan = null;
  grey(submit, "The YAML is being generated.");
  drawScopes();
  drawLife();
  clearTimeout(timer);
  timer = setTimeout(look, SETTLE);
};
const askRights = async () => {
  try {
    rights = field("into") ? await get("/api/rights", { namespace: field("into") }) : {};
  } catch (failure) {
    rights = {};
  }
  changed();
};
const fillChoices = () => {
  const namespace = field("into");
  const connections = [...of("AcsConnection").filter((row) => row.namespace === namespace), ...of("ClusterAcsConnection")];
  const option = (value, text) => { const made = el("option", "", text); made.value = value; return made; };
  $("connection").replaceChildren(option("", "default"), ...connections.map((row) => option(`${row.kind}/${row.name}`, `${row.kind} ${row.name}`)));
  $("owners").replaceChildren(...of("AcsIdentity").filter((row) => row.namespace === namespace).map((row) => el("option", "", row.name)));
};
$("create-form").addEventListener("input", (event) => {
  if (event.target.id === "into") { fillChoices(); askRights(); } else changed();
});
$("create-yaml").addEventListener("click", async () => {
  if (!plan) return;
  await copy(plan.yaml, "the YAML; nothing was changed");
  dialog.close();
});
$("create-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (isGrey(submit) || !plan) return;
  const wanted = action(), kind = wanted.verb === "issue" ? "AcsToken" : "AcsIdentity";
  carryOut(wanted, dialog, submit, error, () => {
    openTab(kind === "AcsToken" ? "Tokens" : "Identities");
    choose(`${kind}/${wanted.namespace}/${wanted.name}`);
  });
});
// Opens the form for a new token; of an existing identity, if one is given.
export const create = (identity) => {
  const random = crypto.getRandomValues(new Uint32Array(1))[0].toString(16).padStart(8, "0");
  $("name").value = `${identity ? identity.name : "user"}-${random}`;
  $("into").value = identity?.namespace ?? (state.namespace || "default");
  document.querySelector(`input[name="whose"][value="${identity ? "old" : "new"}"]`).checked = true;
  $("owner").value = identity?.name ?? "";
  if (!$("scopes").querySelector("input")) {
    for (const scope of state.about.scopes) {
      const box = el("input");
      box.type = "checkbox";
      box.value = scope;
      $("scopes").append(el("label", "", box, " ", scope));
    }
  }
  for (const box of $("scopes").querySelectorAll("input")) box.checked = false;
  $("life").value = "24h";
  fillChoices();
  showPlan($("create-plan"), null);
  failed(error, null);
  dialog.showModal();
  askRights();
};
