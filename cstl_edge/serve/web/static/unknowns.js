// Unknowns: strangers by walk; name, join, ignore, erase.
import { del, get, part, post, root, whoAmI } from "./api.js";
import { act, ago, ask, byId, confirmed, empty, h, toast } from "./dom.js";
import { count, t } from "./texts.js";

const admin = (await whoAmI()).role === "admin";
let unknowns = [];
let people = [];

function titleOf({ id, label }) {
  return label || t("unknowns.label", { n: id });
}

async function load() {
  const ignored = byId("ignored")?.checked ?? false;
  const [view, list] = await Promise.all([get("/unknowns", { ignored }), get("/people")]);
  unknowns = view.unknowns;
  people = list.people;
  const policy = h("div", { class: "notice" }, h("p", { class: "strong" }, t(view.enabled ? "unknowns.on" : "unknowns.off")),
    h("p", {}, t(view.enabled ? "unknowns.on_text" : "unknowns.off_text", { days: count("days", view.days) })));
  byId("list").replaceChildren(policy, unknowns.length ? h("ul", { class: "grid" }, unknowns.map(card)) : empty(t("unknowns.none"), t(view.enabled ? "unknowns.none_hint" : "unknowns.none_off")));
  byId("bar").hidden = !view.enabled && !unknowns.length;
  if (location.hash) document.querySelector(location.hash.replace(/[^#\w-]/g, ""))?.scrollIntoView();
}

function card(unknown) {
  const lines = [count("unknowns.visits", unknown.visits), unknown.usual, unknown.cameras.join(", ")].filter(Boolean);
  return h("li", { class: unknown.ignored ? "card unknown faded" : "card unknown", id: `unknown-${unknown.id}` },
    h("div", { class: "cover" }, unknown.snapshot_url ? h("img", { src: unknown.snapshot_url, alt: "", loading: "lazy" }) : null,
      unknown.strip_url ? h("div", { class: "reel" }, h("img", { src: unknown.strip_url, alt: t("visit.strip"), loading: "lazy" })) : null),
    h("h2", {}, titleOf(unknown)), h("p", { class: "quiet" }, lines.join(" · ")),
    unknown.last_utc ? h("p", { class: "quiet" }, t("unknowns.last"), " ", ago(unknown.last_utc)) : null,
    h("div", { class: "row" },
      admin ? h("button", { type: "button", class: "primary", onclick: () => name(unknown) }, t("unknowns.name")) : null,
      h("a", { class: "button", href: `${root}/visits?cluster=${unknown.id}` }, t("unknowns.see")),
      admin ? menu(unknown) : null));
}

function menu(unknown) {
  return h("details", { class: "menu" }, h("summary", { class: "button", "aria-label": t("more_of", { what: titleOf(unknown) }) }, t("more")), h("div", {},
    h("button", { type: "button", onclick: () => join(unknown) }, t("unknowns.join")),
    unknown.joined !== null ? h("button", { type: "button", onclick: () => act(async () => { await post("/unjoin", { merge: unknown.joined }); toast(t("undone")); await load(); }) }, t("unknowns.unjoin")) : null,
    h("button", { type: "button", onclick: () => act(async () => { await post(`/unknowns/${unknown.id}/ignored`, { ignored: !unknown.ignored }); await load(); }) }, t(unknown.ignored ? "unknowns.unignore" : "unknowns.ignore")),
    h("button", { type: "button", class: "danger", onclick: () => erase(unknown) }, t("erase"))));
}

async function name(unknown) {
  const values = await ask(t("unknowns.name_title", { what: titleOf(unknown) }), [
    { name: "person", label: t("enrol.person"), maxlength: 100, list: "people", autocomplete: "off" },
    { name: "note", label: t("enrol.note"), hint: t("enrol.note_hint"), maxlength: 500 },
  ], { text: t("unknowns.name_text"), submit: t("unknowns.name_submit") });
  if (values) await act(async () => {
    await post(`/unknowns/${unknown.id}/name`, { person: values.person.trim(), note: values.note.trim() });
    toast(t("unknowns.named", { person: values.person.trim() }));
    await load();
  });
}

async function join(unknown) {
  const others = unknowns.filter(({ id }) => id !== unknown.id).map((other) => [String(other.id), titleOf(other)]);
  if (!others.length) { toast(t("unknowns.join_none")); return; }
  const values = await ask(t("unknowns.join_title", { what: titleOf(unknown) }), [{ name: "other", label: t("unknowns.join_other"), options: others }], { text: t("unknowns.join_text"), submit: t("unknowns.join_submit") });
  if (values) await act(async () => {
    const { merge } = await post(`/unknowns/${unknown.id}/join`, { other: Number(values.other) });
    toast(t("unknowns.joined"), { undo: async () => { await post("/unjoin", { merge }); await load(); } });
    await load();
  });
}

async function erase(unknown) {
  if (await confirmed(t("unknowns.erase_title", { what: titleOf(unknown) }), t("unknowns.erase_text"), t("erase"))) {
    await act(async () => {
      const { unfinished } = await del(`/unknowns/${part(String(unknown.id))}`);
      toast(t(unfinished.length ? "erased_later" : "erased", { what: titleOf(unknown) }));
    });
    await act(load); // also after an answer that came too late
  }
}

byId("content").replaceChildren(
  h("div", { class: "row bar", id: "bar" }, h("label", { class: "check" }, h("input", { type: "checkbox", id: "ignored", onchange: () => act(load) }), t("unknowns.show_ignored"))),
  h("div", { id: "list" }), h("datalist", { id: "people" }));
await act(load);
byId("people").replaceChildren(...people.map(({ name: person }) => h("option", { value: person })));
