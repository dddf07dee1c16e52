// Starts the page: one live connection, four views, a route in the address's hash.
import { byId, h, setClass, setText } from "./dom.js";
import { Flows } from "./flows.js";
import { describe, notices } from "./health.js";
import { Keys } from "./keys.js";
import { Live } from "./live.js";
import { Log } from "./log.js";
import { Overview } from "./overview.js";
import { startTheme } from "./theme.js";

const live = new Live();
const overview = new Overview(live);
const views = { overview: { open() {}, close() {} }, flows: new Flows(live), keys: new Keys(), log: new Log() };
const LINKS = { live: "Live", polling: "Polling", unreachable: "Not reachable", refused: "Not let in", connecting: "Connecting" };
let current = "";

function route() {
  const name = location.hash.replace(/^#\//, "") || "overview";
  const wanted = Object.hasOwn(views, name) ? name : "overview";
  if (wanted === current) return;
  views[current]?.close();
  current = wanted;
  for (const view of Object.keys(views)) byId(`view-${view}`).hidden = view !== current;
  for (const link of document.querySelectorAll(".tabs a")) {
    if (link.dataset.view === current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  views[current].open();
  scrollTo(0, 0);
}

let shownNotices = "";

function update() {
  const { level, text } = describe(live);
  setText(byId("health-text"), text);
  setClass(byId("health"), `health ${level}`);
  setText(byId("link"), LINKS[live.link]);
  setClass(byId("link"), `pill ${live.link}`);
  const found = notices(live);
  const key = JSON.stringify(found);
  if (key !== shownNotices) {
    shownNotices = key;
    byId("notices").replaceChildren(...found.map((notice) => h("p", { class: `notice ${notice.level}` }, notice.text)));
  }
  const { status } = live;
  if (!status) return;
  setText(byId("where-cluster"), status.cluster);
  setText(byId("where-node"), `${status.datacenter} / ${status.name}`);
  setText(byId("foot-version"), `Rocinante ${status.version}`);
  document.title = `${level === "good" ? "" : "! "}${status.name} in ${status.cluster} – Rocinante`;
  overview.update();
}

startTheme(byId("theme"));
live.onChange(update);
addEventListener("hashchange", route);
route();
live.start();
