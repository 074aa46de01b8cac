// Visits: who came, when and where; filters, a timeline, details, corrections.
import { del, get, part, root, whoAmI } from "./api.js";
import { act, ago, announce, byId, chip, clockText, dayKey, dayText, distanceBar, durationText, empty, field, h, secondsText } from "./dom.js";
import { correct } from "./correct.js";
import { enrolFromVisit } from "./enrol.js";
import { Live } from "./live.js";
import { count, t } from "./texts.js";

const ANSWERS = ["known", "unknown", "none"];
const FILTERS = ["camera", "person", "answer", "cluster", "journey", "since", "until"];
let visits = [];
let next = null;
let fresh = 0;
let cameras = [];

const who = await whoAmI();
const admin = who.role === "admin";

function filters() {
  const chosen = Object.fromEntries(new URLSearchParams(location.search));
  const query = {};
  for (const name of FILTERS) if (chosen[name]) query[name] = name === "since" || name === "until" ? new Date(chosen[name]).toISOString() : chosen[name];
  return query;
}

async function load(more = false) {
  const page = await get("/visits", { ...filters(), limit: 40, ...(more && next ? { page: next } : {}) });
  visits = more ? [...visits, ...page.visits] : page.visits;
  next = page.next;
  fresh = 0;
  show();
}

function show() {
  const days = new Map();
  for (const visit of visits) {
    const key = dayKey(visit.started_utc);
    if (!days.has(key)) days.set(key, []);
    days.get(key).push(visit);
  }
  const parts = [...days.values()].map((some) => h("section", { class: "day" }, h("h2", {}, dayText(some[0].started_utc)), lanes(some), h("ol", { class: "visits" }, some.map(item))));
  byId("visits").replaceChildren(...(parts.length ? parts : [empty(t("visits.none"), t(Object.keys(filters()).length ? "visits.none_filtered" : "visits.none_hint"))]));
  byId("more").hidden = next === null;
  showFresh();
}

function showFresh() {
  const button = byId("fresh");
  button.hidden = fresh === 0;
  button.textContent = count("visits.fresh", fresh);
}

/** One lane for each camera with a bar for each visit: a picture of the list below. */
function lanes(some) {
  const names = cameras.filter((camera) => some.some((visit) => visit.camera === camera.name));
  const start = new Date(some.at(-1).started_utc);
  const end = new Date(Math.max(...some.map((visit) => new Date(visit.ended_utc ?? Date.now()))));
  const from = start.getTime() - 60e3;
  const span = Math.max(end - from + 60e3, 300e3);
  const box = h("div", { class: "lanes", "aria-hidden": "true" });
  for (const camera of names) {
    const lane = h("div", { class: "lane" });
    for (const visit of some.filter((v) => v.camera === camera.name)) {
      const bar = h("span", { class: `bar ${visit.answer}` });
      bar.style.insetInlineStart = `${((new Date(visit.started_utc) - from) / span) * 100}%`;
      bar.style.inlineSize = `${Math.max(((new Date(visit.ended_utc ?? Date.now()) - new Date(visit.started_utc)) / span) * 100, 0.4)}%`;
      bar.addEventListener("click", () => { const element = byId(`visit-${visit.id}`); element.querySelector("details").open = true; element.scrollIntoView({ block: "center" }); });
      lane.append(bar);
    }
    box.append(h("span", { class: "lane-name" }, camera.title), lane);
  }
  box.append(h("span", {}), h("div", { class: "axis" }, h("span", {}, clockText(from)), h("span", {}, clockText(from + span))));
  return box;
}

function item(visit) {
  const end = visit.ended_utc;
  const facts = [visit.camera_title, end ? durationText(visit.started_utc, end) : t("visits.goes_on")];
  const body = h("div", { class: "detail" }, h("p", { class: "quiet" }, t("loading")));
  const details = h("details", { ontoggle: () => { if (details.open) act(() => detail(visit, body)); } },
    h("summary", {},
      visit.snapshot_url ? h("img", { class: "thumb", src: visit.snapshot_url, alt: "", loading: "lazy" }) : h("span", { class: "thumb none", "aria-hidden": "true" }),
      h("span", { class: "summary" },
        h("span", { class: "first" }, chip(visit), visit.corrected_by ? h("span", { class: "tag" }, t("visits.corrected")) : null, end ? null : h("span", { class: "tag live" }, t("visits.now"))),
        h("span", { class: "quiet" }, facts.join(" · "), visit.answer === "none" && visit.reason ? ` · ${visit.reason}` : "")),
      visit.strip_url ? h("img", { class: "strip", src: visit.strip_url, alt: "", loading: "lazy" }) : null,
      h("time", { class: "when", datetime: visit.started_utc }, clockText(visit.started_utc))),
    body);
  return h("li", { id: `visit-${visit.id}` }, details);
}

