// What a conversation is asked with: system prompt, thinking, options, format, tools.

import { call } from "./api.js";
import { field, make } from "./dom.js";

const OPTIONS = [
  ["temperature", "0.8"], ["top_p", "0.9"], ["top_k", "40"], ["min_p", "0"], ["num_ctx", "the server's"], ["num_predict", "-1"],
  ["seed", "random"], ["repeat_penalty", "1"],
];

export class Settings {
  constructor() {
    this.system = make("textarea", { rows: 2 });
    this.think = make("select", {}, ...["", "true", "false", "low", "medium", "high"].map((value) => make("option", { value }, value || "as the model does")));
    this.options = Object.fromEntries(OPTIONS.map(([name, usual]) => [name, make("input", { inputmode: "decimal", placeholder: usual })]));
    this.format = make("textarea", { rows: 3, spellcheck: false, placeholder: 'json, or a JSON schema: {"type": "object", …}' });
    this.tools = make("textarea", { rows: 3, spellcheck: false, placeholder: '[{"type": "function", "function": {"name": …, "parameters": {…}}}]' });
    this.logprobs = make("input", { type: "checkbox" });
    this.element = make("details", { class: "settings" }, make("summary", {}, "Settings"),
      field("System prompt", this.system), field("Thinking", this.think),
      make("div", { class: "grid" }, ...OPTIONS.map(([name]) => field(name, this.options[name]))),
      field("Format", this.format), field("Tools", this.tools),
      make("label", { class: "check" }, this.logprobs, " log-probabilities (shown when the pointer rests on a token)"));
  }

  /** Fills in the model's own defaults as placeholders. */
  async follow(model) {
    for (const [name, usual] of OPTIONS) this.options[name].placeholder = usual;
    const shown = await call("POST", "api/show", { model });
    for (const line of (shown.parameters ?? "").split("\n")) {
      const [name, value] = line.trim().split(/\s+(.*)/);
      if (this.options[name]) this.options[name].placeholder = value;
    }
    this.system.placeholder = shown.system ?? "";
  }

  get value() {
    const options = Object.fromEntries(OPTIONS.map(([name]) => [name, this.options[name].value.trim()]).filter(([, text]) => text));
    return { system: this.system.value, think: this.think.value, options, format: this.format.value, tools: this.tools.value, logprobs: this.logprobs.checked };
  }

  set value(value) {
    for (const name of ["system", "think", "format", "tools"]) this[name].value = value[name] ?? "";
    for (const [name] of OPTIONS) this.options[name].value = value.options?.[name] ?? "";
    this.logprobs.checked = value.logprobs ?? false;
  }

  /** The fields of a request; throws with words for text that is no JSON. */
  get request() {
    const { system, think, options, format, tools, logprobs } = this.value;
    const fields = { options: Object.fromEntries(Object.entries(options).map(([name, text]) => [name, numberOf(name, text)])) };
    if (think) fields.think = { true: true, false: false }[think] ?? think;
    if (format.trim()) fields.format = format.trim() === "json" ? "json" : parsed(format, "Format");
    if (tools.trim()) fields.tools = parsed(tools, "Tools");
    if (logprobs) Object.assign(fields, { logprobs: true, top_logprobs: 5 });
    return { system, fields };
  }
}

function numberOf(name, text) {
  const number = Number(text);
  if (Number.isNaN(number)) throw new Error(`${name} must be a number`);
  return number;
}

function parsed(text, name) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${name}: ${error.message}`);
  }
}
