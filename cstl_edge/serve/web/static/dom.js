// Elements, dialogs, messages, times: what every page uses.
import { Problem } from "./api.js";
import { lang, t } from "./texts.js";

const SVG = "http://www.w3.org/2000/svg";

/** Make an element: h("p", {class: "quiet", onclick: f}, "text", child). */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Make an element of SVG. */
export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Say something to screen readers without moving the focus. */
export function announce(text) {
  const place = byId("status");
  if (place) { place.textContent = ""; requestAnimationFrame(() => { place.textContent = text; }); }
}

/** A message of the service, which begins with a small letter, as a sentence. */
export const sentence = (text) => (text ? text.charAt(0).toUpperCase() + text.slice(1) : "");

/** Show a message for some seconds, with a button to undo where there is something to undo. */
export function toast(text, { error = false, undo = null } = {}) {
  const box = h("div", { class: error ? "toast bad" : "toast" }, h("span", {}, text));
  const gone = () => box.remove();
  if (undo) box.append(h("button", { type: "button", onclick: () => { gone(); act(undo); } }, t("undo")));
  box.append(h("button", { type: "button", class: "plain", "aria-label": t("close"), onclick: gone }, "×"));
  byId("toasts").append(box);
  announce(text);
  if (!undo && !error) setTimeout(gone, 8000);
}

/** Do something and show what is wrong with it; returns whether it went well. */
export async function act(action, button = null) {
  button?.setAttribute("aria-busy", "true");
  try {
    await action();
    return true;
  } catch (problem) {
    if (!(problem instanceof Problem)) console.error(problem);
    toast(problem instanceof Problem ? sentence(problem.message) : t("error.network"), { error: true });
    return false;
  } finally {
    button?.removeAttribute("aria-busy");
  }
}

/** Open a dialog; `build(close)` returns its content. Resolves with what `close` was given. */
export function dialog(title, build) {
  return new Promise((resolve) => {
    const box = h("dialog", { "aria-labelledby": "dialog-title" });
    let result = null;
    const close = (value = null) => { result = value; box.close(); };
    box.append(
      h("div", { class: "dialog-head" }, h("h2", { id: "dialog-title" }, title),
        h("button", { type: "button", class: "plain", "aria-label": t("close"), onclick: () => close() }, "×")),
      build(close),
    );
    box.addEventListener("close", () => { box.remove(); resolve(result); });
    document.body.append(box);
    box.showModal();
  });
}

/** Ask for some fields; resolves with their values or null. A field: {name, label, kind, options, hint}. */
export function ask(title, fields, { submit = t("save"), text = "", danger = false } = {}) {
  return dialog(title, (close) => {
    const form = h("form", {
      method: "dialog",
      onsubmit: (event) => { event.preventDefault(); close(Object.fromEntries(new FormData(form))); },
    }, text ? h("p", {}, text) : null, ...fields.map(field), h("div", { class: "row end" },
      h("button", { type: "button", onclick: () => close() }, t("cancel")),
      h("button", { type: "submit", class: danger ? "danger" : "primary" }, submit)));
    return form;
  });
}

export function confirmed(title, text, submit) {
  return ask(title, [], { text, submit, danger: true }).then((answer) => answer !== null);
}

let fields = 0;
/** Make a labelled field. */
export function field({ name, label, kind = "text", options = null, hint = "", value = "", required = true, ...more }) {
  const id = `field-${++fields}`;
  const described = hint ? { "aria-describedby": `${id}-hint` } : {};
  const input = options
    ? h("select", { id, name, ...described, ...more }, options.map(([v, text]) => h("option", { value: v, selected: v === value }, text)))
    : h(kind === "textarea" ? "textarea" : "input", { id, name, required, value, ...(kind === "textarea" ? { rows: 3 } : { type: kind }), ...described, ...more });
  return h("div", { class: "field" }, h("label", { for: id }, label), input,
    hint ? h("p", { class: "hint", id: `${id}-hint` }, hint) : null);
}

