// Actions on an existing object: each first shows its YAML and its `kubectl acs` command line.
import { $, el, grey, isGrey, post, copy } from "./tools.js";
import { failed, carryOut, showPlan } from "./dialog.js";

const titles = {
  renew: ["Renew", "Issue a new token now. The former token stays valid until it expires."],
  revoke: ["Revoke"],
  suspendIdentity: ["Suspend", "Stop issuing and renewing all tokens of the identity. Secrets remain until their tokens expire."],
  suspendToken: ["Suspend", "Stop issuing and renewing this token. Its Secret remains until the token expires."],
  resumeIdentity: ["Resume", "Resume issuing and renewing the tokens of the identity."],
  resumeToken: ["Resume", "Resume issuing and renewing the token."],
  deleteIdentity: ["Delete"],
  deleteToken: ["Delete"],
};

const dialog = $("act"), submit = $("act-do"), error = $("act-error");
let action = null, plan = null;
const look = async () => {
  const asked = action;
  plan = null;
  grey(submit, "The effects of the action are being determined.");
  try {
    const found = await post("/api/plan", asked);
    if (asked !== action) return;
    plan = found;
    failed(error, null);
  } catch (failure) {
    if (asked === action) failed(error, failure);
    return;
  }
  $("act-question").textContent = plan.question ?? titles[action.verb][1];
  const others = plan.affected;
  $("act-affected").replaceChildren(...(others.length ? [
    el("p", "", action.verb === "revoke" ? `ACS revokes all tokens of an identity at once. Everybody who has read one of these Secrets loses access (${others.length}):` : `Affected tokens (${others.length}):`),
    el("ul", "", ...others.map(({ token, secret }) => el("li", "", `AcsToken ${token}, Secret ${secret}`)))] : []));
  $("act-keepers").hidden = !plan.keepers.length;
  $("act-keepers").textContent = `Managed by ${plan.keepers.join(", ")}: also change it in git, or the next sync reverts the change.`;
  showPlan($("act-plan"), plan);
  grey(submit, null);
};
$("act-suspend").addEventListener("input", () => { action = { ...action, suspend: $("act-suspend").checked }; look(); });
$("act-yaml").addEventListener("click", async () => {
  if (!plan) return;
  await copy(plan.yaml, "the YAML; nothing was changed");
  dialog.close();
});
$("act-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!isGrey(submit)) carryOut(action, dialog, submit, error);
});
// Opens the dialog of an action on an object.
export const act = (verb, row) => {
  const isRevoke = verb === "revoke", ofToken = row.kind === "AcsToken";
  const name = isRevoke && ofToken ? row.spec.identityRef.name : row.name;
  action = { verb, namespace: row.namespace, name };
  const kind = isRevoke || !ofToken ? "AcsIdentity" : "AcsToken";
  $("act-title").textContent = `${titles[verb][0]} ${isRevoke ? "all tokens of " : ""}${kind} ${name}`;
  $("act-question").textContent = "";
  $("act-affected").replaceChildren();
  $("act-keepers").hidden = true;
  $("act-suspend-field").hidden = !isRevoke;
  $("act-suspend").checked = false;
  showPlan($("act-plan"), null);
  failed(error, null);
  submit.textContent = isRevoke ? "Revoke all" : titles[verb][0];
  submit.className = isRevoke || verb.startsWith("delete") ? "danger" : "main";
  dialog.showModal();
  look();
};
