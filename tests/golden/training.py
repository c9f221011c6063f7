#!/usr/bin/python3
"""Writes training.h: the losses that PyTorch (1.13.1) has over 200 steps of small trainings, for
tests/unit/test_training_golden.c, which has the same text, initial values and hyperparameters.

    /usr/bin/python3 tests/golden/training.py > tests/golden/training.h
"""
import math
import sys

import torch

SYMBOLS, LENGTH, UNITS, LAYERS, BATCH, TIME, STEPS, EVALUATION_ROWS = 7, 6000, 16, 2, 8, 12, 200, 16
TRAIN = int((1 - 0.1) * LENGTH)


def mix(number):
    number = number * 2654435761 % 2 ** 32
    number ^= number >> 15
    number = number * 2246822519 % 2 ** 32
    return number ^ number >> 13


def symbol(i):
    word = mix(i)
    return (word // 10 if word % 10 == 0 else i) % SYMBOLS


def initial(variable, shape):
    count = math.prod(shape)
    values = [1.6 * (mix(i + 100000 * variable) / 2 ** 32 - 0.5) for i in range(count)]
    return torch.tensor(values, dtype=torch.float32).reshape(shape)


def rows_of(begin, count, rows):
    n = (count - 1) // rows
    text = torch.tensor([symbol(begin + i) for i in range(count)])
    return torch.stack([text[r * n:r * n + n + 1] for r in range(rows)])


class Model(torch.nn.Module):
    """TensorFlow's weights in PyTorch's LSTM: the gates i j f o become i f g o, the forget bias a constant."""

    def __init__(self, embedding, forget_bias):
        super().__init__()
        names = iter(range(100))
        self.embedding = torch.nn.Parameter(initial(next(names), (SYMBOLS, embedding))) if embedding else None
        depth = embedding or SYMBOLS
        w, b = initial(next(names), (UNITS, SYMBOLS)), initial(next(names), (SYMBOLS,))
        self.w, self.b = torch.nn.Parameter(w), torch.nn.Parameter(b)
        self.lstm = torch.nn.LSTM(depth, UNITS, LAYERS)
        for layer in range(LAYERS):
            rows = depth if layer == 0 else UNITS
            kernel = self.gates(initial(next(names), (rows + UNITS, 4 * UNITS)).T)
            bias = self.gates(initial(next(names), (4 * UNITS,)))
            constant = getattr(self.lstm, f"bias_hh_l{layer}")
            constant.requires_grad = False
            constant.data = torch.zeros(4 * UNITS)
            constant.data[UNITS:2 * UNITS] = forget_bias
            getattr(self.lstm, f"weight_ih_l{layer}").data = kernel[:, :rows].contiguous()
            getattr(self.lstm, f"weight_hh_l{layer}").data = kernel[:, rows:].contiguous()
            getattr(self.lstm, f"bias_ih_l{layer}").data = bias

    @staticmethod
    def gates(weights):
        i, j, f, o = weights.split(UNITS)
        return torch.cat([i, f, j, o]).contiguous()

    def forward(self, symbols, state):
        x = symbols.T
        x = torch.nn.functional.one_hot(x, SYMBOLS).float() if self.embedding is None else self.embedding[x]
        outputs, state = self.lstm(x, state)
        return outputs.transpose(0, 1) @ self.w + self.b, state


def loss_of(logits, targets, smoothing=0.0):
    return torch.nn.functional.cross_entropy(logits.reshape(-1, SYMBOLS), targets.reshape(-1),
                                             label_smoothing=smoothing)


def rmsprop(parameters):
    """As TensorFlow begins: the mean squares are 1."""
    optimizer = torch.optim.RMSprop(parameters, lr=0.01, alpha=0.95, eps=1e-10)
    for group in optimizer.param_groups:
        for p in group["params"]:
            optimizer.state[p] = {"step": 0, "square_avg": torch.ones_like(p)}
    return optimizer


def cosine(step, epoch):
    done = min(step, 150) / 150
    return (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done))) * min(1, (step + 1) / 20)


def constant(step, epoch):
    return 1.0


CASES = [
    # name, embedding, forget bias, optimiser, rate at a step (from 0) of an epoch (from 1), clipping, label smoothing
    ("sgd", 0, 0.0, lambda p: torch.optim.SGD(p, lr=4.0), constant, {"norm": 2}, 0),
    ("adam", 0, 1.0, lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.99)),
     lambda step, epoch: 0.8 ** max(0, epoch - 1), {"norm": 5}, 0),
    ("adamw", 5, 1.0, lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1), cosine, {"norm": 5}, 0),
    ("momentum", 0, 1.0, lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.9, nesterov=True, weight_decay=0.001), constant,
     {"value": 0.05}, 0),
    ("rmsprop", 0, 1.0, rmsprop, lambda step, epoch: 0.5 ** (step / 100), {"norm": 5}, 0),
    ("adagrad", 5, 1.0, lambda p: torch.optim.Adagrad(p, lr=0.3, initial_accumulator_value=0.1), constant,
     {"norm": 5}, 0.1),
]


def train(embedding, forget_bias, make_optimizer, factor, clipping, smoothing):
    model = Model(embedding, forget_bias)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = make_optimizer(parameters)
    rate = optimizer.param_groups[0]["lr"]
    text = rows_of(0, TRAIN, BATCH)
    held_back = rows_of(TRAIN, LENGTH - TRAIN, EVALUATION_ROWS)
    windows = (text.shape[1] - 1) // TIME
    smoothed, losses, state = 0.0, [], None
    for step in range(STEPS):
        begin = step % windows * TIME
        state = None if begin == 0 else tuple(s.detach() for s in state)
        for group in optimizer.param_groups:
            group["lr"] = rate * factor(step, step // windows + 1)
        logits, state = model(text[:, begin:begin + TIME], state)
        targets = text[:, begin + 1:begin + TIME + 1]
        optimizer.zero_grad()
        loss_of(logits, targets, smoothing).backward()
        if "norm" in clipping:
            torch.nn.utils.clip_grad_norm_(parameters, clipping["norm"])
        if "value" in clipping:
            torch.nn.utils.clip_grad_value_(parameters, clipping["value"])
        optimizer.step()
        smoothed += (loss_of(logits, targets).item() - smoothed) / min(step + 1, 100)
        with torch.no_grad():
            logits, _ = model(held_back[:, :-1], None)
            losses.append((smoothed, loss_of(logits, held_back[:, 1:]).item()))
    return losses


def main():
    torch.set_num_threads(1)
    print("/* Losses of PyTorch, made by training.py: after each step the smoothed one of training and the one of the text\n"
          f" * held back. PyTorch {torch.__version__.split('+')[0]}. */")
    print(f"enum {{ GOLDEN_STEPS = {STEPS} }};\n\n/* clang-format off */")
    for name, *case in CASES:
        print(f"static const double GOLDEN_{name.upper()}[GOLDEN_STEPS][2] = {{")
        losses = train(*case)
        for i in range(0, STEPS, 4):
            print("    " + " ".join(f"{{{a:.7f}, {b:.7f}}}," for a, b in losses[i:i + 4]))
        print("};")
    print("/* clang-format on */")


if __name__ == "__main__":
    sys.exit(main())
