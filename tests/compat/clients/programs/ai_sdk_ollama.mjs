// The Vercel AI SDK with two providers for Ollama's own API: `node ai_sdk_ollama.mjs URL PACKAGES`.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
const [url, packages] = process.argv.slice(2);
const require = createRequire(`${packages}/package.json`);
const load = (name) => import(pathToFileURL(require.resolve(name)));
const { generateText, streamText, tool, stepCountIs, embedMany, generateObject } = await load("ai");
const v2 = (await load("ollama-ai-provider-v2")).createOllama({ baseURL: `${url}/api` });
const sdk = (await load("ai-sdk-ollama")).createOllama({ baseURL: url });
const { z } = await load("zod");

const models = { v2: v2("zoo-think"), sdk: sdk("zoo-think", { think: false, options: { temperature: 0, num_predict: 200 } }) };
const vectors = { v2: v2.textEmbeddingModel("zoo-think"), sdk: sdk.textEmbeddingModel("zoo-think") };
const inputSchema = z.object({ a: z.number().int(), b: z.number().int() });
const tools = { add: tool({ description: "Add two numbers", inputSchema, execute: async ({ a, b }) => a + b }) };
const common = { maxRetries: 0, providerOptions: { ollama: { think: false, options: { temperature: 0, num_predict: 200 } } } };

const results = {};
const keep = async (name, scenario) => {
  results[name] = await scenario().catch((error) => `failed: ${error}`);
};
for (const [name, model] of Object.entries(models)) {
  const prompt = "What is 37 + 85?";
  await keep(name, async () => (await generateText({ ...common, model, prompt })).text);
  await keep(`${name} streamed`, async () => {
    let streamed = "";
    for await (const part of streamText({ ...common, model, prompt }).textStream) streamed += part;
    return streamed;
  });
  await keep(`${name} tools`, async () => {
    const run = await generateText({ ...common, model, prompt: "What is 23 + 68?", tools, stopWhen: stepCountIs(3) });
    return [run.steps.length, run.text.slice(0, 9)];
  });
  await keep(`${name} object`, async () => {
    const { object } = await generateObject({ ...common, model, schema: inputSchema, prompt: `${prompt} Answer in JSON.` });
    return Object.keys(object).sort();
  });
  await keep(`${name} embedMany`, async () => (await embedMany({ model: vectors[name], values: ["a", "b"] })).embeddings.length);
}
results.error = await generateText({ ...common, model: v2("nobody"), prompt: "x" }).catch((error) => error.statusCode);
console.log(JSON.stringify(results));
