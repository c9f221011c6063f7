"""PyTorch as a peer: the speed of a character LSTM, as `lstmd bench decode` and `train` measure theirs.

Usage: python3 torch_peer.py decode|train UNITS LAYERS VOCABULARY EMBEDDING THREADS BATCH… [int8]
EMBEDDING 0 is one-hot.
Prints a JSON object for each batch. Debian: python3-torch.
"""
import json
import sys
import time

import torch

WARM_UP_STEPS = 10
SECONDS = 3


class TextModel(torch.nn.Module):
    def __init__(self, units, layers, vocabulary, embedding):
        super().__init__()
        self.layers, self.units, self.vocabulary = layers, units, vocabulary
        if embedding > 0:
            self.symbols = torch.nn.Embedding(vocabulary, embedding)
        else:
            self.symbols = torch.nn.Embedding.from_pretrained(torch.eye(vocabulary))
        self.lstm = torch.nn.LSTM(embedding or vocabulary, units, layers)
        self.output = torch.nn.Linear(units, vocabulary)

    def zero_state(self, batch):
        shape = (self.layers, batch, self.units)
        return torch.zeros(shape), torch.zeros(shape)

    def forward(self, inputs, state):
        outputs, state = self.lstm(self.symbols(inputs), state)
        return self.output(outputs), state


def seconds_of(step):
    """The mean time of a call, after a warm-up."""
    for _ in range(WARM_UP_STEPS):
        step()
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        step()
        count += 1
    return (time.perf_counter() - start) / count


def decode(model, batch):
    """One symbol of every row: logits, softmax, sampling."""
    now = {"symbols": torch.zeros(batch, dtype=torch.long), "state": model.zero_state(batch)}

    def step():
        logits, now["state"] = model(now["symbols"].unsqueeze(0), now["state"])
        now["symbols"] = torch.multinomial(torch.softmax(logits[0], -1), 1).squeeze(1)

    with torch.no_grad():
        return seconds_of(step) / batch


def train(model, batch):
    """Forward, backward, clipping and Adam over as many symbols of every row as there are rows."""
    optimizer = torch.optim.Adam(model.parameters(), 0.002)
    symbols = torch.randint(0, model.vocabulary, (batch, batch))
    now = {"state": model.zero_state(batch)}

    def step():
        logits, state = model(symbols, now["state"])
        now["state"] = tuple(part.detach() for part in state)
        loss = torch.nn.functional.cross_entropy(logits.view(-1, model.vocabulary), symbols.view(-1))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()

    return seconds_of(step) / (batch * batch)


def main(kind, units, layers, vocabulary, embedding, threads, *rest):
    torch.set_num_threads(int(threads))
    torch.manual_seed(1)
    precision = "int8" if "int8" in rest else "fp32"
    model = TextModel(int(units), int(layers), int(vocabulary), int(embedding))
    if precision == "int8":
        model = torch.quantization.quantize_dynamic(model.eval(), {torch.nn.LSTM, torch.nn.Linear}, dtype=torch.qint8)
    for batch in (int(word) for word in rest if word.isdigit()):
        seconds = (decode if kind == "decode" else train)(model, batch)
        print(json.dumps({"peer": "torch", "kind": kind, "precision": precision, "batch": batch,
                          "chars_per_s": 1 / seconds}), flush=True)


main(*sys.argv[1:])
