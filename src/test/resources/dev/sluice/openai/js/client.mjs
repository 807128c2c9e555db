// What OpenAI's own client makes of the server's answers, as one JSON object.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "any", maxRetries: 0 });
const messages = [{ role: "user", content: "the whale" }];
const tool = { name: "weather", strict: true, parameters: {
  type: "object", properties: { city: { type: "string", enum: ["Bern", "Rom"] } }, required: ["city"], additionalProperties: false } };
const schema = { type: "object", properties: { rain: { type: "boolean" } }, required: ["rain"], additionalProperties: false };
const out = {};

out.models = (await client.models.list()).data.map(model => model.id);

const whole = await client.chat.completions.create({ model: "any", messages });
out.text = whole.choices[0].message.content;
out.tokens = whole.usage.completion_tokens;

out.streamed = "";
const stream = await client.chat.completions.create(
  { model: "any", messages, stream: true, stream_options: { include_usage: true } });
for await (const chunk of stream) {
  out.streamed += chunk.choices[0]?.delta?.content ?? "";
  if (chunk.usage) out.streamedTokens = chunk.usage.completion_tokens;
}

const called = await client.chat.completions.create(
  { model: "any", messages, tools: [{ type: "function", function: tool }], tool_choice: "required", max_completion_tokens: 300 });
out.call = called.choices[0].message.tool_calls[0].function;
const runner = client.chat.completions.stream(
  { model: "any", messages, tools: [{ type: "function", function: tool }], tool_choice: "required", max_completion_tokens: 300 });
out.streamedCall = (await runner.finalMessage()).tool_calls[0].function;

const parsed = await client.chat.completions.parse(
  { model: "any", messages, response_format: { type: "json_schema", json_schema: { name: "n", strict: true, schema } }, max_completion_tokens: 200 });
out.parsed = parsed.choices[0].message.parsed;

const response = await client.responses.create({ model: "any", input: "the whale" });
out.response = response.output_text;
out.events = [];
out.responseStreamed = "";
for await (const event of await client.responses.create({ model: "any", input: "the whale", stream: true })) {
  out.events.push(event.type);
  if (event.type === "response.output_text.delta") out.responseStreamed += event.delta;
}
const shaped = await client.responses.parse(
  { model: "any", input: "a", text: { format: { type: "json_schema", name: "n", strict: true, schema } }, max_output_tokens: 200 });
out.shaped = shaped.output_parsed;

try {
  await client.chat.completions.create({ model: "any", messages, temperature: -1 });
} catch (e) {
  out.refused = { status: e.status, param: e.param, type: e.type };
}
console.log(JSON.stringify(out));
