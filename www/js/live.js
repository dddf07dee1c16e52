// What this node says of itself: an event stream while the page is seen, polling where there is no place for one.
import { get } from "./api.js";

const POLL_MS = 2000;
const SILENCE_MS = 4500;
const STREAM_RETRY_MS = 30_000;
const HISTORY = 60;

/** Samples of what happens per second, newest last; null where it is not known. */
class Rates {
  constructor() {
    this.history = { entries: [], flows: [], keys: [] };
    this.last = null;
  }

  reset() {
    this.last = null;
  }

  add(sample) {
    const last = this.last;
    this.last = sample;
    if (!last || last.source !== sample.source) return;
    const seconds = (sample.at - last.at) / 1000;
    if (seconds < 0.2) {
      this.last = last;
      return;
    }
    for (const name of Object.keys(this.history)) {
      const known = sample[name] !== null && last[name] !== null;
      const list = this.history[name];
      list.push(known ? Math.max(0, (sample[name] - last[name]) / seconds) : null);
      if (list.length > HISTORY) list.shift();
    }
  }

  now(name) {
    const values = this.history[name].slice(-3).filter((value) => value !== null);
    return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;
  }
}

export class Live {
  constructor() {
    this.status = null;
    this.rates = new Rates();
    this.seenAt = 0;
    this.link = "connecting";
    this.source = null;
    this.streamRetryAt = 0;
    this.listeners = [];
    this.polling = false;
  }

  /** What is shown is old, and nothing can be done. */
  get cut() {
    return this.link === "unreachable" || this.link === "refused";
  }

  onChange(listener) {
    this.listeners.push(listener);
  }

  start() {
    document.addEventListener("visibilitychange", () => this.look());
    setInterval(() => this.look(), 1000);
    this.look();
  }

  /** Once a second: is the stream there, is anybody looking, has the node been silent? */
  look() {
    if (document.hidden) {
      this.closeStream();
      return;
    }
    if (this.link === "refused") return; // or the browser, which asks for its stream, would do so again and again
    const now = performance.now();
    if (!this.source && now >= this.streamRetryAt) this.openStream();
    const streaming = this.source?.readyState === EventSource.OPEN;
    if (!streaming && now - (this.polledAt ?? -Infinity) >= POLL_MS) this.poll();
    if (this.status && now - this.seenAt > SILENCE_MS) this.setLink("unreachable");
    this.tell();
  }

  openStream() {
    const source = new EventSource("/v1/events?types=status");
    this.source = source;
    source.addEventListener("status", (event) => {
      const { status, counts } = JSON.parse(event.data);
      this.take(status, "live", { entries: status.applied, flows: counts.flow_updates, keys: counts.kv_events });
    });
    source.addEventListener("error", () => {
      if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      this.closeStream();
      this.streamRetryAt = performance.now() + STREAM_RETRY_MS;
    });
  }

  closeStream() {
    this.source?.close();
    this.source = null;
    this.rates.reset();
  }

  async poll() {
    if (this.polling) return;
    this.polling = true;
    this.polledAt = performance.now();
    try {
      const status = await get("/v1/status");
      if (this.source?.readyState !== EventSource.OPEN) {
        this.take(status, "polling", { entries: status.applied, flows: null, keys: status.revision });
      }
    } catch (error) {
      if (error.status === 401) this.setLink("refused");
      else if (performance.now() - this.seenAt > SILENCE_MS || !this.status) this.setLink("unreachable");
    } finally {
      this.polling = false;
    }
  }

  take(status, link, counts) {
    this.seenAt = performance.now();
    this.seenTime = Date.now();
    if (this.status && status.uptime_ms < this.status.uptime_ms) this.rates.reset(); // it was started again
    this.status = status;
    this.rates.add({ ...counts, at: this.seenAt, source: link });
    this.link = link;
    this.tell();
  }

  setLink(link) {
    this.link = link;
    this.rates.reset();
    this.tell();
  }

  tell() {
    for (const listener of this.listeners) listener(this);
  }
}
