// ONNX Runtime as a peer over HTTP: what one would write around it, a completion a request, a run a symbol.
//
// Usage: node onnx_server.js MODEL.onnx UNITS LAYERS VOCABULARY THREADS      (prints its port on loopback)
// ONNXRUNTIME says where the module onnxruntime-node lies, where node does not find it by itself.
'use strict';
const http = require('http');
const runtime = require(process.env.ONNXRUNTIME || 'onnxruntime-node');

const FIRST_CHARACTER = 0x20;

const [path, ...words] = process.argv.slice(2);
const [units, layers, vocabulary, threads] = words.map(Number);

function choose(probabilities) {
  let left = Math.random();
  let symbol = 0;
  while (symbol < vocabulary - 1 && (left -= probabilities[symbol]) > 0) {
    symbol++;
  }
  return symbol;
}

async function complete(session, { prompt, max_tokens }) {
  const zeros = () => new runtime.Tensor('float32', new Float32Array(layers * units), [layers, 1, units]);
  let h = zeros();
  let c = zeros();
  const feed = async (symbol) => {
    const symbols = new runtime.Tensor('int64', BigInt64Array.of(BigInt(symbol)), [1, 1]);
    const made = await session.run({ symbols, h, c });
    h = made.h_next;
    c = made.c_next;
    return made.probabilities.data;
  };
  let probabilities;
  for (const character of prompt) {
    probabilities = await feed((character.charCodeAt(0) - FIRST_CHARACTER) % vocabulary);
  }
  let text = '';
  while (text.length < max_tokens) {
    const symbol = choose(probabilities);
    text += String.fromCharCode(FIRST_CHARACTER + symbol);
    probabilities = text.length < max_tokens ? await feed(symbol) : null;
  }
  return text;
}

async function main() {
  const session = await runtime.InferenceSession.create(path, { intraOpNumThreads: threads, interOpNumThreads: 1 });
  const server = http.createServer(async (request, reply) => {
    const parts = [];
    for await (const part of request) {
      parts.push(part);
    }
    const text = await complete(session, JSON.parse(Buffer.concat(parts)));
    reply.writeHead(200, { 'Content-Type': 'application/json' });
    reply.end(JSON.stringify({ choices: [{ index: 0, text, finish_reason: 'length' }] }));
  });
  server.listen(0, '127.0.0.1', () => console.log(server.address().port));
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
