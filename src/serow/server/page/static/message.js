// One message on the page: thinking folded, Markdown, pictures, calls, numbers, warnings.

import { make, rate, seconds } from "./dom.js";
import { copyText, GrowingText, renderWhenSeen } from "./markdown.js";
import { source } from "./pictures.js";

export class MessageView {
  /** `actions` has what its buttons do: edit, again, choose, results. */
  constructor(conversation, index, actions) {
    this.node = conversation.nodes[index];
    this.thinking = make("div");
    this.thought = make("details", { class: "thinking", hidden: true }, make("summary", {}, "Thinking"), this.thinking);
    this.content = make("div", { class: "content" });
    this.calls = make("div");
    this.foot = make("footer");
    this.element = make("article", { class: `message ${this.node.role}`, "aria-label": this.node.role === "user" ? "You" : this.node.model ?? this.node.role },
      this.head(conversation, index, actions), this.thought, this.content, this.calls, this.foot);
    this.actions = actions;
    this.index = index;
  }

  /** Whether this is how a message of a conversation looks now. */
  shows(conversation, index) {
    return this.node === conversation.nodes[index] && this.index === index && this.numSiblings === conversation.siblings(index).length;
  }

  head(conversation, index, actions) {
    const { role, model, content } = this.node;
    const siblings = conversation.siblings(index);
    this.numSiblings = siblings.length;
    const place = siblings.indexOf(index);
    const step = (to, label, text) => make("button", { type: "button", "aria-label": label, disabled: siblings[to] === undefined, onclick: () => actions.choose(siblings[to]) }, text);
    return make("header", {}, make("b", {}, role === "user" ? "You" : role === "tool" ? `Result of ${this.node.tool_name}` : model ?? role),
      siblings.length > 1 && make("span", { class: "branches" }, step(place - 1, "Earlier branch", "‹"), ` ${place + 1}/${siblings.length} `, step(place + 1, "Later branch", "›")),
      make("span", { class: "actions" },
        role === "user" && make("button", { type: "button", onclick: () => actions.edit(index) }, "Edit"),
        role === "assistant" && make("button", { type: "button", onclick: () => actions.again(index) }, "Ask again"),
        make("button", { type: "button", onclick: () => copyText(content || this.node.content) }, "Copy")));
  }

  /** Shows a message that is complete. */
  show() {
    const { role, content, thinking, images = [], error, logprobs } = this.node;
    const text = make("div");
    this.content.replaceChildren(text);
    this.thought.hidden = !thinking;
    if (thinking) renderWhenSeen(this.thinking, thinking);
    if (logprobs?.length) text.append(tokens(logprobs));
    else if (role === "user" || role === "tool") text.append(make("p", { class: "plain" }, content));
    else if (content) renderWhenSeen(text, content);
    this.content.append(...images.map((image) => make("img", { class: "picture", src: source(image), alt: "attached picture" })));
    this.showCalls();
    this.foot.replaceChildren(...numbers(this.node));
    if (error) this.foot.append(make("p", { class: "error", role: "alert" }, error));
  }

  /** Takes the pieces of an answer while it is streamed. */
  grow() {
    this.text = new GrowingText(this.content);
    this.element.setAttribute("aria-busy", "true");
    this.foot.replaceChildren(make("progress"));
  }

  add({ content, thinking, tool_calls }) {
    if (thinking) {
      this.thought.hidden = false;
      this.thoughtText ??= new GrowingText(this.thinking);
      this.thoughtText.add(thinking);
    }
    if (content) this.text.add(content);
    if (tool_calls) this.showCalls();
  }

  async finish() {
    this.element.removeAttribute("aria-busy");
    await Promise.all([this.text.finish(), this.thoughtText?.finish()]);
    this.show();
  }

  showCalls() {
    const { tool_calls = [], done } = this.node;
    if (!tool_calls.length) return this.calls.replaceChildren();
    const results = tool_calls.map(() => make("textarea", { rows: 2, "aria-label": "Result" }));
    const send = () => this.actions.results(this.index, results.map((each) => each.value));
    this.calls.replaceChildren(...tool_calls.map((call, place) => make("section", { class: "call" },
      make("b", {}, `${call.function.name}`), make("pre", { tabIndex: 0 }, make("code", {}, JSON.stringify(call.function.arguments, null, 2))), done && results[place])),
      done && make("button", { type: "button", onclick: send }, "Send results"));
  }
}

function tokens(logprobs) {
  const spans = logprobs.map(({ token, logprob, top_logprobs = [] }) => {
    const others = top_logprobs.map((each) => `${JSON.stringify(each.token)} ${(Math.exp(each.logprob) * 100).toFixed(1)} %`);
    const span = make("span", { title: [`${(Math.exp(logprob) * 100).toFixed(1)} %`, ...others].join("\n") }, token);
    span.className = `token p${Math.min(4, Math.floor(Math.exp(logprob) * 5))}`;
    return span;
  });
  return make("p", { class: "plain" }, ...spans);
}

function numbers({ stats, warnings = [] }) {
  const parts = [];
  if (stats) {
    const { eval_count, eval_duration, prompt_eval_count, prompt_cached_count, load_duration, total_duration, done_reason } = stats;
    const cached = prompt_cached_count ? ` (${prompt_cached_count} cached)` : "";
    const words = [`${eval_count ?? 0} tokens`, rate(eval_count, eval_duration), `prompt ${prompt_eval_count ?? 0} tokens${cached}`,
      load_duration > 1e8 && `loaded in ${seconds(load_duration)}`, `${seconds(total_duration ?? 0)} in all`, done_reason === "length" && "cut at its limit"];
    parts.push(make("p", { class: "quiet" }, words.filter(Boolean).join(" · ")));
  }
  if (warnings.length) parts.push(make("ul", { class: "warnings" }, ...warnings.map((each) => make("li", {}, each))));
  return parts;
}
