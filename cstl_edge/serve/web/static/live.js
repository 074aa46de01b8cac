// The one WebSocket of a page: pictures, states and events; pictures by polling where a proxy cuts it.
import { call, part, proof, root } from "./api.js";
import { byId } from "./dom.js";
import { t } from "./texts.js";

const RETRY_MS = [500, 1000, 2000, 5000, 10000];
const POLL_MS = 1000;
const TRIES_BEFORE_POLLING = 3;

export class Live {
  /** `on` has picture(camera, blob, header), state(cameras), event(event). Each may be missing. */
  constructor(on) {
    this.on = on;
    this.views = {};
    this.fps = 8;
    this.failures = 0;
    this.opened = false;
    document.addEventListener("visibilitychange", () => this.#tell());
    addEventListener("pagehide", () => this.socket?.close());
    this.#open();
  }

  /** Look at cameras: {door: "boxes"}; none stops the pictures. */
  watch(views, fps = this.fps) {
    this.views = views;
    this.fps = fps;
    this.#tell();
  }

  #open() {
    const address = new URL(`${root}/live`, location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(address, ["cstl-edge", `proof.${proof.get()}`]);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onopen = () => { this.failures = 0; this.opened = true; this.#banner(""); this.#stopPolling(); this.#tell(); };
    socket.onmessage = (message) => (typeof message.data === "string" ? this.#text(message.data) : this.#picture(message.data));
    socket.onclose = (event) => {
      if (event.code === 4401) { location.reload(); return; }
      this.#banner(this.opened ? t("live.lost") : "");
      const wait = RETRY_MS[Math.min(this.failures, RETRY_MS.length - 1)];
      this.failures += 1;
      if (this.failures >= TRIES_BEFORE_POLLING) this.#poll();
      setTimeout(() => this.#open(), wait);
    };
  }

  #banner(text) {
    const place = byId("link");
    if (!place) return;
    place.textContent = text;
    place.hidden = !text;
  }

  #tell() {
    if (this.socket?.readyState !== WebSocket.OPEN) return;
    const watch = document.hidden ? {} : this.views;
    this.socket.send(JSON.stringify({ watch, fps: this.fps }));
  }

  #text(data) {
    const message = JSON.parse(data);
    if (message.kind === "state") this.on.state?.(message.cameras);
    if (message.kind === "event") this.on.event?.(message.event, message.id);
  }

  async #picture(data) {
    const length = new DataView(data).getUint16(0);
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 2, length)));
    const jpeg = new Blob([new Uint8Array(data, 2 + length)], { type: "image/jpeg" });
    try {
      if (header.camera in this.views) await this.on.picture?.(header.camera, jpeg, header);
    } finally {
      if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ ack: header.camera }));
    }
  }

  #poll() {
    if (this.polling) return;
    this.#banner(t("live.polling"));
    const once = async () => {
      if (!document.hidden) {
        await Promise.all(Object.entries(this.views).map(async ([camera, overlay]) => {
          try {
            const response = await call("GET", `/cameras/${part(camera)}/picture`, { query: { overlay } });
            await this.on.picture?.(camera, await response.blob(), { camera });
          } catch { /* the camera has no picture now */ }
        }));
        try { this.on.state?.(await (await call("GET", "/cameras")).json()); } catch { /* away */ }
      }
      if (this.polling) this.polling = setTimeout(once, POLL_MS);
    };
    this.polling = setTimeout(once, 0);
  }

  #stopPolling() {
    clearTimeout(this.polling);
    this.polling = null;
  }
}

/** Draw a picture into a canvas of its own size. */
export async function draw(canvas, jpeg) {
  const bitmap = await createImageBitmap(jpeg);
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
  }
  canvas.getContext("2d", { alpha: false }).drawImage(bitmap, 0, 0);
  bitmap.close();
}
