// What the packages openai and @ai-sdk/openai-compatible make of a daemon: one JSON object, by what was asked.
//
//     node openai_clients.js FOLDER URL KEY      FOLDER has the packages in its node_modules
'use strict';
const { createRequire } = require('module');

const [folder, url, key] = process.argv.slice(2);
const load = createRequire(folder + '/');
const OpenAI = load('openai').default;
const { createOpenAICompatible } = load('@ai-sdk/openai-compatible');
const { generateText, streamText } = load('ai');

const FIELDS = { model: 'bard', prompt: 'Call me', max_tokens: 20, seed: 3 };
const CHAT = { model: 'bard', messages: [{ role: 'user', content: 'Call me' }], max_tokens: 20, seed: 3 };

async function caught(promise) {
  try {
    await promise;
    return null;
  } catch (error) {
    return { name: error.constructor.name, status: error.status, code: error.code, param: error.param,
        type: error.type, message: error.message };
  }
}

async function all(stream) {
  const chunks = [];
  for await (const chunk of stream) {
    chunks.push(chunk);
  }
  return chunks;
}

async function askOpenAI() {
  const client = new OpenAI({ baseURL: url, apiKey: key, maxRetries: 0 });
  const models = await all(await client.models.list());
  const aborting = await client.completions.create({ ...FIELDS, max_tokens: 1000000, stream: true });
  for await (const chunk of aborting) {
    if (chunk.choices.length > 0) {
      aborting.controller.abort();
      break;
    }
  }
  return {
    completion: await client.completions.create({ ...FIELDS, n: 2, logprobs: 1 }),
    extras: await client.completions.create({ ...FIELDS, top_k: 1, min_p: 0.1 }),
    stream: await all(await client.completions.create({
      ...FIELDS, stream: true, stream_options: { include_usage: true } })),
    chat: await client.chat.completions.create({ ...CHAT, logprobs: true, top_logprobs: 2 }),
    chatStream: await all(await client.chat.completions.create({ ...CHAT, stream: true })),
    models: models.map((model) => model.id),
    model: await client.models.retrieve('bard'),
    errors: {
      model: await caught(client.completions.create({ ...FIELDS, model: 'nobody' })),
      range: await caught(client.completions.create({ ...FIELDS, temperature: 7 })),
      suffix: await caught(client.completions.create({ ...FIELDS, suffix: 'end' })),
      retrieve: await caught(client.models.retrieve('nobody')),
      key: await caught(new OpenAI({ baseURL: url, apiKey: 'wrong', maxRetries: 0 }).models.list()),
      scope: await caught(client.models.delete('bard')),
    },
  };
}

async function askAISDK() {
  const provider = createOpenAICompatible({ name: 'lstmd', baseURL: url, apiKey: key, includeUsage: true });
  const options = { maxOutputTokens: 20, seed: 3, maxRetries: 0 };
  const text = await generateText({ ...options, model: provider.completionModel('bard'), prompt: 'Call me' });
  const streamed = streamText({ ...options, model: provider.completionModel('bard'), prompt: 'Call me' });
  const pieces = await all(streamed.textStream);
  const chat = await generateText({ ...options, model: provider.chatModel('bard'), prompt: 'Call me' });
  return {
    text: text.text, finish: text.finishReason, usage: text.usage, streamed: pieces.join(''),
    streamedFinish: await streamed.finishReason, streamedUsage: await streamed.usage, chat: chat.text,
    error: await caught(generateText({ ...options, model: provider.completionModel('nobody'), prompt: 'Call me' })),
  };
}

async function main() {
  console.log(JSON.stringify({ openai: await askOpenAI(), sdk: await askAISDK() }));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
