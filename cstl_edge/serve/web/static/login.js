// The login by name and password.
import { Problem, call, proof, root } from "./api.js";
import { byId } from "./dom.js";
import { t } from "./texts.js";

byId("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const error = byId("error");
  error.hidden = true;
  const button = form.querySelector("button");
  button.setAttribute("aria-busy", "true");
  try {
    const body = { user: form.user.value.trim(), password: form.password.value };
    proof.set((await (await call("POST", "/session", { body })).json()).proof);
    location.replace(`${root}/`);
  } catch (problem) {
    error.textContent = problem instanceof Problem ? problem.message : t("error.network");
    error.hidden = false;
    form.password.select();
  } finally {
    button.removeAttribute("aria-busy");
  }
});
