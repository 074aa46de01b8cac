// Enrolment: by walking past a camera with live progress, from a video, from a visit.
import { get, post, root, upload } from "./api.js";
import { act, announce, ask, compass, dialog, field, h, sentence, toast } from "./dom.js";
import { Live, draw } from "./live.js";
import { count, t } from "./texts.js";

const POLL_MS = 700;
const ENDED = ["done", "failed", "stopped"];

/** Ask whom and how, and enrol; `person` is given to add walks to somebody. Resolves when it ended. */
export async function enrol({ person = "", live = null } = {}) {
  const cameras = await get("/cameras");
  const chosen = await dialog(person ? t("enrol.add_title", { person }) : t("enrol.title"), (close) => start(cameras, person, close));
  if (!chosen) return false;
  if (chosen.file) return fromVideo(chosen);
  return walk(chosen, live);
}

function start(cameras, person, close) {
  let file = null;
  const name = h("span", { class: "quiet" }, t("enrol.no_file"));
  const input = h("input", { type: "file", accept: "video/*,.mkv,.avi", id: "enrol-file", class: "sr-only", onchange: () => take(input.files[0]) });
  const drop = h("div", { class: "drop" }, h("label", { for: "enrol-file", class: "button" }, t("enrol.choose")), input, name);
  const take = (given) => { file = given ?? null; name.textContent = file ? file.name : t("enrol.no_file"); };
  drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => { event.preventDefault(); drop.classList.remove("over"); take(event.dataTransfer.files[0]); });
  const byCamera = h("div", {}, field({ name: "camera", label: t("enrol.camera"), options: cameras.map((c) => [c.name, c.title]), hint: t("enrol.camera_hint") }));
  const byVideo = h("div", { hidden: true }, drop, h("p", { class: "hint" }, t("enrol.video_hint")));
  const way = (value, text, checked) => h("label", { class: "check" }, h("input", { type: "radio", name: "way", value, checked, onchange: () => { byCamera.hidden = value !== "camera"; byVideo.hidden = value !== "video"; } }), text);
  const form = h("form", { method: "dialog", onsubmit: (event) => {
    event.preventDefault();
    const values = Object.fromEntries(new FormData(form));
    if (values.way === "video" && !file) { announce(t("enrol.no_file")); name.className = "error"; return; }
    close({ person: (person || values.person).trim(), note: values.note.trim(), add: Boolean(person), camera: values.camera, title: cameras.find((c) => c.name === values.camera)?.title, file: values.way === "video" ? file : null });
  } },
  person ? null : field({ name: "person", label: t("enrol.person"), maxlength: 100, autocomplete: "off" }),
  field({ name: "note", label: t("enrol.note"), hint: t("enrol.note_hint"), maxlength: 500 }),
  h("fieldset", {}, h("legend", {}, t("enrol.how")), way("camera", t("enrol.by_camera"), true), way("video", t("enrol.by_video"), false), h("p", { class: "hint" }, t("enrol.by_visit"), " ", h("a", { href: `${root}/visits` }, t("nav.visits")))),
  byCamera, byVideo,
  h("div", { class: "row end" }, h("button", { type: "button", onclick: () => close() }, t("cancel")), h("button", { type: "submit", class: "primary" }, t("enrol.start"))));
  return form;
}

async function fromVideo({ person, note, add, file }) {
  let ended = false;
  await dialog(t("enrol.video_title", { person }), (close) => {
    const text = h("p", { role: "status" }, t("enrol.uploading", { file: file.name }));
    act(async () => {
      const result = await upload("/enrolment/video", file, { person, note, add });
      ended = result.state === "done";
      close();
      result.state === "failed" ? toast(sentence(result.message), { error: true }) : await follow(result);
    }).then((well) => well || close());
    return h("div", {}, text, h("progress", { "aria-label": t("enrol.uploading", { file: file.name }) }));
  });
  return ended;
}

async function follow(result) {
  while (!ENDED.includes(result.state)) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    result = await get("/enrolment");
  }
  tell(result);
}

function tell(result) {
  if (result.state === "done") toast([t("enrol.done", { person: result.person }), ...result.warnings].join(" "));
  else if (result.state === "failed") toast(sentence(result.message) || t("enrol.failed"), { error: true });
}

