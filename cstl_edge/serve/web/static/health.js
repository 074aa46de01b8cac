// Health: cameras, processes, latencies, disk, what is kept; the segmenter's picture; logins, audit log.
import { del, get, part, post, whoAmI } from "./api.js";
import { act, ago, announce, byId, bytesText, h, shortText, toast } from "./dom.js";
import { Live, draw } from "./live.js";
import { count, t } from "./texts.js";

const me = await whoAmI();
const admin = me.role === "admin";
let cameras = [];

function table(caption, heads, rows) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, h("table", {}, h("caption", { class: "sr-only" }, caption), h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))), h("tbody", {}, rows)));
}

const row = (first, ...cells) => h("tr", {}, h("th", { scope: "row" }, first), cells.map((cell) => h("td", {}, cell ?? "–")));

function cameraTable() {
  return table(t("health.cameras"), [t("visits.camera"), t("health.state"), t("health.fps"), t("health.dropped"), t("health.restarts"), ...(admin ? [t("health.actions")] : [])],
    cameras.map((camera) => row(camera.title, h("span", {}, h("span", { class: `state ${camera.state}` }, t(`state.${camera.state}`)), camera.reason ? h("p", { class: "quiet" }, camera.reason) : null),
      camera.fps?.toFixed(1), camera.dropped, camera.restarts,
      ...(admin ? [h("button", { type: "button", "aria-label": t("health.restart_of", { camera: camera.title }), onclick: (event) => act(async () => { await post(`/cameras/${part(camera.name)}/restart`); toast(t("health.restarted", { camera: camera.title })); }, event.currentTarget) }, t("health.restart"))] : []))));
}

function processTable(processes) {
  return table(t("health.processes"), [t("health.process"), t("health.state"), t("health.memory"), t("health.cpu"), t("health.restarts"), t("health.words"), ...(admin ? [t("health.actions")] : [])],
    processes.map((process) => row(process.name, h("span", {}, t(`process.${process.state}`), process.reason ? h("p", { class: "quiet" }, process.reason) : null),
      bytesText(process.memory_bytes), process.cpu_s === null ? null : t("health.seconds", { n: Math.round(process.cpu_s) }), process.restarts,
      Object.entries(process.texts).map(([name, text]) => h("p", {}, `${name}: ${text}`)),
      ...(admin ? [process.name === "recogniser" ? h("button", { type: "button", "aria-label": t("health.restart_of", { camera: process.name }), onclick: (event) => act(async () => { await post(`/processes/${part(process.name)}/restart`); toast(t("health.restarted", { camera: process.name })); }, event.currentTarget) }, t("health.restart")) : null] : []))));
}

function outputTable(outputs) {
  if (!outputs.length) return h("p", { class: "quiet" }, t("health.no_outputs"));
  return table(t("health.outputs"), [t("health.output"), t("health.state"), t("health.queued"), t("health.sent"), t("health.lost")],
    outputs.map((output) => row(output.name, h("span", {}, t(`output.${output.state}`), output.reason ? h("p", { class: "quiet" }, output.reason) : null),
      output.queued, output.sent, Object.entries(output.dropped).map(([why, n]) => h("p", {}, t(`drop.${why}`, { n }))))));
}

function latencyTable(processes) {
  const rows = processes.flatMap((process) => Object.entries(process.latency_ms).map(([stage, { p50, p99, samples }]) => row(process.name, t(`stage.${stage}`), p50.toFixed(1), p99.toFixed(1), samples)));
  return rows.length ? table(t("health.latency"), [t("health.process"), t("health.stage"), "p50 [ms]", "p99 [ms]", t("health.samples")], rows) : h("p", { class: "quiet" }, t("health.no_latency"));
}

