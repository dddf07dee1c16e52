// The flow table: the node filters and pages, this page shows.
import { call, get, query } from "./api.js";
import { ask, byId, h, setText, toast } from "./dom.js";
import { bytes, compact, count, endpoint, expires, stateName, time } from "./format.js";

const PAGE = 50;
const REFRESH_MS = 2500;
const STATES = ["SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "NONE"];
const FIELDS = ["address", "port", "protocol", "backend", "origin"];

export class Flows {
  constructor(live) {
    this.live = live;
    this.filter = {};
    this.states = new Set();
    this.cursors = [""];
    this.number = 0;
    this.form = byId("flows-form");
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.search();
    });
    byId("flows-clear").addEventListener("click", () => {
      this.form.reset();
      this.states.clear();
      this.showChips();
      this.search();
    });
    byId("flows-back").addEventListener("click", () => this.turn(-1));
    byId("flows-next").addEventListener("click", () => this.turn(1));
    this.chips = STATES.map((state) =>
      h("button", { type: "button", class: `chip state-${state.toLowerCase()}`, "aria-pressed": "false", onclick: () => this.toggle(state) }, state === "NONE" ? "no TCP state" : stateName(state)),
    );
    byId("flows-states").append(...this.chips);
  }

  toggle(state) {
    if (!this.states.delete(state)) this.states.add(state);
    this.showChips();
    this.search();
  }

  showChips() {
    this.chips.forEach((chip, place) => chip.setAttribute("aria-pressed", String(this.states.has(STATES[place]))));
  }

  search() {
    this.filter = Object.fromEntries(FIELDS.map((name) => [name, this.form.elements[name].value.trim()]));
    this.cursors = [""];
    this.load();
  }

  turn(step) {
    if (step > 0) this.cursors.push(this.next);
    else this.cursors.pop();
    this.load();
  }

  open() {
    this.load();
    this.timer = setInterval(() => {
      if (!document.hidden && byId("flows-live").checked && !byId("dialog").open) this.load();
    }, REFRESH_MS);
  }

  close() {
    clearInterval(this.timer);
  }

  async load() {
    const number = ++this.number;
    const problem = byId("flows-error");
    try {
      const cursor = this.cursors.at(-1);
      const page = await get(`/v1/flows${query({ ...this.filter, state: [...this.states], limit: PAGE, cursor, consistency: "stale" })}`);
      if (number !== this.number) return; // a later search is under way
      problem.hidden = true;
      this.show(page);
    } catch (error) {
      if (number !== this.number) return;
      problem.textContent = error.message;
      problem.hidden = false;
      if (error.status === 400 && this.cursors.length > 1) this.cursors = [""];
    }
  }

  show(page) {
    const filtered = this.states.size > 0 || Object.values(this.filter).some(Boolean);
    const first = (this.cursors.length - 1) * PAGE;
    this.next = page.cursor;
    byId("flows-back").disabled = this.cursors.length < 2;
    byId("flows-next").disabled = !page.cursor;
    setText(byId("flows-sub"), `${count(page.total)} in the table${filtered ? ", filtered" : ""}`);
    setText(byId("flows-range"), page.flows.length ? `${count(first + 1)} to ${count(first + page.flows.length)}` : "");
    const empty = byId("flows-empty");
    empty.hidden = page.flows.length > 0;
    byId("flows-table").hidden = page.flows.length === 0;
    setText(empty, page.total && (filtered || page.cursor) ? "No flow matches on this page." : "No flows yet. Write some with POST /v1/flows, or start “rocinante agent sniff”.");
    byId("flows-rows").replaceChildren(...page.flows.map((flow) => this.row(flow)));
  }

  row(flow) {
    const cell = (label, name, ...content) => h("td", { class: name, "data-label": label }, ...content);
    const backend = flow.backend_name || (flow.backend ? endpoint(flow.backend) : "–");
    const traffic = (arrow, packets, size) => h("span", {}, `${arrow} ${bytes(size)} `, h("small", { class: "faint" }, `${compact(packets)} pkt`));
    const address = (label, text) => cell(label, text.length > 24 ? "mono long" : "mono", text);
    const state = flow.tcp_state === "NONE" ? h("span", { class: "faint" }, "–") : h("span", { class: `state state-${flow.tcp_state.toLowerCase()}` }, stateName(flow.tcp_state));
    return h(
      "tr",
      {},
      cell("Protocol", "first", String(flow.protocol)),
      address("Source", endpoint(flow.source)),
      address("Destination", endpoint(flow.destination)),
      cell("State", "first", state),
      flow.backend_name ? cell("Backend", "clip", backend) : address("Backend", backend),
      cell("Traffic", "traffic", traffic("→", flow.packets_original, flow.bytes_original), traffic("←", flow.packets_reply, flow.bytes_reply)),
      cell("Expires in", "num", expires(flow.deadline_ms)),
      cell("Origin", "", flow.origin),
      cell("", "end", h("button", { type: "button", class: "quiet", "aria-label": `Details of ${endpoint(flow.source)} to ${endpoint(flow.destination)}`, onclick: () => this.details(flow) }, "Details")),
    );
  }

  async details(flow) {
    const facts = {
      Protocol: flow.zone ? `${flow.protocol}, zone ${flow.zone}` : flow.protocol,
      Source: endpoint(flow.source),
      Destination: endpoint(flow.destination),
      Reply: flow.reply ? `${endpoint(flow.reply.source)} to ${endpoint(flow.reply.destination)}` : "the way back, no NAT",
      State: `${flow.tcp_state}${flow.flags.length ? ` (${flow.flags.join(", ")})` : ""}`,
      Backend: [flow.backend_name, flow.backend && endpoint(flow.backend)].filter(Boolean).join(" at ") || "–",
      Out: `${bytes(flow.bytes_original)} in ${count(flow.packets_original)} packets`,
      Back: `${bytes(flow.bytes_reply)} in ${count(flow.packets_reply)} packets`,
      Mark: `0x${flow.mark.toString(16)}`,
      Updated: time(flow.updated_ms),
      Deadline: flow.deadline_ms ? `${time(flow.deadline_ms)} (in ${expires(flow.deadline_ms)})` : "none",
      Origin: flow.origin,
      Id: flow.id,
    };
    const rows = Object.entries(facts).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", { class: "mono" }, String(value))));
    const path = `/v1/flows/${flow.id}${query({ origin: flow.origin })}`;
    const deleted = await ask({
      title: "Flow",
      fields: [h("dl", { class: "facts" }, ...rows)],
      confirm: "Delete this record",
      danger: true,
      work: () => call("DELETE", path),
    });
    if (!deleted) return;
    toast("The record is deleted. An agent that still sees the flow writes it again.");
    this.load();
  }
}
