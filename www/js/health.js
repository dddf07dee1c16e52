// One sentence on how the cluster is, in words.
import { duration } from "./format.js";

/** {level: good|warn|bad, text}. `link` is how this page is connected to its node. */
export function describe(live) {
  const { status, link } = live;
  if (link === "refused") return { level: "bad", text: "Not let in: the access tokens have changed. Give your browser another one; if it does not ask, load the page again." };
  if (!status) return link === "unreachable" ? { level: "bad", text: "Not reachable: this node does not answer." } : { level: "idle", text: "Asking this node …" };
  if (link === "unreachable") {
    return { level: "bad", text: `Not reachable: ${status.name} has not answered for ${duration(5000 * Math.round((Date.now() - live.seenTime) / 5000))}. What you see is older than that.` };
  }
  if (!status.ready) {
    const reason = status.not_ready_reason || (status.grpc_enabled ? "starting" : "gRPC is switched off");
    return { level: "bad", text: `Not ready: ${status.name} takes no part in the cluster (${reason}).` };
  }
  const all = status.peers.length + 1;
  const away = status.peers.filter((peer) => !peer.connected).map((peer) => peer.name);
  const connected = `${all - away.length} of ${all} connected`;
  if (!status.leader) return { level: "bad", text: `No leader in term ${status.term}: ${connected}, writes wait for an election.` };
  const leads = `${status.leader_name} leads in term ${status.term}`;
  if (away.length) {
    return { level: "warn", text: `Degraded: ${leads}, ${connected}. ${list(away)} ${away.length === 1 ? "is" : "are"} cut off from ${status.name}.` };
  }
  const out = status.peers.filter((peer) => peer.role === "not_ready").map((peer) => peer.name);
  if (out.length) return { level: "warn", text: `Degraded: ${leads}, ${connected}. ${list(out)} ${out.length === 1 ? "is" : "are"} not ready.` };
  if (status.alarms.length) return { level: "warn", text: `Alarm on ${status.name}: ${status.alarms.join(", ")}. ${leads}, ${connected}.` };
  return { level: "good", text: `Healthy: ${leads}, ${connected}.` };
}

function list(names) {
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

/** Lasting facts that a user must not overlook. */
export function notices(live) {
  const { status } = live;
  if (!status) return [];
  const found = [];
  if (status.storage === "memory") found.push({ level: "warn", text: "Memory storage: this node keeps nothing on disk. What it holds is gone when it stops." });
  if (live.link === "polling") found.push({ level: "idle", text: "All live streams of this node are taken; this page asks every two seconds instead, and shows no flow rate." });
  return found;
}
