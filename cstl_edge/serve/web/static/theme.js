// Light or dark, and the menu of the account: on every page.
const KEY = "cstl-edge-theme";
const wanted = localStorage.getItem(KEY);
if (wanted) document.documentElement.dataset.theme = wanted;

const place = document.getElementById("account");
if (place) {
  const [{ del, proof, root, whoAmI }, { act, h }, { t }] = await Promise.all([import("./api.js"), import("./dom.js"), import("./texts.js")]);
  const dark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const button = h("button", {
    type: "button", class: "plain icon", title: t("theme"), "aria-label": t("theme"),
    onclick: () => {
      const next = dark() ? "light" : "dark";
      document.documentElement.dataset.theme = next;
      localStorage.setItem(KEY, next);
    },
  }, "◐");
  place.append(button);
  try {
    const who = await whoAmI();
    document.documentElement.dataset.role = who.role;
    place.append(h("span", { class: "who" }, who.user));
    if (who.kind === "session") place.append(h("button", {
      type: "button", class: "plain",
      onclick: () => act(async () => { await del("/session"); proof.clear(); location.replace(`${root}/login`); }),
    }, t("logout")));
  } catch { /* the page itself tells */ }
}
