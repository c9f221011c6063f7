"""PyTorch as a peer: the small model of TensorFlow's Penn Treebank tutorial, its perplexity after each epoch.

Usage: python3 torch_words.py VERSION TRAINING VALIDATION EPOCHS THREADS as-it-is|next-float
VERSION is a directory of lstmd's (models/name/1) with the vocabulary and the initial values of such a model; the
texts are split into words as lstmd splits them; with next-float the first of the values is the next larger one.
Prints a JSON object for each epoch. Debian: python3-torch.
Hyperparameters: github.com/tensorflow/models, tutorials/rnn/ptb/ptb_word_lm.py, SmallConfig: the loss is summed over
the steps of a window. The evaluation goes over EVALUATION_ROWS streams, as lstmd's does.
"""
import json
import math
import os
import struct
import sys

import torch

UNITS, LAYERS, BATCH, TIME = 200, 2, 20, 20
RATE, DECAY, WHOLE_EPOCHS, CLIP_NORM = 1.0, 0.5, 4, 5.0
EVALUATION_ROWS, EVALUATION_TIME = 16, 128


def read_weights(path):
    with open(path, "rb") as file:
        content = file.read()
    length, = struct.unpack("<Q", content[:8])
    tensors = {}
    for name, entry in json.loads(content[8:8 + length]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            data = bytearray(content[8 + length + begin:8 + length + end])
            tensors[name] = torch.frombuffer(data, dtype=torch.float32).reshape(entry["shape"])
    return tensors


def read_symbols(path, numbers):
    """Words between white space; each line ends with <eos>; <unk> stands for what is not known."""
    with open(path, encoding="utf-8") as file:
        lines = file.read().split("\n")
    lines = lines[:-1] if lines[-1] == "" else lines
    words = [word for line in lines for word in [*line.split(), "<eos>"]]
    unknown = numbers.get("<unk>")
    return torch.tensor([numbers.get(word, unknown) for word in words])


def rows_of(symbols, count):
    n = (len(symbols) - 1) // count
    return torch.stack([symbols[row * n:row * n + n + 1] for row in range(count)])


class Model(torch.nn.Module):
    """TensorFlow's weights in PyTorch's LSTM: the gates i j f o become i f g o; the forget bias is 0."""

    def __init__(self, weights):
        super().__init__()
        self.embedding = torch.nn.Parameter(weights["embedding"])
        self.w, self.b = torch.nn.Parameter(weights["softmax/w"]), torch.nn.Parameter(weights["softmax/b"])
        self.lstm = torch.nn.LSTM(self.embedding.shape[1], UNITS, LAYERS)
        for layer in range(LAYERS):
            scope = f"rnn/multi_rnn_cell/cell_{layer}/basic_lstm_cell/"
            kernel, bias = self.gates(weights[scope + "kernel"].T), self.gates(weights[scope + "bias"])
            depth = kernel.shape[1] - UNITS
            constant = getattr(self.lstm, f"bias_hh_l{layer}")    # one of PyTorch's two biases
            constant.requires_grad = False
            constant.data = torch.zeros(4 * UNITS)
            getattr(self.lstm, f"weight_ih_l{layer}").data = kernel[:, :depth].contiguous()
            getattr(self.lstm, f"weight_hh_l{layer}").data = kernel[:, depth:].contiguous()
            getattr(self.lstm, f"bias_ih_l{layer}").data = bias

    @staticmethod
    def gates(weights):
        i, j, f, o = weights.split(UNITS)
        return torch.cat([i, f, j, o]).contiguous()

    def loss(self, rows, begin, end, state):
        """The mean over symbols, and the state at the end."""
        outputs, state = self.lstm(self.embedding[rows[:, begin:end].T], state)
        logits = outputs.reshape(-1, UNITS) @ self.w + self.b
        targets = rows[:, begin + 1:end + 1].T.reshape(-1)
        return torch.nn.functional.cross_entropy(logits, targets), tuple(part.detach() for part in state)


def perplexity(model, rows):
    total, state, n = 0.0, None, rows.shape[1] - 1
    with torch.no_grad():
        for begin in range(0, n, EVALUATION_TIME):
            end = min(n, begin + EVALUATION_TIME)
            loss, state = model.loss(rows, begin, end, state)
            total += loss.item() * (end - begin)
    return math.exp(total / n)


def main(version, training, validation, epochs, threads, first):
    torch.set_num_threads(int(threads))
    with open(os.path.join(version, "vocab.json"), encoding="utf-8") as file:
        numbers = {word: number for number, word in enumerate(json.load(file)["symbols"])}
    model = Model(read_weights(os.path.join(version, "weights.safetensors")))
    if first == "next-float":
        with torch.no_grad():
            model.embedding[0, 0] = torch.nextafter(model.embedding[0, 0], torch.tensor(math.inf))
    rows = rows_of(read_symbols(training, numbers), BATCH)
    held_back = rows_of(read_symbols(validation, numbers), EVALUATION_ROWS)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for epoch in range(1, int(epochs) + 1):
        rate, state = RATE * DECAY ** max(0, epoch - WHOLE_EPOCHS), None
        for window in range((rows.shape[1] - 1) // TIME):
            loss, state = model.loss(rows, window * TIME, (window + 1) * TIME, state)
            gradients = torch.autograd.grad(TIME * loss, parameters)
            norm = torch.sqrt(sum((gradient ** 2).sum() for gradient in gradients))
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients):
                    parameter -= rate * min(1.0, CLIP_NORM / norm.item()) * gradient
        print(json.dumps({"epoch": epoch, "perplexity": perplexity(model, held_back)}), flush=True)


main(*sys.argv[1:])
