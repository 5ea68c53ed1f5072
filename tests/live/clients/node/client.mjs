// Uses the OpenAI package for Node as a program would: `node client.mjs BASE_URL MODEL CASE` prints what came of it as JSON.
import OpenAI, { APIError } from "openai";

const [baseURL, model, name] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const question = "Name three uses of baking soda.";
const messages = [{ role: "user", content: question }];
const asked = { model, input: question, max_output_tokens: 20, temperature: 0 };

const cases = {
  async chat() {
    const { data, response } = await client.chat.completions
      .create({ model, messages, max_tokens: 20, temperature: 0, alignment: { trace: true } })
      .withResponse();
    const { choices, usage, alignment } = data;
    const traceId = response.headers.get("x-alignment-trace-id");
    return { text: choices[0].message.content, usage, alignment, traceId };
  },

  async stream() {
    const stream = await client.chat.completions.create({
      model,
      messages,
      max_tokens: 20,
      temperature: 0,
      stream: true,
      stream_options: { include_usage: true },
    });
    const texts = [];
    let usage = null;
    for await (const chunk of stream) {
      const text = chunk.choices[0]?.delta?.content;
      if (text) texts.push(text);
      usage = chunk.usage ?? usage;
    }
    return { texts, usage };
  },

  async responses() {
    const { output_text: text, usage } = await client.responses.create(asked);
    return { text, usage };
  },

  async streamedResponses() {
    const texts = [];
    let last = null;
    for await (const event of await client.responses.create({ ...asked, stream: true })) {
      if (event.type === "response.output_text.delta") texts.push(event.delta);
      last = event.type;
    }
    return { texts, last };
  },

  async error() {
    try {
      await client.chat.completions.create({ model: "nobody", messages });
    } catch (error) {
      if (!(error instanceof APIError)) throw error;
      return { kind: error.constructor.name, status: error.status, param: error.param, message: error.message };
    }
    return {};
  },
};

console.log(JSON.stringify(await cases[name]()));
