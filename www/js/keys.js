// Keys as a tree by "/", and one key to look at, edit and delete.
import { call, get, isText, keyName, keyPath, query, toBytes } from "./api.js";
import { ask, byId, h, setText, toast } from "./dom.js";
import { bytes, count } from "./format.js";

const PAGE = 500;

export class Keys {
  constructor() {
    this.prefix = "";
    this.keys = [];
    this.cursor = "";
    this.selected = null;
    byId("keys-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.go(byId("keys-prefix").value);
    });
    byId("keys-new").addEventListener("click", () => this.create());
    byId("keys-more").addEventListener("click", () => this.load(true));
    this.showNothing();
  }

  open() {
    this.load();
  }

  close() {}

  go(prefix) {
    this.prefix = prefix;
    byId("keys-prefix").value = prefix;
    this.load();
  }

  async load(more = false) {
    const prefix = this.prefix;
    const empty = byId("keys-empty");
    try {
      const page = await get(`/v1/kv${query({ prefix, limit: PAGE, cursor: more ? this.cursor : "", keys_only: true, serializable: true })}`);
      if (prefix !== this.prefix) return;
      this.keys = more ? [...this.keys, ...page.keys] : page.keys;
      this.cursor = page.cursor;
      setText(byId("keys-sub"), `${count(this.keys.length + page.remaining)} ${prefix ? "below this prefix" : "keys"}, revision ${count(page.revision)}`);
      byId("keys-more").hidden = !page.cursor;
      setText(byId("keys-more"), `Show more (${count(page.remaining)} left)`);
      empty.hidden = this.keys.length > 0;
      setText(empty, prefix ? "No key begins so." : "No keys yet. Make the first one with “New key”.");
      this.showList();
    } catch (error) {
      empty.hidden = false;
      setText(empty, error.message);
    }
  }

  showList() {
    const folders = new Map();
    const leaves = [];
    for (const key of this.keys) {
      const rest = key.key_encoding === "utf-8" ? key.key.slice(this.prefix.length) : "";
      const slash = rest.indexOf("/", 1);
      if (slash > 0) {
        const folder = this.prefix + rest.slice(0, slash + 1);
        folders.set(folder, (folders.get(folder) ?? 0) + 1);
      } else leaves.push(key);
    }
    const short = (name) => name.slice(this.prefix.length) || name;
    const items = [...folders].map(([folder, number]) =>
      h("li", {}, h("button", { type: "button", class: "folder", onclick: () => this.go(folder) }, h("span", { class: "name" }, short(folder)), h("span", { class: "faint" }, count(number)))),
    );
    for (const key of leaves) {
      const binary = key.key_encoding !== "utf-8";
      const current = this.selected !== null && keyPath(this.selected) === keyPath(key);
      items.push(
        h("li", {}, h("button", { type: "button", class: "key", "aria-current": current ? "true" : null, onclick: () => this.select(key) }, h("span", { class: "name" }, binary ? keyName(key) : short(key.key)), h("span", { class: "faint" }, binary ? "binary" : `v${count(key.version)}`))),
      );
    }
    byId("keys-list").replaceChildren(...items);
    this.showCrumbs();
  }

  showCrumbs() {
    const crumbs = [h("button", { type: "button", onclick: () => this.go("") }, "all keys")];
    let at = 0;
    for (;;) {
      const slash = this.prefix.indexOf("/", at + (at === 0 ? 1 : 0));
      if (slash < 0) break;
      const prefix = this.prefix.slice(0, slash + 1);
      crumbs.push(h("button", { type: "button", onclick: () => this.go(prefix) }, this.prefix.slice(at, slash + 1)));
      at = slash + 1;
    }
    if (at < this.prefix.length) crumbs.push(h("span", {}, `${this.prefix.slice(at)}…`));
    byId("keys-crumbs").replaceChildren(...crumbs);
  }

  async select(key) {
    try {
      this.showKey(await get(keyPath(key)));
      this.showList();
    } catch (error) {
      toast(error.message, "bad");
      this.load();
    }
  }

  showNothing() {
    this.selected = null;
    byId("keys-editor").replaceChildren(h("p", { class: "empty" }, "Choose a key to see its value."));
  }

  showKey(key) {
    this.selected = key;
    const value = toBytes(key.value, key.value_encoding);
    const editable = isText(value);
    const area = h("textarea", { id: "value", spellcheck: "false", rows: "12", readonly: !editable, value: editable ? key.value : hexDump(value) });
    const save = h("button", { type: "button", class: "primary", id: "key-save", disabled: true, onclick: () => this.save(key, area.value) }, "Save");
    area.addEventListener("input", () => (save.disabled = area.value === key.value));
    const facts = { Revision: count(key.mod_revision), "Made at": count(key.create_revision), Version: count(key.version), Size: bytes(value.length) };
    byId("keys-editor").replaceChildren(
      h("h2", { class: "key-title mono" }, keyName(key)),
      h("dl", { class: "facts inline" }, ...Object.entries(facts).map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd", {}, text)))),
      h("label", { class: "field", for: "value" }, editable ? "Value" : "Value (binary, shown in hex, not editable here)"),
      area,
      h("div", { class: "buttons" }, h("button", { type: "button", class: "danger-quiet", id: "key-delete", onclick: () => this.remove(key) }, "Delete …"), h("button", { type: "button", onclick: () => this.select(key) }, "Reload"), save),
    );
  }

  async save(key, text) {
    try {
      await call("PUT", keyPath(key), { body: text, headers: { "Content-Type": "text/plain; charset=utf-8", "If-Match": `"${key.mod_revision}"` } });
      toast("Saved.");
      await this.select(key);
      this.load();
    } catch (error) {
      toast(error.status === 409 ? "Not saved: somebody else changed this key meanwhile. Reload it to see how." : error.message, "bad");
    }
  }

  async remove(key) {
    const done = await ask({
      title: "Delete this key?",
      fields: [h("p", { class: "key-title mono" }, keyName(key)), h("p", {}, "Its older revisions can be read until they are compacted.")],
      confirm: "Delete",
      danger: true,
      work: () => call("DELETE", keyPath(key)),
    });
    if (!done) return;
    toast("Deleted.");
    this.showNothing();
    this.load();
  }

  async create() {
    const name = h("input", { name: "key", required: true, autocomplete: "off", spellcheck: "false", value: this.prefix });
    const value = h("textarea", { name: "value", rows: "6", spellcheck: "false" });
    const key = () => ({ key: name.value, key_encoding: "utf-8" });
    const done = await ask({
      title: "New key",
      fields: [h("label", { class: "field" }, "Key", name), h("label", { class: "field" }, "Value", value)],
      confirm: "Create",
      work: async () => {
        try {
          await call("PUT", keyPath(key()), { body: value.value, headers: { "Content-Type": "text/plain; charset=utf-8", "If-None-Match": "*" } });
        } catch (error) {
          throw error.status === 409 ? new Error("There is a key of this name already.") : error;
        }
      },
    });
    if (!done) return;
    toast("Created.");
    await this.load();
    await this.select(key());
  }
}

const HEX_BYTES_MAX = 4096;

function hexDump(value) {
  const lines = [];
  for (let at = 0; at < Math.min(value.length, HEX_BYTES_MAX); at += 16) {
    const row = [...value.slice(at, at + 16)];
    const hex = row.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const text = row.map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : "·")).join("");
    lines.push(`${at.toString(16).padStart(6, "0")}  ${hex.padEnd(47)}  ${text}`);
  }
  if (value.length > HEX_BYTES_MAX) lines.push(`… ${count(value.length - HEX_BYTES_MAX)} more bytes`);
  return lines.join("\n");
}
