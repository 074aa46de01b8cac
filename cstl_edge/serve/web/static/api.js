// Calls of REST: the session's proof goes with each; a session that has ended leads to the login.
export const root = document.documentElement.dataset.root ?? "";
const KEY = `cstl-edge${root}`;

/** The proof of the session: kept by origin (host and port), which a cookie is not. */
export const proof = {
  get: () => localStorage.getItem(KEY) ?? "",
  set: (value) => localStorage.setItem(KEY, value),
  clear: () => localStorage.removeItem(KEY),
};

/** An answer that is an error (RFC 9457). */
export class Problem extends Error {
  constructor(status, body) {
    super([body.title, body.detail].filter(Boolean).join(" ") || `HTTP ${status}`);
    this.status = status;
    this.code = body.code ?? "";
  }
}

export function toLogin() {
  proof.clear();
  location.replace(`${root}/login`);
}

export async function call(method, path, { body, query, raw, signal } = {}) {
  const given = Object.entries(query ?? {}).filter(([, v]) => v !== "" && v !== null && v !== undefined);
  const search = given.length ? `?${new URLSearchParams(given)}` : "";
  const headers = { "x-csrf-token": proof.get() };
  if (body !== undefined) headers["content-type"] = "application/json";
  if (raw) headers["content-type"] = raw.type || "application/octet-stream";
  const response = await fetch(`${root}/api/v1${path}${search}`, {
    method, headers, signal, cache: "no-store", body: raw ?? (body === undefined ? undefined : JSON.stringify(body)),
  });
  if (response.ok) return response;
  let told = {};
  try { told = await response.json(); } catch { /* a proxy's page */ }
  if (["login-needed", "no-proof"].includes(told.code)) toLogin();
  throw new Problem(response.status, told);
}

export const get = async (path, query) => (await call("GET", path, { query })).json();
export const post = async (path, body = {}) => answer(await call("POST", path, { body }));
export const patch = async (path, body) => answer(await call("PATCH", path, { body }));
export const del = async (path) => answer(await call("DELETE", path));
export const upload = async (path, file, query) => answer(await call("POST", path, { raw: file, query }));
export const part = (text) => encodeURIComponent(text);

async function answer(response) {
  return response.status === 204 ? null : response.json();
}

let known;
/** Return who is logged in; asked once. A proxy's user gets the proof with it. */
export function whoAmI() {
  known ??= get("/session").then((who) => {
    if (who.proof) proof.set(who.proof);
    return who;
  });
  return known;
}
