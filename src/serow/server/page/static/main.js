// The frame of the page: views by the address's #name, and the key.

import { key } from "./api.js";
import { fail, make, notice } from "./dom.js";

const VIEWS = ["ask", "draw", "models", "now"];
const place = document.getElementById("view");
const dialog = document.getElementById("key-dialog");
const button = document.getElementById("key");

async function show() {
  const name = VIEWS.includes(location.hash.slice(1)) ? location.hash.slice(1) : VIEWS[0];
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const title = `${name[0].toUpperCase()}${name.slice(1)}`;
  document.title = `${title} · Serow`;
  const { default: view } = await import(`./${name}.js`);
  place.replaceChildren(make("h1", { class: "hidden" }, title), view());
}

addEventListener("hashchange", () => show().then(() => place.focus(), fail));

document.addEventListener("refused", ({ detail }) => {
  button.hidden = false;
  document.getElementById("key-scope").textContent = detail.message;
  if (!dialog.open) dialog.showModal();
});

button.addEventListener("click", () => dialog.showModal());

dialog.addEventListener("close", () => {
  if (dialog.returnValue !== "save") return;
  const input = dialog.querySelector("input");
  key.set(input.value.trim());
  input.value = "";
  button.hidden = false;
  notice("the key is used in this tab");
  show().catch(fail);
});

button.hidden = !key.get();
show().catch(fail);
