// The view "Ask": conversations with a model over /api/chat.

import { get, lines } from "./api.js";
import { Conversation, importConversation } from "./conversation.js";
import { ask as askUser, download, fail, make } from "./dom.js";
import { MessageView } from "./message.js";
import { Attachments } from "./pictures.js";
import { Settings } from "./settings.js";
import { all, listen, load, remember, remove, tell } from "./storage.js";

const NEAR = 80; // pixels from the end within which the page follows a growing answer

class AskView extends HTMLElement {
  async connectedCallback() {
    this.views = [];
    this.settings = new Settings();
    this.attachments = new Attachments();
    this.model = make("select", { "aria-label": "Model", onchange: () => this.useModel() });
    this.messages = make("div");
    this.log = make("div", { class: "log", role: "log", "aria-label": "Conversation", onscroll: () => this.scrolled() }, this.messages);
    new ResizeObserver(() => this.follow()).observe(this.messages);
    this.list = make("ul", { class: "conversations" });
    this.text = make("textarea", { rows: 3, "aria-label": "Message", placeholder: "Ask something. Enter sends, Shift+Enter begins a new line.", onkeydown: (event) => this.typed(event) });
    this.send = make("button", { type: "submit", class: "primary" }, "Send");
    this.stop = make("button", { type: "button", hidden: true, onclick: () => this.abort?.abort() }, "Stop");
    const composer = make("form", { class: "composer", onsubmit: (event) => (event.preventDefault(), this.submit()) },
      this.attachments.element, this.text, make("div", { class: "row" }, this.attachments.button("Picture"), this.model, make("span", { class: "grow" }), this.stop, this.send));
    this.append(this.side(), make("section", { class: "conversation" }, this.log, composer, this.settings.element));
    this.attachments.receive(this);
    listen(({ store, id }) => store === "conversations" && this.hear(id).catch(fail));
    this.open(Conversation.create(""));
    await Promise.all([this.showModels(), this.showList()]).catch(fail);
  }

  disconnectedCallback() {
    this.abort?.abort();
  }

  side() {
    const input = make("input", { type: "file", accept: ".json", hidden: true, onchange: () => this.import(input) });
    return make("details", { class: "side", open: innerWidth > 800 }, make("summary", {}, "Conversations"),
      make("div", { class: "row" }, make("button", { type: "button", onclick: () => this.open(Conversation.create(this.model.value)) }, "New"), input, make("button", { type: "button", onclick: () => input.click() }, "Import")),
      this.list);
  }

  async showModels() {
    const { models } = await get("api/tags");
    const usable = models.filter(({ capabilities = [] }) => capabilities.includes("completion"));
    this.model.replaceChildren(...usable.map(({ name }) => make("option", {}, name)));
    if (!usable.length) this.messages.replaceChildren(make("p", { class: "quiet" }, "No model is here yet. ", make("a", { href: "#models" }, "Fetch one.")));
    const wanted = this.conversation.model || localStorage.getItem("serow-model");
    if (usable.some(({ name }) => name === wanted)) this.model.value = wanted;
    await this.useModel();
  }

  async useModel() {
    if (!this.model.value) return;
    this.conversation.model = this.model.value;
    remember("serow-model", this.model.value);
    await this.settings.follow(this.model.value).catch(fail);
  }

  async showList() {
    const kept = (await all("conversations")).sort((a, b) => b.updated - a.updated);
    this.list.replaceChildren(...kept.map(({ id, title }) => make("li", { "aria-current": id === this.conversation.id && "true" },
      make("button", { type: "button", class: "title", onclick: async () => this.open(new Conversation(await load("conversations", id))) }, title || "Untitled"),
      make("button", { type: "button", "aria-label": `Export ${title}`, onclick: () => this.export(id) }, "⤓"),
      make("button", { type: "button", "aria-label": `Delete ${title}`, onclick: () => this.delete(id, title) }, "×"))));
  }

  /** Another tab has changed a conversation. */
  async hear(id) {
    await this.showList();
    const kept = id === this.conversation.id && this.conversation.isKept && (await load("conversations", id));
    if (!kept || kept.id !== this.conversation.id || !this.conversation.isKept) return;
    const { leaf } = this.conversation;
    this.conversation = new Conversation(kept);
    this.conversation.choose(leaf);
    this.show();
  }

