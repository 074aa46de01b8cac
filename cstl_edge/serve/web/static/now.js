// Now: the wall of cameras, and who is here.
import { get, whoAmI } from "./api.js";
import { act, ago, announce, byId, chip, clockText, empty, h } from "./dom.js";
import { Live, draw } from "./live.js";
import { count, t } from "./texts.js";

const still = matchMedia("(prefers-reduced-motion: reduce)");
const tiles = new Map(); // camera -> tile
let paused = still.matches;
let live;
let refresh;
const shown = new Set(); // cameras whose tile is on the screen

const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) isIntersecting ? shown.add(target.dataset.camera) : shown.delete(target.dataset.camera);
  look();
}, { rootMargin: "100px" });

function look() {
  const views = {};
  for (const [name, tile] of tiles) if (!paused && !tile.paused && shown.has(name)) views[name] = "boxes";
  live?.watch(views);
}

function tileOf(camera) {
  const canvas = h("canvas", { role: "img", width: 640, height: 360 });
  const note = h("p", { class: "note" });
  const state = h("span", { class: "state" });
  const figures = h("span", { class: "figures" });
  const label = t("now.pause_camera", { camera: camera.title });
  const button = h("button", { type: "button", class: "overlay", "aria-pressed": "false", "aria-label": label, title: label, onclick: () => {
    tile.paused = !tile.paused;
    button.setAttribute("aria-pressed", tile.paused);
    button.textContent = tile.paused ? "▶" : "❚❚";
    look();
  } }, "❚❚");
  const element = h("article", { class: "tile", "data-camera": camera.name, "aria-labelledby": `tile-${camera.name}` },
    h("div", { class: "frame" }, canvas, note, button),
    h("div", { class: "caption" }, h("h3", { id: `tile-${camera.name}` }, camera.title), state, figures));
  const tile = { element, canvas, note, state, figures, paused: false, drawn: false };
  seen.observe(element);
  return tile;
}

function showStates(cameras) {
  const wall = byId("wall");
  for (const name of [...tiles.keys()]) if (!cameras.some((c) => c.name === name)) { tiles.get(name).element.remove(); tiles.delete(name); }
  for (const camera of cameras) {
    if (!tiles.has(camera.name)) { tiles.set(camera.name, tileOf(camera)); wall.append(tiles.get(camera.name).element); }
    const tile = tiles.get(camera.name);
    const before = tile.shown;
    tile.shown = camera.state;
    tile.state.textContent = t(`state.${camera.state}`);
    tile.state.className = `state ${camera.state}`;
    const inView = camera.tracks ? count("now.in_view", camera.tracks) : t("now.nobody");
    tile.figures.textContent = camera.state === "online"
      ? [inView, camera.fps === null ? "" : t("now.fps", { fps: camera.fps.toFixed(1) }), camera.dropped ? count("now.dropped", camera.dropped) : ""].filter(Boolean).join(" · ") : "";
    tile.canvas.setAttribute("aria-label", t("now.picture", { camera: camera.title, state: t(`state.${camera.state}`), seen: inView }));
    const why = camera.reason ? `${t(`state.${camera.state}`)}: ${camera.reason}` : t(`state.${camera.state}`);
    tile.note.textContent = camera.state !== "online" ? why : tile.drawn ? "" : t(paused ? "now.paused" : "now.waiting");
    tile.element.classList.toggle("away", camera.state !== "online");
    if (before && before !== camera.state) announce(t("now.changed", { camera: camera.title, state: t(`state.${camera.state}`) }));
  }
  byId("content").classList.toggle("none", cameras.length === 0);
  byId("no-cameras").hidden = cameras.length > 0;
}

async function showPeople() {
  const { now, last } = await get("/here");
  const present = now.map((row) => h("li", {}, row.snapshot_url ? h("img", { src: row.snapshot_url, alt: "", loading: "lazy" }) : h("span", { class: "avatar", "aria-hidden": "true" }),
    h("div", {}, chip(row), h("p", { class: "quiet" }, t("now.at", { camera: titleOf(row.camera) }), " ", h("time", { datetime: row.since_utc }, t("now.since", { time: clockText(row.since_utc) }))))));
  byId("here").replaceChildren(...(present.length ? [h("ul", { class: "list people" }, present)] : [h("p", { class: "quiet" }, t("now.nobody_here"))]));
  const gone = last.slice(0, 8).map((row) => h("li", {}, row.snapshot_url ? h("img", { src: row.snapshot_url, alt: "", loading: "lazy" }) : h("span", { class: "avatar", "aria-hidden": "true" }, row.person.charAt(0)),
    h("div", {}, h("span", { class: "chip known" }, row.person), h("p", { class: "quiet" }, t("now.at", { camera: titleOf(row.camera) }), " ", ago(row.utc)))));
  byId("last").replaceChildren(...(gone.length ? [h("ul", { class: "list people" }, gone)] : [h("p", { class: "quiet" }, t("now.nobody_seen"))]));
}

let titles = {};
const titleOf = (name) => titles[name] ?? name;

function pauseButton() {
  const button = byId("pause");
  button.textContent = paused ? t("now.play") : t("now.pause");
  button.setAttribute("aria-pressed", paused);
}

await whoAmI();
byId("content").replaceChildren(
  h("div", { class: "row bar" }, h("button", { type: "button", id: "pause", onclick: () => {
    paused = !paused;
    pauseButton();
    announce(t(paused ? "now.is_paused" : "now.is_playing"));
    look();
    if (!paused) showPeople();
  } })),
  h("div", { class: "now" },
    h("section", { "aria-label": t("now.wall") }, h("div", { id: "wall", class: "wall" }), h("div", { id: "no-cameras", hidden: true }, empty(t("now.no_cameras"), t("now.no_cameras_hint")))),
    h("aside", { class: "side" }, h("section", { class: "card" }, h("h2", {}, t("now.here")), h("div", { id: "here" })),
      h("section", { class: "card" }, h("h2", {}, t("now.last")), h("div", { id: "last" })))),
);
pauseButton();
await act(async () => {
  const cameras = await get("/cameras");
  titles = Object.fromEntries(cameras.map((c) => [c.name, c.title]));
  showStates(cameras);
  await showPeople();
});
live = new Live({
  picture: async (camera, jpeg) => {
    const tile = tiles.get(camera);
    if (!tile || paused || tile.paused) return;
    await draw(tile.canvas, jpeg);
    if (!tile.drawn) { tile.drawn = true; tile.note.textContent = ""; }
  },
  state: (cameras) => showStates(cameras),
  event: (event) => {
    if (event.event === "named" && event.answer === "known") announce(t("now.named", { person: event.person, camera: titleOf(event.camera) }));
    clearTimeout(refresh);
    if (!paused) refresh = setTimeout(() => showPeople().catch(() => {}), 400);
  },
});
look();
