// The last entries of this node's log, newest first.
import { get } from "./api.js";
import { byId, h, setText } from "./dom.js";
import { bytes, count } from "./format.js";

const REFRESH_MS = 2000;

export class Log {
  constructor() {
    this.path = "/v1/log";
    const choose = (path) => () => {
      this.path = path;
      byId("log-all").setAttribute("aria-pressed", String(path === "/v1/log"));
      byId("log-committed").setAttribute("aria-pressed", String(path !== "/v1/log"));
      this.load();
    };
    byId("log-all").addEventListener("click", choose("/v1/log"));
    byId("log-committed").addEventListener("click", choose("/v1/committed"));
    byId("log-last").addEventListener("change", () => this.load());
  }

  open() {
    this.load();
    this.timer = setInterval(() => {
      if (!document.hidden && byId("log-live").checked) this.load();
    }, REFRESH_MS);
  }

  close() {
    clearInterval(this.timer);
  }

  async load() {
    const path = this.path;
    const empty = byId("log-empty");
    try {
      const log = await get(`${path}?last=${byId("log-last").value}`);
      if (path !== this.path) return;
      setText(byId("log-sub"), `index ${count(log.first_index)} to ${count(log.last_index)}, committed up to ${count(log.commit)}`);
      empty.hidden = log.entries.length > 0;
      setText(empty, "The log is empty: everything is in the snapshot, or nothing has happened yet.");
      byId("log-table").hidden = log.entries.length === 0;
      byId("log-rows").replaceChildren(...log.entries.reverse().map(row));
    } catch (error) {
      empty.hidden = false;
      setText(empty, error.message);
    }
  }
}

function row(entry) {
  const shown = entry.commands.slice(0, 6);
  const more = entry.commands.length - shown.length;
  const commands = [...shown.map((line) => h("span", { class: "command mono" }, line)), more > 0 ? h("span", { class: "faint" }, `and ${count(more)} more`) : null];
  return h(
    "tr",
    {},
    h("td", { class: "num", "data-label": "Index" }, count(entry.index)),
    h("td", { class: "num", "data-label": "Term" }, count(entry.term)),
    h("td", { class: "kind", "data-label": "Kind" }, entry.kind),
    h("td", { class: "commands", "data-label": "Commands" }, ...(shown.length ? commands : [h("span", { class: "faint" }, entry.kind === "commands" ? "–" : entry.kind)])),
    h("td", { class: "num", "data-label": "Size" }, bytes(entry.size_bytes)),
    h("td", { "data-label": "Committed" }, entry.committed ? h("span", { class: "yes" }, "yes") : h("span", { class: "faint" }, "not yet")),
  );
}
