// Safe mode: what is wrong with the site's file, and a button to read it again.
import { get, post } from "./api.js";
import { act, announce, byId, h } from "./dom.js";
import { t } from "./texts.js";

async function show() {
  const health = await get("/health");
  if (!health.safe_mode) { location.reload(); return; }
  const lines = (health.site_error ?? t("safe.admin_only")).split("\n");
  byId("content").replaceChildren(h("ul", { class: "faults" }, lines.map((line) => h("li", {}, h("code", {}, line)))));
}

byId("reload").addEventListener("click", (event) => act(async () => {
  try { await post("/reload"); announce(t("safe.reloaded")); } finally { await show(); }
  setTimeout(() => location.reload(), 1500);
}, event.currentTarget));
await act(show);
