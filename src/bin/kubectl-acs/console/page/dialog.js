// Functions of both dialogs.
import { el, button, grey, post, copy, toast } from "./tools.js";

export const failed = (into, error) => {
  into.textContent = error?.message ?? "";
  into.hidden = !error;
};
for (const close of document.querySelectorAll("[data-close]")) close.addEventListener("click", () => close.closest("dialog").close());

// Runs an action; the dialog shows the wait, and the user may close it meanwhile.
export const carryOut = async (action, dialog, submit, error, done) => {
  const text = submit.textContent;
  submit.textContent = "Working\u2026";
  grey(submit, "The action is in progress.");
  failed(error, null);
  try {
    const { notes } = await post("/api/do", action);
    dialog.close();
    toast(notes.join("; ") || "Done.");
    done?.();
  } catch (failure) {
    if (dialog.open) failed(error, failure);
    else toast(failure.message, true);
  } finally {
    submit.textContent = text;
    grey(submit, null);
  }
};

// Shows the command line and the YAML of an action, each with a button that copies it.
export const showPlan = (into, plan) => {
  const part = (title, text, what) => el("div", "copy",
    el("h3", "", title, button("Copy", "", () => copy(text, what))), el("pre", "", text));
  into.replaceChildren(...(plan ? [part("In a terminal", plan.command, "the command"), part("In git", plan.yaml, "the YAML")] : []));
};
