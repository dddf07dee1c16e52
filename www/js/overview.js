// Rates, nodes, and what can be done to them.
import { call, post } from "./api.js";
import { ask, byId, h, setClass, setText, toast } from "./dom.js";
import { bytes, compact, count, duration, heard, rate, roleName } from "./format.js";
import { Sparkline } from "./sparkline.js";

const SAMPLES = 60;
const TILES = [
  { name: "entries", label: "Log entries", unit: "per second", total: (status) => `${count(status.applied)} applied` },
  { name: "flows", label: "Flow updates", unit: "per second", total: (status) => `${count(status.flows)} in the table` },
  { name: "keys", label: "Key writes", unit: "per second", total: (status) => (status.keys === 1 ? "1 key" : `${count(status.keys)} keys`) },
];

export class Overview {
  constructor(live) {
    this.live = live;
    this.cards = new Map();
    this.tiles = TILES.map((tile) => this.makeTile(tile));
    this.makeActions();
  }

  makeTile(tile) {
    const parts = { ...tile, number: h("strong"), sum: h("span", { class: "sum" }), spark: new Sparkline(SAMPLES) };
    byId("tiles").append(
      h("article", { class: `tile ${tile.name}` }, h("h3", {}, tile.label), h("p", { class: "figure" }, parts.number, " ", h("span", { class: "unit" }, tile.unit)), parts.sum, parts.spark.svg),
    );
    return parts;
  }

  update() {
    const { status, rates, cut } = this.live;
    if (!status) return;
    for (const tile of this.tiles) {
      setText(tile.number, cut ? "–" : rate(rates.now(tile.name)));
      setText(tile.sum, tile.total(status));
      tile.spark.draw(rates.history[tile.name]);
    }
    this.updateNodes(status, cut);
    this.updateFacts(status);
    this.updateActions(status, !cut);
  }

  updateNodes(status, cut) {
    const most = Math.max(status.commit, ...status.peers.map((peer) => peer.commit));
    const own = { ...status, connected: true, own: true, learner: false, lag: Math.max(0, most - status.applied), known: true };
    const nodes = [own, ...status.peers.map((peer) => ({ ...peer, known: peer.role !== "" }))];
    nodes.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
    const container = byId("nodes");
    for (const [id, card] of this.cards) {
      if (!nodes.some((node) => node.id === id)) {
        card.root.remove();
        this.cards.delete(id);
      }
    }
    nodes.forEach((node, place) => {
      if (!this.cards.has(node.id)) this.cards.set(node.id, makeCard());
      const card = this.cards.get(node.id);
      if (container.children[place] !== card.root) container.insertBefore(card.root, container.children[place] ?? null);
      showNode(card, node, status, cut);
    });
  }

  updateFacts(status) {
    const facts = {
      Name: status.name,
      Endpoint: status.endpoint,
      "Server id": status.id,
      Storage: status.storage === "memory" ? "memory (not on disk)" : status.storage,
      "Log size": bytes(status.log_bytes),
      "Log from": `index ${count(status.first_index)} to ${count(status.last_index)}`,
      Snapshot: status.snapshot_index ? `at index ${count(status.snapshot_index)}` : "none yet",
      Revision: count(status.revision),
      Up: duration(status.uptime_ms),
      Version: status.version,
    };
    const list = byId("facts");
    if (!list.children.length) for (const name of Object.keys(facts)) list.append(h("div", {}, h("dt", {}, name), h("dd")));
    Object.values(facts).forEach((value, place) => setText(list.children[place].lastChild, value));
  }

  makeActions() {
    this.hand = h("button", { type: "button", id: "act-transfer", onclick: () => this.transfer() }, "Hand over leadership …");
    this.snap = h("button", { type: "button", id: "act-snapshot", onclick: () => this.snapshot() }, "Take a snapshot");
    this.grpc = h("button", { type: "button", id: "act-grpc", onclick: () => this.switchGrpc() }, "Switch gRPC off …");
    this.handText = h("p");
    this.grpcText = h("p");
    const row = (button, text) => h("div", { class: "action" }, text, button);
    byId("actions").append(
      row(this.hand, this.handText),
      row(this.snap, h("p", {}, "Write the state to a snapshot and compact the log behind it.")),
      row(this.grpc, this.grpcText),
    );
  }

  updateActions(status, reachable) {
    setText(this.handText, status.leader ? `${status.leader_name} leads. Another voter can take over.` : "There is no leader to hand over from.");
    this.hand.disabled = !reachable || !status.ready || !status.leader || !status.peers.length;
    this.snap.disabled = !reachable || !status.ready;
    this.grpc.disabled = !reachable;
    setText(this.grpc, status.grpc_enabled ? "Switch gRPC off …" : "Switch gRPC on …");
    setClass(this.grpc, status.grpc_enabled ? "caution" : "primary");
    setText(
      this.grpcText,
      status.grpc_enabled ? `${status.name} takes client and protocol messages.` : `gRPC is off: ${status.name} takes no client or protocol message.`,
    );
  }

