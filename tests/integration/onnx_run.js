// Runs exported models in ONNX Runtime, for test_export.py: a text as one sequence, and again symbol by symbol.
//
// Usage: node onnx_run.js, with [{"path", "symbols": [numbers]}, …] on standard input. Standard output:
// [{"sequence": probabilities behind the last symbol, "steps": the same}, …]. ONNXRUNTIME says where the module
// onnxruntime-node lies.
'use strict';
const fs = require('fs');
const runtime = require(process.env.ONNXRUNTIME || 'onnxruntime-node');

function zeroStates(session) {
  const states = {};
  for (const value of session.inputMetadata) {
    if (value.name !== 'symbols') {
      const shape = value.shape.map((size) => (typeof size === 'number' ? size : 1));
      const count = shape.reduce((product, size) => product * size, 1);
      states[value.name] = new runtime.Tensor('float32', new Float32Array(count), shape);
    }
  }
  return states;
}

async function feed(session, symbols, states) {
  const data = BigInt64Array.from(symbols.map(BigInt));
  return session.run({ symbols: new runtime.Tensor('int64', data, [symbols.length, 1]), ...states });
}

function lastRow(probabilities) {
  const columns = probabilities.dims[2];
  return Array.from(probabilities.data.slice(probabilities.data.length - columns));
}

async function runModel({ path, symbols }) {
  const session = await runtime.InferenceSession.create(path, { intraOpNumThreads: 1, interOpNumThreads: 1 });
  const whole = await feed(session, symbols, zeroStates(session));
  let states = zeroStates(session);
  let made = null;
  for (const symbol of symbols) {
    made = await feed(session, [symbol], states);
    for (const name of Object.keys(states)) {
      states[name] = made[`${name}_next`];
    }
  }
  return { sequence: lastRow(whole.probabilities), steps: lastRow(made.probabilities) };
}

async function main() {
  const results = [];
  for (const request of JSON.parse(fs.readFileSync(0, 'utf8'))) {
    results.push(await runModel(request));
  }
  console.log(JSON.stringify(results));
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