  async export(id) {
    const conversation = new Conversation(await load("conversations", id));
    const kind = await askUser("Export", "JSON can be imported again; Markdown is for reading.", "Markdown", "JSON");
    const name = (conversation.title || "conversation").replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 40);
    if (kind === "JSON") download(`${name}.json`, "application/json", JSON.stringify(conversation, null, 1));
    if (kind === "Markdown") download(`${name}.md`, "text/markdown", conversation.toMarkdown());
  }

  async import(input) {
    try {
      const conversation = importConversation(await input.files[0].text());
      await conversation.save();
      this.open(conversation);
    } catch (error) {
      fail(error);
    }
    input.value = "";
  }

  async delete(id, title) {
    if ((await askUser("Delete", `“${title}” is deleted from this browser.`, "Delete")) !== "Delete") return;
    await remove("conversations", id);
    tell("conversations", id);
    if (id === this.conversation.id) this.open(Conversation.create(this.model.value));
    await this.showList();
  }

  open(conversation) {
    this.abort?.abort();
    this.conversation = conversation;
    this.settings.value = conversation.settings;
    if ([...this.model.options].some(({ value }) => value === conversation.model)) this.model.value = conversation.model;
    this.show();
    this.showList().catch(fail);
  }

  /** Shows the branch that was chosen; messages that are there already stay. */
  show() {
    const { path } = this.conversation;
    let same = 0;
    while (same < path.length && this.views[same]?.shows(this.conversation, path[same])) same++;
    if (!same) this.messages.replaceChildren();
    for (const { element } of this.views.splice(same)) element.remove();
    const added = path.slice(same).map((index) => this.view(index));
    this.views.push(...added);
    this.messages.append(...added.map(({ element }) => element));
    for (const view of added) view.show();
    this.isAtEnd = true;
    this.follow();
  }

  view(index) {
    return new MessageView(this.conversation, index, {
      edit: (each) => this.edit(each),
      again: (each) => this.answer(this.conversation.nodes[each].parent),
      choose: (each) => (this.conversation.choose(each), this.conversation.save().catch(fail), this.show()),
      results: (each, texts) => this.results(each, texts),
    });
  }

  typed(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.submit();
  }

  async submit() {
    const content = this.text.value.trim();
    if (!content && !this.attachments.images.length) return;
    if (this.abort) return fail(new Error("an answer is being written: stop it first"));
    const parent = this.editing === undefined ? this.conversation.leaf : this.conversation.nodes[this.editing].parent;
    const index = this.conversation.add(parent, { role: "user", content, images: this.attachments.images });
    this.text.value = "";
    this.editing = undefined;
    this.attachments.clear();
    this.show();
    await this.answer(index);
  }

  edit(index) {
    const { content, images = [] } = this.conversation.nodes[index];
    this.editing = index;
    this.text.value = content;
    this.attachments.images = images;
    this.attachments.show();
    this.text.focus();
  }

  async results(index, texts) {
    let parent = index;
    this.conversation.nodes[index].tool_calls.forEach((call, place) => {
      parent = this.conversation.add(parent, { role: "tool", content: texts[place], tool_name: call.function.name, tool_call_id: call.id });
    });
    this.show();
    await this.answer(parent);
  }

  /** Asks for an answer to the message at `parent`, as one more branch. */
  async answer(parent) {
    let request;
    try {
      request = this.settings.request;
    } catch (error) {
      return fail(error);
    }
    const { conversation } = this;
    const messages = [...(request.system ? [{ role: "system", content: request.system }] : []), ...conversation.messages(parent)];
    conversation.settings = this.settings.value;
    const index = conversation.add(parent, { role: "assistant", model: this.model.value, content: "", thinking: "" });
    this.show();
    const view = this.views.at(-1);
    await this.stream(view, conversation.nodes[index], { model: this.model.value, messages, ...request.fields });
    const isMoved = await conversation.save().catch(fail);
    if (isMoved && conversation.id === this.conversation.id) {
      this.conversation = conversation;
      this.show();
    }
    await this.showList();
  }

  async stream(view, node, body) {
    this.abort = new AbortController();
    this.working(true);
    view.grow();
    try {
      for await (const record of lines("api/chat", body, this.abort.signal)) this.take(record, view, node);
    } catch (error) {
      node.error = error.name === "AbortError" ? "" : error.id ? `${error.message} (request ${error.id})` : error.message;
    }
    this.abort = null;
    this.working(false);
    await view.finish();
  }

  take({ message = {}, done, logprobs, warnings, ...stats }, view, node) {
    node.content += message.content ?? "";
    node.thinking += message.thinking ?? "";
    if (message.tool_calls) node.tool_calls = [...(node.tool_calls ?? []), ...message.tool_calls];
    if (logprobs && !message.thinking) node.logprobs = [...(node.logprobs ?? []), ...logprobs];
    if (done) Object.assign(node, { stats, warnings, done });
    view.add(message);
  }

  /** Keeps the end in sight for a reader who is there, whatever grows: an answer, or its rendering. */
  follow() {
    if (this.isAtEnd) this.log.scrollTop = this.log.scrollHeight;
  }

  scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.log;
    this.isAtEnd = scrollHeight - scrollTop - clientHeight < NEAR;
  }

  working(isWorking) {
    this.stop.hidden = !isWorking;
    this.send.hidden = isWorking;
  }
}

customElements.define("ask-view", AskView);
export default () => make("ask-view");