const clock = new Intl.DateTimeFormat(lang, { hour: "2-digit", minute: "2-digit" });
const seconds = new Intl.DateTimeFormat(lang, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat(lang, { weekday: "long", day: "numeric", month: "long" });
const short = new Intl.DateTimeFormat(lang, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const relative = new Intl.RelativeTimeFormat(lang, { numeric: "auto" });

export const clockText = (utc) => clock.format(new Date(utc));
export const secondsText = (utc) => seconds.format(new Date(utc));
export const shortText = (utc) => short.format(new Date(utc));
export const dayKey = (utc) => new Date(utc).toDateString();

export function dayText(utc) {
  const days = Math.round((midnight(new Date(utc)) - midnight(new Date())) / 86400e3);
  const named = day.format(new Date(utc));
  return days > -2 ? `${capital(relative.format(days, "day"))}, ${named}` : named;
}

const midnight = (date) => new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();
const capital = (text) => (text ? text.charAt(0).toUpperCase() + text.slice(1) : "");

export function agoText(utc) {
  const passed = (Date.now() - new Date(utc)) / 1000;
  if (passed < 50) return t("time.now");
  for (const [unit, size, below] of [["minute", 60, 55], ["hour", 3600, 22], ["day", 86400, 400]])
    if (passed / size < below) return relative.format(-Math.max(1, Math.round(passed / size)), unit);
  return short.format(new Date(utc));
}

export function durationText(from, to) {
  const passed = Math.max(0, Math.round((new Date(to) - new Date(from)) / 1000));
  if (passed < 90) return t("time.seconds", { n: passed });
  if (passed < 5400) return t("time.minutes", { n: Math.round(passed / 60) });
  return t("time.hours", { n: (passed / 3600).toFixed(1) });
}

/** An element with a time that stays right while the page is open. */
export function ago(utc) {
  return h("time", { datetime: utc, title: new Date(utc).toLocaleString(lang), "data-ago": "" }, agoText(utc));
}
setInterval(() => document.querySelectorAll("time[data-ago]").forEach((e) => { e.textContent = agoText(e.dateTime); }), 20000);

export function bytesText(bytes) {
  if (bytes === null || bytes === undefined) return "–";
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]])
    if (bytes >= size) return `${(bytes / size).toFixed(bytes / size < 10 ? 1 : 0)} ${unit}`;
  return `${bytes} B`;
}

/** The answer about somebody: a mark whose shape and words say it, not its colour alone. */
export function chip({ answer, person, cluster_label: label, cluster }) {
  const text = answer === "known" ? person : answer === "unknown"
    ? label ?? (cluster === null || cluster === undefined ? t("answer.unknown") : t("unknowns.label", { n: cluster }))
    : t("answer.none");
  return h("span", { class: `chip ${answer}` }, text);
}

/** A note that something is empty, with what to do. */
export function empty(title, text, ...more) {
  return h("div", { class: "empty" }, h("p", { class: "strong" }, title), h("p", { class: "quiet" }, text), ...more);
}

const NAMES = ["towards", "right", "away", "left"];
/** Sides from which somebody was seen walking, as a small compass; `views` are [view, walks] pairs. */
export function compass(views, size = 88) {
  const walks = Object.fromEntries(views);
  const words = NAMES.map((name) => `${t(`view.${name}`)}: ${walks[name] ?? 0}`).join(", ");
  const parts = NAMES.map((name, n) => {
    const level = Math.min(3, Math.ceil((walks[name] ?? 0) / 2));
    return s("path", { class: `level${level}`, transform: `rotate(${n * 90} 50 50)`, d: "M50 50 L24 92 A49 49 0 0 0 76 92 Z" });
  });
  const numbers = NAMES.map((name, n) => {
    const [x, y] = [[50, 80], [21, 50], [50, 21], [79, 50]][n];
    return s("text", { x, y: y + 4.5, "text-anchor": "middle" }, String(walks[name] ?? 0));
  });
  return s("svg", { class: "compass", viewBox: "0 0 100 100", width: size, height: size, role: "img", "aria-label": t("view.compass", { words }) }, ...parts, ...numbers,
    s("circle", { cx: 50, cy: 50, r: 9, class: "hub" }));
}

/** A distance on its scale with the threshold marked. */
export function distanceBar(distance, threshold) {
  if (distance === null || distance === undefined || !threshold) return null;
  const full = Math.max(distance, threshold) * 1.25;
  const dot = h("span", { class: distance < threshold ? "dot in" : "dot" });
  const mark = h("span", { class: "mark" });
  dot.style.insetInlineStart = `${(distance / full) * 100}%`;
  mark.style.insetInlineStart = `${(threshold / full) * 100}%`;
  const words = t("visit.distance", { distance: distance.toFixed(3), threshold: threshold.toFixed(3) });
  return h("div", { class: "distance" }, h("div", { class: "scale", "aria-hidden": "true" }, mark, dot), h("p", {}, words));
}
