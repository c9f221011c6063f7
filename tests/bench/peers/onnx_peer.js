// ONNX Runtime as a peer: the speed of a model of onnx_model.py, one symbol of every row at a time, with sampling.
//
// Usage: node onnx_peer.js MODEL.onnx UNITS LAYERS VOCABULARY THREADS PRECISION BATCH…
// ONNXRUNTIME says where the module onnxruntime-node lies, where node does not find it by itself.
'use strict';
const runtime = require(process.env.ONNXRUNTIME || 'onnxruntime-node');

const WARM_UP_STEPS = 10;
const MILLISECONDS = 3000;

const [path, ...words] = process.argv.slice(2);
const [units, layers, vocabulary, threads] = words.slice(0, 4).map(Number);
const precision = words[4];
const batches = words.slice(5).map(Number);

function choose(probabilities, begin) {
  let left = Math.random();
  let symbol = 0;
  while (symbol < vocabulary - 1 && (left -= probabilities[begin + symbol]) > 0) {
    symbol++;
  }
  return BigInt(symbol);
}

async function measure(session, batch) {
  const zeros = () => new runtime.Tensor('float32', new Float32Array(layers * batch * units), [layers, batch, units]);
  let symbols = new BigInt64Array(batch);
  let h = zeros();
  let c = zeros();
  let begin = 0;
  let steps = -WARM_UP_STEPS;
  for (;; steps++) {
    if (steps === 0) {
      begin = performance.now();
    }
    if (steps > 0 && performance.now() - begin > MILLISECONDS) {
      break;
    }
    const made = await session.run({ symbols: new runtime.Tensor('int64', symbols, [1, batch]), h, c });
    h = made.h_next;
    c = made.c_next;
    symbols = BigInt64Array.from({ length: batch }, (_, row) => choose(made.probabilities.data, row * vocabulary));
  }
  return (batch * steps * 1000) / (performance.now() - begin);
}

async function main() {
  const options = { intraOpNumThreads: threads, interOpNumThreads: 1, graphOptimizationLevel: 'all' };
  const session = await runtime.InferenceSession.create(path, options);
  for (const batch of batches) {
    const speed = await measure(session, batch);
    console.log(JSON.stringify({ peer: 'onnxruntime', kind: 'decode', precision, batch, chars_per_s: speed }));
  }
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
