// Anthropic's JavaScript SDK: `node anthropic_js.mjs URL PACKAGES` prints what came of each scenario.

import { createRequire } from "node:module";
const [url, packages] = process.argv.slice(2);
const Anthropic = createRequire(`${packages}/package.json`)("@anthropic-ai/sdk").default;

const client = new Anthropic({ baseURL: url, apiKey: "local", maxRetries: 0 });
const free = { model: "zoo-think", max_tokens: 200, temperature: 0 };
const messages = [{ role: "user", content: "What is 37 + 85?" }];
const numbers = { type: "object", properties: { a: { type: "integer" }, b: { type: "integer" } }, required: ["a", "b"] };
const add = { name: "add", description: "Add two numbers", input_schema: numbers };

const scenarios = {
  async message() {
    const answer = await client.messages.create({ ...free, messages });
    return [answer.content[0].text, answer.stop_reason, answer.usage.output_tokens];
  },
  async stream() {
    const answer = await client.messages.stream({ ...free, messages }).finalMessage();
    return [answer.content[0].text, answer.stop_reason];
  },
  async thinking() {
    const thinking = { type: "enabled", budget_tokens: 1024 };
    const answer = await client.messages.stream({ ...free, max_tokens: 2000, messages, thinking }).finalMessage();
    const [thought, said] = answer.content;
    return [thought.thinking.startsWith("Ones: 7 + 5"), Boolean(thought.signature), said.text];
  },
  async tools() {
    const talk = [{ role: "user", content: "What is 23 + 68?" }];
    const answer = await client.messages.create({ ...free, messages: talk, tools: [add] });
    const [call] = answer.content;
    const result = { type: "tool_result", tool_use_id: call.id, content: String(call.input.a + call.input.b) };
    talk.push({ role: "assistant", content: answer.content }, { role: "user", content: [result] });
    const last = await client.messages.create({ ...free, messages: talk, tools: [add] });
    return [answer.stop_reason, call.input, last.content[0].text];
  },
  streamed_tools: async () => (await client.messages.stream({ ...free, messages, tools: [add] }).finalMessage()).content[0].input,
  async count_tokens() {
    const counted = (await client.messages.countTokens({ model: "zoo-think", messages, tools: [add] })).input_tokens;
    const { usage } = await client.messages.create({ ...free, messages, tools: [add] });
    return counted === usage.input_tokens + usage.cache_read_input_tokens;
  },
  async models() {
    for await (const each of client.models.list()) if (each.id === "zoo-think:latest") return true;
    return false;
  },
  async errors() {
    const found = [];
    for (const request of [{ ...free, model: "nobody", messages }, { ...free, messages: [] }]) {
      await client.messages.create(request).catch((error) => found.push([error.status, error.error.error.message]));
    }
    return found;
  },
};

const results = {};
for (const [name, scenario] of Object.entries(scenarios)) results[name] = await scenario();
console.log(JSON.stringify(results));
