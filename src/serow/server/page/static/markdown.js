// Markdown that grows while it is streamed: what is finished is rendered by the server, the rest is plain text.

import { html } from "./api.js";
import { make, notice } from "./dom.js";

const PAUSE = 700; // ms between two pieces that are rendered while a text grows

const MOST_KEPT = 500; // rendered texts
const rendered = new Map();

/** Renders a whole text into an element; plain text stays where the server can't. */
export async function render(element, text) {
  if (!text) return element.replaceChildren();
  try {
    fill(element, await htmlOf(text));
  } catch {
    element.replaceChildren(make("p", { class: "plain" }, text));
  }
}

/** Puts HTML of the server's in; it holds nothing that runs. */
function fill(element, text) {
  const template = document.createElement("template");
  template.innerHTML = text;
  addCopyButtons(template.content);
  for (const table of template.content.querySelectorAll("table")) {
    const place = make("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Table" });
    table.replaceWith(place);
    place.append(table);
  }
  element.replaceChildren(template.content);
}

async function htmlOf(text) {
  if (!rendered.has(text)) rendered.set(text, await html("page/api/markdown", { text }));
  if (rendered.size > MOST_KEPT) rendered.delete(rendered.keys().next().value);
  return rendered.get(text);
}

const waiting = new WeakMap();
const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    render(target, waiting.get(target));
  }
}, { rootMargin: "400px" });

/** Shows plain text, and its rendering once it comes into sight. */
export function renderWhenSeen(element, text) {
  if (rendered.has(text)) return fill(element, rendered.get(text));
  element.replaceChildren(make("p", { class: "plain" }, text));
  waiting.set(element, text);
  seen.observe(element);
}

function addCopyButtons(content) {
  for (const block of content.querySelectorAll("pre")) {
    const copy = make("button", { type: "button", class: "copy", onclick: () => copyText(block.querySelector("code").textContent) }, "Copy");
    block.prepend(copy);
    block.tabIndex = 0;
  }
}

export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    notice("copied");
  } catch {
    notice("this browser does not allow copying here", true);
  }
}

/** A text that grows: `add` pieces, then `finish`. One write to the page for each frame. */
export class GrowingText {
  constructor(element) {
    this.element = element;
    this.done = make("div");
    this.tail = make("p", { class: "plain" });
    this.node = document.createTextNode("");
    this.tail.append(this.node);
    element.replaceChildren(this.done, this.tail);
    this.text = "";
    this.waiting = "";
    this.numRendered = 0;
    this.frame = 0;
    this.timer = 0;
    this.isRendering = false;
  }

  add(piece) {
    this.text += piece;
    this.waiting += piece;
    this.frame ||= requestAnimationFrame(() => this.show());
    this.timer ||= setTimeout(() => this.renderFinished(), PAUSE);
  }

  show() {
    this.frame = 0;
    this.node.appendData(this.waiting);
    this.waiting = "";
  }

  async renderFinished() {
    this.timer = 0;
    const end = finishedLength(this.text, this.numRendered);
    if (this.isRendering || end === this.numRendered) return;
    this.isRendering = true;
    const piece = make("div");
    await render(piece, this.text.slice(this.numRendered, end));
    this.isRendering = false;
    if (!this.tail.isConnected) return;
    this.done.append(...piece.childNodes);
    this.numRendered = end;
    this.waiting = "";
    this.node.data = this.text.slice(end);
  }

  async finish() {
    cancelAnimationFrame(this.frame);
    clearTimeout(this.timer);
    this.timer = -1;
    await render(this.element, this.text);
  }
}

/** Where the last block ends that nothing behind can change: a blank line outside of a fence. */
function finishedLength(text, start) {
  let end = start;
  let fence = "";
  let position = start;
  for (const line of text.slice(start).split("\n")) {
    position += line.length + 1;
    const mark = /^ {0,3}(`{3,}|~{3,})/.exec(line)?.[1] ?? "";
    if (mark && !fence) fence = mark;
    else if (mark && mark[0] === fence[0] && mark.length >= fence.length) fence = "";
    if (!fence && !line.trim() && position <= text.length) end = position;
  }
  return end;
}
