// The scenarios of test_clients.py with the official JavaScript client: `node scenarios.mjs URL PICTURE` prints what came of each.

import { readFileSync } from "node:fs";
import { Ollama } from "ollama";

const [host, picture] = process.argv.slice(2);
const client = new Ollama({ host });
const model = "zoo-think";
const prompt = "What is 12 + 34?";
const options = { temperature: 0, num_predict: 150 };
const question = { role: "user", content: prompt };
const sum = { role: "user", content: "What is 37 + 85?" };
const integer = { type: "integer" };
const parameters = { type: "object", properties: { a: integer, b: integer }, required: ["a", "b"] };
const tools = [{ type: "function", function: { name: "add", description: "Add two numbers", parameters } }];
const sides = ({ response, thinking }) => ({ response, thinking: thinking ?? "" });

async function streamed(request) {
  const joined = { response: "", thinking: "", records: 0, done: false };
  for await (const part of await client.generate({ ...request, options, stream: true })) {
    joined.response += part.response;
    joined.thinking += part.thinking ?? "";
    joined.records += 1;
    joined.done = part.done;
  }
  return joined;
}

async function refused(call) {
  try {
    await call();
    return null;
  } catch (error) {
    return [error.status_code, error.message];
  }
}

const names = async () => (await client.list()).models.map((each) => each.name).filter((name) => name.startsWith("client-")).sort();

const scenarios = {
  async generate() {
    const answer = await client.generate({ model, prompt, options });
    return { ...sides(answer), done_reason: answer.done_reason, eval_count: answer.eval_count };
  },
  async stream() {
    const { records, ...joined } = await streamed({ model, prompt });
    return { ...joined, many: records > 60 };
  },
  think_off: async () => sides(await client.generate({ model, prompt, options, think: false })),
  think_level: async () => sides(await client.generate({ model, prompt, options, think: "low" })),
  async format() {
    const format = { type: "object", properties: { ok: { enum: ["yes"] } }, required: ["ok"], additionalProperties: false };
    return JSON.parse((await client.generate({ model, prompt, options, format })).response);
  },
  async context() {
    const first = await client.generate({ model, prompt, options });
    const second = await client.generate({ model, prompt: "And 1 + 1?", options, context: first.context });
    return first.context.every((token, index) => token === second.context[index]);
  },
  async images() {
    const images = [readFileSync(picture)];
    return (await client.generate({ model: "zoo-vision", prompt: "What is in this picture?", options, images })).response;
  },
  insert: async () =>
    (await client.generate({ model, prompt: "def add(x, y):\n    return ", suffix: "\n", options })).response,
  async line_breaks() {
    const format = { choice: ["a\u2028b\u2029c\u0085d"] };
    return (await streamed({ model, prompt, format, think: false })).response;
  },
  async logprobs() {
    const answer = await client.generate({ model, prompt, options, think: false, logprobs: true, top_logprobs: 2 });
    return { text: answer.logprobs.map((each) => each.token).join(""), top: answer.logprobs[0].top_logprobs.length };
  },
  async chat() {
    const { message, done_reason } = await client.chat({ model, messages: [question], options });
    return { content: message.content, thinking: message.thinking, done_reason };
  },
  async chat_stream() {
    const joined = { content: "", thinking: "", done: false };
    let records = 0;
    for await (const part of await client.chat({ model, messages: [question], options, stream: true })) {
      joined.content += part.message.content;
      joined.thinking += part.message.thinking ?? "";
      joined.done = part.done;
      records += 1;
    }
    return { ...joined, many: records > 60 };
  },
  async tools() {
    const first = (await client.chat({ model, messages: [sum], tools, options, think: false })).message;
    const { name, arguments: given } = first.tool_calls[0].function;
    const result = { role: "tool", tool_name: name, content: String(given.a + given.b) };
    const second = await client.chat({ model, messages: [sum, first, result], tools, options, think: false });
    return [name, given, first.content, second.message.content];
  },
  async tools_stream() {
    const found = { calls: [], content: "", "with the end": 0 };
    for await (const part of await client.chat({ model, messages: [sum], tools, options, think: false, stream: true })) {
      const calls = part.message.tool_calls ?? [];
      found.calls.push(...calls.map((call) => [call.function.name, call.function.arguments]));
      found.content += part.message.content;
      found["with the end"] = calls.length;
    }
    return found;
  },
  async embed() {
    const { embeddings } = await client.embed({ model, input: ["one", "two"] });
    const lengths = embeddings.map((vector) => vector.reduce((sum, each) => sum + each * each, 0));
    return [embeddings.length, lengths.every((length) => Math.abs(length - 1) < 1e-3), String(embeddings[0]) !== String(embeddings[1])];
  },
  async keep_alive() {
    const load = await client.generate({ model, prompt: "", keep_alive: "10m" });
    const loaded = (await client.ps()).models.map((each) => each.name);
    const unload = await client.generate({ model, prompt: "", keep_alive: 0 });
    const left = (await client.ps()).models.map((each) => each.name);
    return [load.done_reason, loaded.includes("zoo-think:latest"), unload.done_reason, left.includes("zoo-think:latest")];
  },
  async show() {
    const shown = await client.show({ model });
    return [shown.capabilities, shown.details.family, shown.model_info["general.architecture"]];
  },
  async create_copy_delete() {
    const progress = [];
    const request = { model: "client-made", from: model, system: "Be brief.", parameters: { temperature: 0 }, stream: true };
    for await (const part of await client.create(request)) progress.push(part.status);
    await client.copy({ source: "client-made", destination: "client-copy" });
    const both = await names();
    await client.delete({ model: "client-made" });
    await client.delete({ model: "client-copy" });
    return [progress.at(-1), both, await names()];
  },
  async errors() {
    return [
      await refused(() => client.generate({ model: "nobody", prompt })),
      await refused(() => client.generate({ model, prompt, options: { top_k: "many" } })),
      await refused(() => streamed({ model, prompt, format: { type: 5 } })),
      await refused(() => client.generate({ model, prompt, keep_alive: "30" })),
      await refused(() => client.show({ model: "nobody" })),
      await refused(() => client.delete({ model: "nobody" })),
    ];
  },
};

const results = {};
for (const [name, scenario] of Object.entries(scenarios)) {
  results[name] = await scenario().catch((error) => `failed: ${error}`);
}
console.log(JSON.stringify(results));
