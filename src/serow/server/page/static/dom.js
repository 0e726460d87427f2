// Elements from words, and words from numbers.

/** make("button", {class: "x", onclick}, "text", child): attributes, listeners (on…) and properties of an element. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && typeof value !== "string") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

let numFields = 0;

/** A control with its label above it. */
export function field(label, control) {
  control.id = `field-${++numFields}`;
  return make("div", { class: "field" }, make("label", { for: control.id }, label), control);
}

export function bytes(count) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let unit = 0;
  while (count >= 1000 && unit < units.length - 1) [count, unit] = [count / 1000, unit + 1];
  return `${unit && count < 10 ? count.toFixed(1) : Math.round(count)} ${units[unit]}`;
}

export function seconds(nanoseconds) {
  const value = nanoseconds / 1e9;
  return value < 10 ? `${value.toFixed(2)} s` : `${Math.round(value)} s`;
}

export function rate(count, nanoseconds) {
  return nanoseconds ? `${(count / (nanoseconds / 1e9)).toFixed(1)} tokens/s` : "";
}

export function ago(date) {
  const passed = (Date.now() - new Date(date)) / 1000;
  const format = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  for (const [unit, size] of [["day", 86400], ["hour", 3600], ["minute", 60]]) {
    if (Math.abs(passed) >= size) return format.format(-Math.round(passed / size), unit);
  }
  return "just now";
}

let timer = 0;

/** Words at the foot of the page, read aloud too; they go away by themselves. */
export function notice(text, isError = false) {
  const place = document.getElementById("notice");
  place.textContent = text;
  place.className = isError ? "shown error" : "shown";
  clearTimeout(timer);
  timer = setTimeout(() => (place.className = ""), isError ? 10000 : 4000);
}

export function fail(error) {
  if (error.name !== "AbortError") notice(error.id ? `${error.message} (request ${error.id})` : error.message, true);
}

/** Saves text as a file of the user's. */
export function download(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

/** Asks with a dialog; the button that was pressed, "" when it was closed. */
export function ask(title, text, ...buttons) {
  const dialog = make("dialog", { "aria-label": title },
    make("form", { method: "dialog" }, make("h2", {}, title), make("p", {}, text),
      make("menu", {}, make("button", { value: "" }, "Cancel"), ...buttons.map((each) => make("button", { value: each, class: "primary" }, each)))));
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => (dialog.remove(), resolve(dialog.returnValue))));
}
