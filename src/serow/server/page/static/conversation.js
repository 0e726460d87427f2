// A conversation is a tree: each answer may be asked for again, each question asked otherwise, and nothing is lost.

import { change, tell } from "./storage.js";

export class Conversation {
  #known = 0; // how many of the nodes are those that the browser keeps

  constructor(data) {
    Object.assign(this, data);
    this.#known = this.nodes.length;
  }

  static create(model) {
    const now = Date.now();
    return new Conversation({ id: crypto.randomUUID?.() ?? `${now}-${Math.random()}`, title: "", model, created: now, updated: now, nodes: [], leaf: -1, settings: {} });
  }

  /** Whether the browser keeps all of it; false while an answer is written. */
  get isKept() {
    return this.nodes.length === this.#known;
  }

  get isEmpty() {
    return this.nodes.length === 0;
  }

  /** Adds a message behind `parent` (an index, -1 for none) and goes to it. */
  add(parent, message) {
    const index = this.nodes.push({ parent, ...message }) - 1;
    this.leaf = index;
    this.updated = Date.now();
    if (!this.title && message.role === "user") this.title = message.content.slice(0, 80);
    return index;
  }

  /** The messages from the first one to the leaf, as indices. */
  get path() {
    const found = [];
    for (let index = this.leaf; index >= 0; index = this.nodes[index].parent) found.unshift(index);
    return found;
  }

  siblings(index) {
    const { parent, role } = this.nodes[index];
    return this.nodes.flatMap((node, other) => (node.parent === parent && node.role === role ? [other] : []));
  }

  /** Goes to another branch: to its latest end. */
  choose(index) {
    let leaf = index;
    for (;;) {
      const next = this.nodes.findLastIndex((node) => node.parent === leaf);
      if (next < 0) break;
      leaf = next;
    }
    this.leaf = leaf;
  }

  /** The messages up to `index`, as /api/chat takes them. */
  messages(index) {
    const found = [];
    for (let each = index; each >= 0; each = this.nodes[each].parent) {
      const { role, content, thinking, images, tool_calls, tool_name, tool_call_id } = this.nodes[each];
      const message = { role, content, thinking, images, tool_calls, tool_name, tool_call_id };
      found.unshift(Object.fromEntries(Object.entries(message).filter(([name, value]) => name === "content" || (value && value.length))));
    }
    return found;
  }

  /** Keeps it; whether another tab had added to it, so that what this one has added stands elsewhere now. */
  async save() {
    if (this.isEmpty) return false;
    let isMoved = false;
    await change("conversations", this.id, (kept) => {
      isMoved = this.#join(kept?.nodes ?? []);
      return { ...this };
    });
    this.#known = this.nodes.length;
    tell("conversations", this.id);
    return isMoved;
  }

  /** Takes the nodes in that another tab has kept meanwhile; its own stand behind them. */
  #join(kept) {
    const others = kept.slice(this.#known);
    if (!others.length) return false;
    const moved = (index) => (index < this.#known ? index : index + others.length);
    const own = this.nodes.slice(this.#known).map((node) => Object.assign(node, { parent: moved(node.parent) }));
    this.nodes = [...this.nodes.slice(0, this.#known), ...others, ...own];
    this.leaf = moved(this.leaf);
    return true;
  }

  toMarkdown() {
    const parts = this.path.map((index) => {
      const { role, content, thinking, tool_calls } = this.nodes[index];
      const thought = thinking ? `> ${thinking.trim().replaceAll("\n", "\n> ")}\n\n` : "";
      const calls = (tool_calls ?? []).map((call) => `\n\n\`\`\`json\n${JSON.stringify(call.function, null, 2)}\n\`\`\``).join("");
      return `## ${role}\n\n${thought}${content}${calls}\n`;
    });
    return `# ${this.title || "Conversation"}\n\n${parts.join("\n")}`;
  }
}

/** A conversation from a file that this page has exported; throws what people can read. */
export function importConversation(text) {
  let data;
  try {
    data = JSON.parse(text);
  } catch {
    throw new Error("this file is no exported conversation");
  }
  const isMessage = (node, index) =>
    typeof node?.role === "string" && typeof node.content === "string" && Number.isInteger(node.parent) && node.parent >= -1 && node.parent < index;
  if (!Array.isArray(data?.nodes) || !data.nodes.every(isMessage) || !(data.leaf < data.nodes.length)) {
    throw new Error("this file is no exported conversation");
  }
  const own = Conversation.create(String(data.model ?? ""));
  return Object.assign(own, { title: String(data.title ?? ""), nodes: data.nodes, leaf: Number(data.leaf), settings: data.settings ?? {} });
}
