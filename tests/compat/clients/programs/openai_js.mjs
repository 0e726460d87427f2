// OpenAI's JavaScript SDK: `node openai_js.mjs URL PACKAGES` prints what came of each scenario.

import { createRequire } from "node:module";
const [url, packages] = process.argv.slice(2);
const OpenAI = createRequire(`${packages}/package.json`)("openai").default;

const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "local", maxRetries: 0 });
const model = "zoo-think";
const messages = [{ role: "user", content: "What is 37 + 85?" }];
const free = { model, temperature: 0, reasoning_effort: "none" };
const numbers = { type: "object", properties: { a: { type: "integer" }, b: { type: "integer" } }, required: ["a", "b"] };
const add = { type: "function", function: { name: "add", description: "Add two numbers", parameters: numbers } };
const flat = { type: "function", name: "add", description: "Add two numbers", parameters: numbers, strict: true };

const scenarios = {
  async chat() {
    const answer = await client.chat.completions.create({ ...free, messages });
    return [answer.choices[0].message.content, answer.choices[0].finish_reason, answer.usage.total_tokens];
  },
  async stream() {
    let said = "", thought = "", tokens = 0;
    const request = { model, messages, temperature: 0, stream: true, stream_options: { include_usage: true } };
    for await (const chunk of await client.chat.completions.create(request)) {
      said += chunk.choices[0]?.delta.content ?? "";
      thought += chunk.choices[0]?.delta.reasoning_content ?? "";
      tokens = chunk.usage?.completion_tokens ?? tokens;
    }
    return [said, thought.startsWith("Ones: 7 + 5"), tokens];
  },
  async tools() {
    const talk = [{ role: "user", content: "What is 23 + 68?" }];
    const answer = await client.chat.completions.create({ ...free, messages: talk, tools: [add] });
    const message = answer.choices[0].message, [call] = message.tool_calls;
    const given = JSON.parse(call.function.arguments);
    talk.push(message, { role: "tool", tool_call_id: call.id, content: String(given.a + given.b) });
    const last = await client.chat.completions.create({ ...free, messages: talk, tools: [add] });
    return [answer.choices[0].finish_reason, given, last.choices[0].message.content];
  },
  async streamed_tools() {
    const stream = client.chat.completions.stream({ ...free, messages, tools: [add] });
    return JSON.parse((await stream.finalChatCompletion()).choices[0].message.tool_calls[0].function.arguments);
  },
  async abort() {
    const stream = await client.chat.completions.create({ model, messages, stream: true, logit_bias: { 2: -100 } });
    for await (const _ of stream) break;
    stream.controller.abort();
    return true;
  },
  completions: async () => (await client.completions.create({ model, prompt: "37 + 85 =", max_tokens: 4, temperature: 0 })).choices[0].text,
  async embeddings() {
    const packed = (await client.embeddings.create({ model, input: ["a", "b"] })).data;
    const plain = (await client.embeddings.create({ model, input: ["a", "b"], encoding_format: "float" })).data;
    return [packed.length, Math.abs(packed[0].embedding[0] - plain[0].embedding[0]) < 1e-6];
  },
  models: async () => (await client.models.retrieve(model)).id,
  async responses() {
    const reasoning = { effort: "none" };
    const answer = await client.responses.create({ model, input: "What is 37 + 85?", temperature: 0, reasoning });
    const after = await client.responses.create({ model, input: "And 5 + 6?", previous_response_id: answer.id, temperature: 0, reasoning });
    return [answer.output_text, after.output_text];
  },
  async streamed_responses() {
    const input = [{ role: "user", content: "What is 23 + 68?" }];
    const request = { model, tools: [flat], temperature: 0, reasoning: { effort: "none" }, stream: true };
    let last;
    for await (const event of await client.responses.create({ ...request, input })) last = event;
    const [call] = last.response.output, given = JSON.parse(call.arguments);
    input.push(call, { type: "function_call_output", call_id: call.call_id, output: String(given.a + given.b) });
    for await (const event of await client.responses.create({ ...request, input })) last = event;
    return [last.type, given, last.response.output[0].content[0].text];
  },
  async errors() {
    const found = [];
    for (const request of [{ ...free, model: "nobody", messages }, { ...free, messages, temperature: 5 }]) {
      await client.chat.completions.create(request).catch((error) => found.push([error.status, error.code, error.param]));
    }
    return found;
  },
};

const results = {};
for (const [name, scenario] of Object.entries(scenarios)) results[name] = await scenario();
console.log(JSON.stringify(results));
