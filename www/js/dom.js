// Elements without innerHTML: whatever comes from the cluster is text, never markup.

/** h("p", {class: "x", onclick: f}, "text", child): null children are left out. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Touches the page only where something changed: keeps selections, focus and screen readers quiet. */
export function setText(element, text) {
  const wanted = String(text);
  if (element.textContent !== wanted) element.textContent = wanted;
}

export function setClass(element, name) {
  if (element.className !== name) element.className = name;
}

export function toast(message, kind = "good") {
  const element = h("div", { class: `toast ${kind}` }, message);
  byId("toasts").append(element);
  setTimeout(() => element.remove(), kind === "bad" ? 9000 : 4500);
}

/**
 * A modal dialog. `fields` are elements between text and buttons; `confirm` names the button.
 * Resolves to true when confirmed, with the dialog still open until `work` (async, may throw) is done.
 */
export function ask({ title, text, fields = [], confirm = "", danger = false, work = async () => {} }) {
  const dialog = byId("dialog");
  return new Promise((resolve) => {
    const problem = h("p", { class: "form-error", role: "alert", hidden: true });
    const go = confirm ? h("button", { type: "submit", class: danger ? "danger" : "primary" }, confirm) : null;
    const leave = h("button", { type: "button", onclick: () => dialog.close() }, confirm ? "Cancel" : "Close");
    let confirmed = false;
    const form = h(
      "form",
      {
        method: "dialog",
        onsubmit: async (event) => {
          event.preventDefault();
          go.disabled = true;
          problem.hidden = true;
          try {
            await work();
            confirmed = true;
            dialog.close();
          } catch (error) {
            problem.textContent = error.message;
            problem.hidden = false;
            go.disabled = false;
          }
        },
      },
      h("h2", { id: "dialog-title" }, title),
      text ? h("p", {}, text) : null,
      ...fields,
      problem,
      h("div", { class: "buttons" }, leave, go),
    );
    dialog.replaceChildren(form);
    dialog.onclose = () => {
      dialog.replaceChildren();
      resolve(confirmed);
    };
    dialog.showModal();
    const first = form.querySelector("input, select, textarea");
    (first ?? leave).focus();
  });
}