async function detail({ id }, body) {
  const { visit, journey, corrections } = await get(`/visits/${part(id)}`);
  const again = async () => { await load(); const element = byId(`visit-${id}`); if (element) element.querySelector("details").open = true; };
  const facts = [
    [t("visit.from"), secondsText(visit.started_utc)],
    [t("visit.to"), visit.ended_utc ? secondsText(visit.ended_utc) : t("visits.goes_on")],
    [t("visit.zone"), visit.zone],
    [t("visit.confidence"), visit.confidence === null ? null : `${Math.round(visit.confidence * 100)} %`],
    [t("visit.runner_up"), visit.runner_up && visit.margin !== null ? t("visit.runner_up_by", { person: visit.runner_up, margin: visit.margin.toFixed(3) }) : visit.runner_up],
    [t("visit.frames"), visit.frames],
    [t("visit.reason"), visit.reason],
    [t("visit.model"), visit.model],
    [t("visit.corrected_by"), visit.corrected_by],
  ].filter(([, value]) => value !== null && value !== undefined && value !== "");
  const media = h("div", { class: "media" },
    visit.clip_url ? h("video", { controls: true, preload: "metadata", src: visit.clip_url, poster: visit.snapshot_url, "aria-label": t("visit.clip") })
      : visit.snapshot_url ? h("img", { src: visit.snapshot_url, alt: t("visit.snapshot", { camera: visit.camera_title }) }) : h("p", { class: "quiet" }, t("visit.no_picture")),
    visit.strip_url ? h("img", { class: "wide-strip", src: visit.strip_url, alt: t("visit.strip") }) : null);
  const way = journey.length > 1 ? h("div", {}, h("h3", {}, t("visit.way")), h("ol", { class: "way" }, journey.map((step) =>
    h("li", { class: step.id === visit.id ? "here" : "" }, h("span", {}, step.camera_title), " ", h("time", { class: "quiet", datetime: step.started_utc }, secondsText(step.started_utc)))))) : null;
  const standing = corrections.findLast((row) => !row.undone_utc);
  const history = corrections.length ? h("ul", { class: "quiet plain-list" }, corrections.map((row) =>
    h("li", {}, t(row.undone_utc ? "visit.correction_undone" : "visit.correction", { user: row.user, person: row.person ?? t("correct.nobody"), was: row.was ?? t("answer.unknown") }), " ", ago(row.utc), " ",
      admin && row === standing ? h("button", { type: "button", onclick: () => act(async () => { await del(`/visits/${part(id)}/correction`); announce(t("undone")); await again(); }) }, t("undo")) : null))) : null;
  const actions = admin ? h("div", { class: "row" },
    h("button", { type: "button", onclick: () => correct(visit, again) }, t("visit.wrong")),
    visit.has_walk ? h("button", { type: "button", onclick: () => enrolFromVisit(visit) }, t("visit.enrol")) : null,
    visit.cluster !== null ? h("a", { class: "button", href: `${root}/unknowns#unknown-${visit.cluster}` }, t("visit.unknown")) : null) : null;
  body.replaceChildren(h("div", { class: "two" }, media, h("div", {}, distanceBar(visit.distance, visit.threshold),
    h("dl", { class: "facts" }, facts.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, String(value))])), way, history, actions)));
}

function form(people) {
  const chosen = Object.fromEntries(new URLSearchParams(location.search));
  const change = () => {
    const values = new FormData(byId("filters"));
    const search = new URLSearchParams([...values].filter(([, value]) => value));
    for (const name of ["cluster", "journey"]) if (chosen[name]) search.set(name, chosen[name]);
    history.replaceState(null, "", search.size ? `?${search}` : location.pathname);
    act(async () => { await load(); announce(count("visits.shown", visits.length)); });
  };
  const choice = (name, label, options) => field({ name, label, options: [["", t("visits.all")], ...options], value: chosen[name] ?? "", required: false });
  const time = (name, label) => field({ name, label, kind: "datetime-local", value: chosen[name] ?? "", required: false });
  const open = matchMedia("(min-width: 761px)").matches || location.search.length > 1;
  return h("details", { class: "filter-box", open }, h("summary", { class: "button" }, t("visits.filters")), h("form", { id: "filters", class: "filters", onchange: change, onsubmit: (event) => { event.preventDefault(); change(); } },
    choice("camera", t("visits.camera"), cameras.map((c) => [c.name, c.title])),
    choice("person", t("visits.person"), people.map((p) => [p.name, p.name])),
    choice("answer", t("visits.answer"), ANSWERS.map((a) => [a, t(`answer.${a}`)])),
    time("since", t("visits.since")), time("until", t("visits.until")),
    h("button", { type: "reset", onclick: () => { for (const name of Object.keys(chosen)) delete chosen[name]; setTimeout(() => { byId("filters").querySelectorAll("select, input").forEach((e) => { e.value = ""; }); change(); }); } }, t("visits.reset"))));
}

await act(async () => {
  const [list, { people }] = await Promise.all([get("/cameras"), get("/people")]);
  cameras = list;
  byId("content").replaceChildren(form(people),
    h("button", { type: "button", id: "fresh", class: "fresh", hidden: true, onclick: () => act(load) }),
    h("div", { id: "visits" }),
    h("div", { class: "row center" }, h("button", { type: "button", id: "more", hidden: true, onclick: (event) => act(() => load(true), event.currentTarget) }, t("visits.more"))));
  await load();
});
new Live({ event: (event) => { if (event.event === "born" || (event.event === "named" && event.visit)) { if (!visits.some((v) => v.id === event.visit)) { fresh += event.event === "born" ? 1 : 0; showFresh(); } } } });
