// The official Node client: plain, streamed, tools, a field it doesn't know. Prints what it read as JSON.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, url, model] = process.argv.slice(2);
const require = createRequire(pathToFileURL(`${folder}/node_modules/`));
const { OpenAI } = require("openai");

const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0, timeout: 20000 });
const ask = { model, messages: [{ role: "user", content: "one two three" }], max_tokens: 8, x_unknown: { deep: [1] } };
const parameters = { type: "object", properties: { at: { type: "string" } } };
const tools = [{ type: "function", function: { name: "weather", parameters } }];

const plain = await client.chat.completions.create(ask);
let streamed = "";
let usage = null;
let footprint = null;
for await (const chunk of await client.chat.completions.create({
  ...ask,
  stream: true,
  stream_options: { include_usage: true },
})) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
  footprint = chunk.footprint ?? footprint;
}
const called = await client.chat.completions.create({ ...ask, tools });
const stream = client.chat.completions.stream({ ...ask, tools });
const finalMessage = (await stream.finalChatCompletion()).choices[0].message;
const models = [];
for await (const entry of client.models.list()) models.push(entry.id);
let refused = null;
try {
  await client.chat.completions.create({ ...ask, messages: [] });
} catch (error) {
  refused = { status: error.status, code: error.code };
}
console.log(
  JSON.stringify({
    plain: plain.choices[0].message.content,
    streamed,
    plain_usage: plain.usage.completion_tokens,
    streamed_usage: usage.completion_tokens,
    footprints: [plain.footprint.request_id, footprint.request_id],
    fingerprint: plain.system_fingerprint ?? null,
    calls: [called.choices[0].message.tool_calls ?? [], finalMessage.tool_calls ?? []],
    models,
    refused,
  }),
);
