// The Vercel AI SDK with three providers: `node ai_sdk.mjs URL PACKAGES` prints what came of each scenario.

import { createRequire } from "node:module";
const [url, packages] = process.argv.slice(2);
const load = createRequire(`${packages}/package.json`);
const { generateText, streamText, tool, stepCountIs, generateObject, embedMany } = load("ai");
const { createOpenAI } = load("@ai-sdk/openai");
const { createOpenAICompatible } = load("@ai-sdk/openai-compatible");
const { createAnthropic } = load("@ai-sdk/anthropic");
const { z } = load("zod");

const openai = createOpenAI({ baseURL: `${url}/v1`, apiKey: "x" });
const compatible = createOpenAICompatible({ name: "serow", baseURL: `${url}/v1`, supportsStructuredOutputs: true });
const anthropic = createAnthropic({ baseURL: `${url}/v1`, apiKey: "x" });
const models = { responses: openai("zoo-think"), chat: openai.chat("zoo-think"), compatible: compatible("zoo-think"), anthropic: anthropic("zoo-think") };
const inputSchema = z.object({ a: z.number().int(), b: z.number().int() });
const tools = { add: tool({ description: "Add two numbers", inputSchema, execute: async ({ a, b }) => a + b }) };
const common = { temperature: 0, maxOutputTokens: 200, maxRetries: 0 };

const results = {};
for (const [name, model] of Object.entries(models)) {
  results[name] = (await generateText({ ...common, model, prompt: "What is 37 + 85?" })).text;
  let streamed = "";
  for await (const part of streamText({ ...common, model, prompt: "What is 37 + 85?" }).textStream) streamed += part;
  results[`${name} streamed`] = streamed;
  const run = await generateText({ ...common, model, prompt: "What is 23 + 68?", tools, stopWhen: stepCountIs(3) });
  results[`${name} tools`] = [run.steps.length, run.text.slice(0, 9)];
}
const object = await generateObject({ ...common, model: models.compatible, schema: inputSchema, prompt: "What is 37 + 85? Answer in JSON." });
results.object = Object.keys(object.object).sort();
results.embedMany = (await embedMany({ model: compatible.textEmbeddingModel("zoo-think"), values: ["a", "b"] })).embeddings.length;
results.error = await generateText({ ...common, model: compatible("nobody"), prompt: "x" }).catch((error) => [error.statusCode, error.message]);
console.log(JSON.stringify(results));