function keptList({ kept, disk_free_bytes: free, store_bytes: store }) {
  const lines = [
    [t("health.free"), bytesText(free)], [t("health.store"), bytesText(store)],
    [t("health.kept_events"), count("days", kept.events_days)],
    [t("health.kept_snapshots"), kept.snapshots ? count("days", kept.snapshots_days) : t("health.not_kept")],
    [t("health.kept_clips"), kept.clips ? count("days", kept.clips_days) : t("health.not_kept")],
    [t("health.kept_unknowns"), kept.unknowns ? count("days", kept.unknowns_days) : t("health.not_kept")],
    [t("health.limits"), t("health.limits_text", { max: kept.max_gb, free: kept.min_free_gb })],
  ];
  return h("dl", { class: "facts" }, lines.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

async function load() {
  const [health, list] = await Promise.all([get("/health"), get("/cameras")]);
  cameras = list;
  const fine = health.ready && !health.site_error;
  byId("summary").replaceChildren(
    h("div", { class: fine ? "notice good" : "notice warn" }, h("p", { class: "strong" }, t(fine ? "health.fine" : "health.not_fine")),
      health.not_ready_reasons.length ? h("ul", {}, health.not_ready_reasons.map((reason) => h("li", {}, reason))) : null,
      health.site_error ? h("div", {}, h("p", {}, t("health.site_error")), h("pre", {}, health.site_error)) : null),
    h("p", { class: "quiet" }, t("health.version", { version: health.version })));
  byId("cameras").replaceChildren(cameraTable());
  byId("processes").replaceChildren(processTable(health.processes));
  byId("outputs").replaceChildren(outputTable(health.outputs));
  byId("latency").replaceChildren(latencyTable(health.processes));
  byId("kept").replaceChildren(keptList(health));
}

/** What the segmenter sees of a camera, to place it. */
function testPicture(live) {
  const canvas = h("canvas", { width: 640, height: 360, role: "img", "aria-label": t("health.test_picture"), hidden: true });
  const note = h("p", { class: "quiet" });
  let camera = cameras[0]?.name;
  let overlay = "segmentation";
  let playing = false;
  const look = () => live.watch(playing && camera ? { [camera]: overlay } : {}, 4);
  const button = h("button", { type: "button", "aria-pressed": "false", onclick: () => {
    playing = !playing;
    button.setAttribute("aria-pressed", playing);
    button.textContent = t(playing ? "now.pause" : "health.show");
    announce(t(playing ? "now.is_playing" : "now.is_paused"));
    note.textContent = playing && canvas.hidden ? t("now.waiting") : "";
    look();
  } }, t("health.show"));
  live.on.picture = async (name, jpeg) => {
    if (name !== camera || !playing) return;
    await draw(canvas, jpeg);
    canvas.hidden = false;
    note.textContent = "";
  };
  const choose = (id, label, options, change) => h("div", { class: "field" }, h("label", { for: id }, label), h("select", { id, onchange: (event) => { change(event.target.value); look(); } }, options.map(([value, text]) => h("option", { value }, text))));
  return h("div", {}, h("p", { class: "quiet" }, t("health.test_text")), h("div", { class: "row" },
    choose("test-camera", t("visits.camera"), cameras.map((c) => [c.name, c.title]), (value) => { camera = value; }),
    choose("test-overlay", t("health.overlay"), [["segmentation", t("overlay.segmentation")], ["boxes", t("overlay.boxes")], ["none", t("overlay.none")]], (value) => { overlay = value; }), button), note, canvas);
}

function lazy(title, fetcher) {
  const place = h("div", {}, h("p", { class: "quiet" }, t("loading")));
  const box = h("details", { class: "card", ontoggle: () => { if (box.open) act(async () => place.replaceChildren(await fetcher())); } }, h("summary", {}, h("h2", {}, title)), place);
  return box;
}

async function sessions() {
  const rows = await get("/sessions");
  return table(t("health.sessions"), [t("login.user"), t("health.begun"), t("health.used"), t("health.address"), t("health.browser"), t("health.actions")],
    rows.map((one) => row(one.user, shortText(one.created_utc), ago(one.seen_utc), one.address, one.agent.slice(0, 60), one.current ? t("health.this_one")
      : h("button", { type: "button", "aria-label": t("health.end_of", { user: one.user, address: one.address }), onclick: (event) => { const button = event.currentTarget; act(async () => { await del(`/sessions/${one.id}`); button.closest("tr").remove(); toast(t("health.ended")); }, button); } }, t("health.end")))));
}

async function audit() {
  const { rows } = await get("/audit", { limit: 100 });
  return rows.length ? table(t("health.audit"), [t("health.when"), t("login.user"), t("health.action"), t("health.subject"), t("health.detail")],
    rows.map((one) => row(shortText(one.utc), `${one.user} (${one.role})`, one.action, one.subject, one.detail))) : h("p", { class: "quiet" }, t("health.audit_none"));
}

const section = (id, title) => h("section", { class: "card" }, h("h2", {}, title), h("div", { id }));
byId("content").replaceChildren(
  h("div", { class: "row bar" }, h("button", { type: "button", onclick: (event) => act(load, event.currentTarget) }, t("health.refresh")),
    admin ? h("button", { type: "button", onclick: (event) => act(async () => { await post("/reload"); toast(t("health.reloaded")); await load(); }, event.currentTarget) }, t("health.reload")) : null),
  h("div", { id: "summary" }), section("cameras", t("health.cameras")),
  h("section", { class: "card" }, h("h2", {}, t("health.test_picture")), h("div", { id: "test" })),
  section("latency", t("health.latency")), section("processes", t("health.processes")), section("outputs", t("health.outputs")), section("kept", t("health.kept")),
  lazy(t("health.model"), async () => { const { card, path } = await get("/model"); return h("div", {}, h("p", { class: "quiet" }, path), h("pre", { class: "text", tabindex: "0" }, card)); }),
  admin ? lazy(t("health.doctor"), async () => h("pre", { tabindex: "0" }, (await get("/doctor")).lines.join("\n"))) : "",
  admin ? lazy(t("health.sessions"), sessions) : "",
  admin ? lazy(t("health.audit"), audit) : "",
);
await act(load);
byId("test").replaceChildren(testPicture(new Live({})));
