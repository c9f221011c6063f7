// Clients of a completions endpoint on loopback, each with one text after the other on a connection that stays open.
//
// Usage: node load.js PORT CLIENTS SECONDS SYMBOLS      (prints one JSON object)
'use strict';
const http = require('http');

const [port, clients, seconds, symbols] = process.argv.slice(2).map(Number);
const agent = new http.Agent({ keepAlive: true, maxSockets: clients });
const body = JSON.stringify({ prompt: 'The ', max_tokens: symbols, temperature: 0.8 });
const headers = { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) };

function complete() {
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port, path: '/v1/completions', method: 'POST', agent, headers };
    const request = http.request(options, (reply) => {
      let content = '';
      reply.setEncoding('utf8');
      reply.on('data', (part) => (content += part));
      reply.on('end', () => {
        if (reply.statusCode === 200) {
          resolve([...JSON.parse(content).choices[0].text].length);
        } else {
          reject(new Error(`${reply.statusCode}: ${content}`));
        }
      });
    });
    request.on('error', reject);
    request.end(body);
  });
}

async function main() {
  const began = performance.now();
  let characters = 0;
  const client = async () => {
    while (performance.now() - began < seconds * 1000) {
      const made = await complete(); // not in one line with +=, which reads the sum before it waits
      characters += made;
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  const chars_per_s = (characters * 1000) / (performance.now() - began);
  console.log(JSON.stringify({ kind: 'load', clients, chars_per_s }));
  agent.destroy();
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