/** Enrol by walking past: progress by side, quality and number of good windows; ends by itself. */
async function walk({ person, note, add, camera, title }, live) {
  let enrolment = null;
  if (!await act(async () => { enrolment = await post("/enrolment", { person, note, camera, add }); })) return false;
  let timer;
  const socket = live ?? new Live({});
  const before = { on: socket.on, views: socket.views };
  await dialog(t("enrol.walk_title", { person }), (close) => {
    const canvas = h("canvas", { width: 640, height: 360, role: "img", "aria-label": t("now.wall_picture", { camera: title }) });
    const message = h("p", { class: "strong", role: "status" }, t("enrol.walk_text", { camera: title }));
    const bar = h("progress", { max: 1, value: 0, "aria-label": t("enrol.progress") });
    const figures = h("p", { class: "quiet" });
    const sides = h("div", {});
    const quality = h("p", { class: "quiet" });
    let paused = false;
    const pause = h("button", { type: "button", "aria-pressed": "false", onclick: () => { paused = !paused; pause.setAttribute("aria-pressed", paused); pause.textContent = t(paused ? "now.play" : "now.pause"); } }, t("now.pause"));
    socket.on = { picture: (name, jpeg) => (name === camera && !paused ? draw(canvas, jpeg) : null) };
    socket.watch({ [camera]: "boxes" });
    let said = "";
    const show = (state) => {
      const text = sentence(state.message) || t(`enrol.state.${state.state}`, { camera: title });
      if (text !== said) { message.textContent = text; said = text; }
      bar.max = state.wanted || 1;
      bar.value = Math.min(state.windows, bar.max);
      figures.textContent = t("enrol.windows", { n: state.windows, wanted: state.wanted });
      sides.replaceChildren(compass(Object.entries(state.views), 120));
      quality.textContent = state.quality === null ? "" : t("enrol.quality", { percent: Math.round(state.quality * 100) });
    };
    const ask_ = async () => {
      try {
        const state = await get("/enrolment");
        if (state) show(state);
        if (!state || ENDED.includes(state.state)) { enrolment = state; close(); return; }
      } catch { /* it is asked again */ }
      timer = setTimeout(ask_, POLL_MS);
    };
    show(enrolment);
    timer = setTimeout(ask_, POLL_MS);
    const stop = (keep) => act(async () => { enrolment = await post("/enrolment/stop", { keep }); close(); });
    return h("div", { class: "two enrol" }, h("div", {}, canvas, pause), h("div", {}, message, bar, figures, h("div", { class: "row" }, sides, quality),
      h("p", { class: "hint" }, t("enrol.ends")),
      h("div", { class: "row end" }, h("button", { type: "button", onclick: () => stop(false) }, t("enrol.cancel")), h("button", { type: "button", onclick: () => stop(true) }, t("enrol.keep")))));
  });
  clearTimeout(timer);
  socket.on = before.on;
  socket.watch(before.views);
  if (enrolment && !ENDED.includes(enrolment.state)) await act(async () => { enrolment = await post("/enrolment/stop", { keep: false }); });
  if (enrolment) tell(enrolment);
  return enrolment?.state === "done";
}

/** Enrol the walk of a visit: a new person, or more of one. */
export async function enrolFromVisit(visit) {
  const { people } = await get("/people");
  const known = new Set(people.map(({ name }) => name));
  const values = await ask(t("enrol.visit_title"), [
    { name: "person", label: t("enrol.person"), value: visit.person ?? "", maxlength: 100, autocomplete: "off" },
    { name: "note", label: t("enrol.note"), hint: t("enrol.note_hint"), maxlength: 500 },
  ], { text: t("enrol.visit_text"), submit: t("enrol.start") });
  if (!values) return;
  const person = values.person.trim();
  const body = { person, note: values.note.trim(), visit: visit.id, add: known.has(person) };
  await act(async () => {
    try {
      tell(await post("/enrolment", body));
    } catch (problem) {
      if (problem.code !== "conflict" || visit.person !== person) throw problem; // else: it matches well already
      const values_ = await ask(t("enrol.matches_title"), [], { text: sentence(problem.message), submit: t("enrol.matches_force") });
      if (values_) tell(await post("/enrolment", { ...body, force: true }));
    }
  });
}

/** Say who walks in a video. */
export function identify(file) {
  return dialog(t("identify.title"), (close) => {
    const result = h("div", { role: "status" }, h("p", {}, t("enrol.uploading", { file: file.name })), h("progress", { "aria-label": t("enrol.uploading", { file: file.name }) }));
    act(async () => {
      const { walks } = await upload("/identify", file);
      result.replaceChildren(walks.length ? h("ul", { class: "list" }, walks.map((walk) => h("li", {}, h("span", { class: `chip ${walk.answer}` }, walk.person ?? t(`answer.${walk.answer}`)),
        h("p", { class: "quiet" }, [walk.distance === null ? "" : t("visit.distance", { distance: walk.distance.toFixed(3), threshold: (walk.threshold ?? 0).toFixed(3) }), walk.reason].filter(Boolean).join(" · "))))) : h("p", {}, t("identify.nobody")),
      h("p", { class: "hint" }, t("identify.kept")));
      announce(count("identify.done", walks.length));
    }).then((well) => well || close());
    return result;
  });
}