  async transfer() {
    const { status } = this.live;
    const choices = [status, ...status.peers].filter((node) => node.id !== status.leader && !node.learner && node.connected !== false);
    const select = h(
      "select",
      { name: "to" },
      h("option", { value: "" }, "the most up-to-date voter"),
      ...choices.map((node) => h("option", { value: node.id }, `${node.name} (${node.endpoint})`)),
    );
    let leader = "";
    const done = await ask({
      title: "Hand over leadership?",
      text: `${status.leader_name} stops leading once the other has caught up. Writes wait for a moment; none is lost.`,
      fields: [h("label", { class: "field" }, "New leader", select)],
      confirm: "Hand over",
      work: async () => {
        leader = (await post("/v1/admin/transfer", select.value ? { to: select.value } : {})).leader_name;
      },
    });
    if (done) toast(`${leader} leads now.`);
  }

  async switchGrpc() {
    const { status } = this.live;
    const enabled = !status.grpc_enabled;
    const text = enabled
      ? `${status.name} joins the cluster again, catches up and takes clients.`
      : `${status.name} leaves its work until gRPC is switched on again: clients and the other nodes cannot reach it${status.leader === status.id ? ", and it hands leadership over first" : ""}. This page goes on working.`;
    const done = await ask({
      title: enabled ? `Switch gRPC on for ${status.name}?` : `Switch gRPC off for ${status.name}?`,
      text,
      confirm: enabled ? "Switch on" : "Switch off",
      danger: !enabled,
      work: () => post("/v1/admin/grpc", { enabled }),
    });
    if (done) toast(`gRPC is being switched ${enabled ? "on" : "off"}.`);
  }

  async snapshot() {
    this.snap.disabled = true;
    try {
      const info = await call("POST", "/v1/admin/snapshot", { body: "{}", headers: { "Content-Type": "application/json" }, timeoutMs: 60_000 });
      toast(`Snapshot at index ${count(info.index)}, ${bytes(info.size_bytes)}.`);
    } catch (error) {
      toast(error.message, "bad");
    } finally {
      this.snap.disabled = false;
    }
  }
}

function makeCard() {
  const card = { name: h("h3"), own: h("span", { class: "tag" }, "this node"), role: h("span"), where: h("p", { class: "where-line" }), state: h("p"), cells: {} };
  const list = h("dl");
  for (const name of ["Term", "Commit", "Applied", "Lag"]) {
    card.cells[name] = h("dd");
    list.append(h("div", {}, h("dt", {}, name), card.cells[name]));
  }
  card.link = h("a", { rel: "noopener" }, "Open its page");
  card.root = h("article", { class: "node" }, h("div", { class: "node-head" }, card.name, card.own, card.role), card.where, list, h("div", { class: "node-foot" }, card.state, card.link));
  return card;
}

function showNode(card, node, status, cut) {
  const leads = node.id === status.leader && node.connected;
  const role = node.own ? node.role : !node.connected ? "cut off" : roleName(node.role);
  setText(card.name, node.name);
  setText(card.role, roleName(node.learner && role === "follower" ? "learner" : role));
  setClass(card.role, `role ${leads ? "leader" : role.replace(" ", "-").replace("_", "-")}`);
  setClass(card.root, `node${leads ? " leads" : ""}${node.connected ? "" : " away"}${node.own ? " own" : ""}`);
  card.own.hidden = !node.own;
  setText(card.where, node.endpoint);
  const values = node.known ? [count(node.term), count(node.commit), count(node.applied), node.lag ? compact(node.lag) : "0"] : ["–", "–", "–", "–"];
  Object.values(card.cells).forEach((cell, place) => setText(cell, values[place]));
  setClass(card.cells.Lag, node.known && node.lag > 1000 ? "late" : "");
  const own = cut ? "not answering" : node.grpc_enabled ? "answering" : "gRPC is off";
  setText(card.state, node.own ? own : node.connected ? `connected, heard ${heard(node.heard_ms)}` : `cut off, heard ${heard(node.heard_ms)}`);
  setClass(card.state, `line ${(node.own ? !cut && node.grpc_enabled : node.connected) ? "good" : "bad"}`);
  card.link.hidden = node.own || !node.rest;
  if (!node.own && node.rest) {
    const host = node.address === status.address ? location.hostname : node.address.includes(":") ? `[${node.address}]` : node.address;
    card.link.href = `http://${host}:${node.rest}/`;
    card.link.setAttribute("aria-label", `Open the page of ${node.name}`);
  }
}
