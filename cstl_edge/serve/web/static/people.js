// People: who is enrolled and from which sides; enrol, rename, merge, export, erase.
import { call, del, get, part, patch, post, root, whoAmI } from "./api.js";
import { act, ago, ask, byId, compass, confirmed, empty, h, shortText, toast } from "./dom.js";
import { enrol, identify } from "./enrol.js";
import { Live } from "./live.js";
import { count, t } from "./texts.js";

const admin = (await whoAmI()).role === "admin";
let people = [];
let refresh;

async function load() {
  const [view, here] = await Promise.all([get("/people"), get("/here")]);
  people = view.people;
  const last = new Map(here.last.map((row) => [row.person, row]));
  const warnings = view.warnings.map((warning) => h("li", {}, warning.message, warning.other && admin ? h("button", { type: "button", onclick: () => merge(warning.person, warning.other) }, t("people.merge")) : null));
  byId("list").replaceChildren(
    warnings.length ? h("section", { class: "notice warn" }, h("h2", {}, t("people.warnings")), h("ul", { class: "plain-list" }, warnings)) : "",
    people.length ? h("ul", { class: "grid" }, people.map((person) => card(person, last.get(person.name)))) : empty(t("people.none"), t("people.none_hint")));
}

function card(person, seen) {
  const unsure = Object.fromEntries(person.views).unknown ?? 0;
  const facts = [count("people.walks", person.walks), unsure ? count("people.unsure", unsure) : "", person.cameras.join(", ")].filter(Boolean).join(" · ");
  return h("li", { class: "card person" },
    h("div", { class: "person-head" }, compass(person.views), h("div", {}, h("h2", {}, person.name),
      h("p", { class: "quiet" }, facts),
      h("p", { class: "quiet" }, seen ? [t("people.seen", { camera: seen.camera }), " ", ago(seen.utc)] : t("people.not_seen")))),
    person.expired ? h("p", { class: "tag warn" }, t("people.expired")) : null,
    person.advice.length ? h("ul", { class: "advice" }, person.advice.map((line) => h("li", {}, line))) : null,
    h("details", {}, h("summary", {}, t("people.consent")), h("dl", { class: "facts" },
      h("dt", {}, t("people.note")), h("dd", {}, person.consent || "–"),
      h("dt", {}, t("people.since")), h("dd", {}, shortText(person.created_utc)),
      h("dt", {}, t("people.until")), h("dd", {}, person.expires_utc ? shortText(person.expires_utc) : t("people.forever")))),
    h("div", { class: "row" }, h("a", { class: "button", href: `${root}/visits?person=${part(person.name)}` }, t("people.visits")),
      admin ? h("button", { type: "button", onclick: async () => { if (await enrol({ person: person.name, live })) await act(load); } }, t("people.add")) : null,
      admin ? menu(person) : null));
}

function menu(person) {
  return h("details", { class: "menu" }, h("summary", { class: "button", "aria-label": t("more_of", { what: person.name }) }, t("more")), h("div", {},
    h("button", { type: "button", onclick: () => rename(person) }, t("people.rename")),
    h("button", { type: "button", onclick: () => merge(person.name) }, t("people.merge")),
    person.merged !== null ? h("button", { type: "button", onclick: () => act(async () => { await post("/unmerge", { merge: person.merged }); toast(t("undone")); await load(); }) }, t("people.unmerge")) : null,
    h("button", { type: "button", onclick: (event) => act(() => download(person), event.currentTarget) }, t("people.export")),
    h("button", { type: "button", class: "danger", onclick: () => erase(person) }, t("erase"))));
}

async function rename(person) {
  const values = await ask(t("people.rename_title", { person: person.name }), [{ name: "name", label: t("enrol.person"), value: person.name, maxlength: 100 }]);
  if (values) await act(async () => { await patch(`/people/${part(person.name)}`, { name: values.name.trim() }); await load(); });
}

async function merge(person, other = "") {
  const options = people.filter(({ name }) => name !== person).map(({ name }) => [name, name]);
  if (!options.length) { toast(t("people.merge_none")); return; }
  const values = await ask(t("people.merge_title", { person }), [{ name: "other", label: t("people.merge_other"), options, value: other }], { text: t("people.merge_text", { person }), submit: t("people.merge") });
  if (values) await act(async () => {
    const { merge: number } = await post(`/people/${part(person)}/merge`, { other: values.other });
    toast(t("people.merged", { other: values.other, person }), { undo: async () => { await post("/unmerge", { merge: number }); await load(); } });
    await load();
  });
}

async function download(person) {
  const response = await call("GET", `/people/${part(person.name)}/export`);
  const name = decodeURIComponent((response.headers.get("content-disposition") ?? "").split("''")[1] ?? "export");
  const address = URL.createObjectURL(await response.blob());
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

async function erase(person) {
  if (await confirmed(t("people.erase_title", { person: person.name }), t("people.erase_text"), t("erase"))) {
    await act(async () => {
      const { unfinished } = await del(`/people/${part(person.name)}`);
      toast(t(unfinished.length ? "erased_later" : "erased", { what: person.name }));
    });
    await act(load); // also after an answer that came too late
  }
}

const video = h("input", { type: "file", accept: "video/*,.mkv,.avi", id: "identify-file", class: "sr-only", onchange: () => { if (video.files[0]) identify(video.files[0]); video.value = ""; } });
byId("content").replaceChildren(
  h("div", { class: "row bar" },
    admin ? h("button", { type: "button", class: "primary", id: "enrol", onclick: async () => { if (await enrol({ live })) await act(load); } }, t("people.enrol")) : null,
    video, h("label", { for: "identify-file", class: "button" }, t("people.identify"))),
  h("div", { id: "list" }));
const live = new Live({ event: (event) => { if (event.event === "gallery") { clearTimeout(refresh); refresh = setTimeout(() => act(load), 500); } } });
await act(load);
