"""Importing the weights of Keras models alone: what they tell, what is asked for, and what is refused."""
import json
import os

import foreign_files as foreign
import keras_files as keras
from keras_case import TEXT, KerasTest


class Weights(KerasTest):
    """Weights alone, and CuDNN's layout of them."""

    def cudnn_layers(self, seed):
        """The layers that compute, and the same as CuDNN keeps them."""
        rng = keras.seeded(seed)
        config = {"recurrent_activation": "sigmoid"}
        layers = [keras.embedding(rng), keras.recurrent(rng, "LSTM", 2, return_sequences=True, **config),
                  keras.recurrent(rng, "GRU", keras.UNITS, reset_after=True, **config), keras.dense(rng)]
        return layers, [layers[0], keras.cudnn(layers[1]), keras.cudnn(layers[2]), layers[3]]

    def test_cudnn_layers(self):
        layers, stored = self.cudnn_layers(9)
        path = keras.h5(self.source("model.h5"), stored, keras.sequential(stored, [None, keras.WINDOW]))
        self.check_windowed(layers, path, 0)
        self.refused("rest=used: it can only be ignored", path, "--set", "rest=used")

    def test_textgenrnn(self):
        rng = keras.seeded(14)
        config = {"recurrent_activation": "sigmoid", "return_sequences": True}
        recurrent = [("LSTM", name, *keras.recurrent(rng, "LSTM", columns, **config)[2:])
                     for name, columns in (("rnn_1", 2), ("rnn_2", keras.UNITS))]
        layers = [keras.embedding(rng), *recurrent, keras.attention(rng, 2 + 2 * keras.UNITS),
                  keras.dense(rng, 2 + 2 * keras.UNITS)]
        stored = [("InputLayer", "input", {}, {}), *layers[:1], *map(keras.cudnn, recurrent),
                  ("Concatenate", "rnn_concat", {}, {}), *layers[3:]]
        path = keras.h5(self.source("weights.hdf5"), stored)
        name, said = self.imported(path, "--set", f"window={keras.WINDOW}")
        self.assertIn("layers: Embedding 2, CuDNNLSTM 3, CuDNNLSTM 3, Concatenate, AttentionWeightedAverage", said)
        for length in (2, len(TEXT)):
            window = keras.window_of(TEXT[:length], 0)
            self.assert_predicts(name, TEXT[:length], keras.textgenrnn_probabilities(layers, window))
        self.assertIn("generation: windowed, 40 symbols", self.imported(path)[1])

    def test_weights_alone(self):
        layers, stored = self.cudnn_layers(10)
        path = keras.h5(self.source("weights.h5"), stored)
        self.refused("weights alone do not tell how many symbols its inputs have: say --set window=N", path)
        said = self.check_windowed(layers, path, 0, "--set", f"window={keras.WINDOW}")
        self.assertIn("layers: Embedding 2, CuDNNLSTM 3, CuDNNGRU 3, Dense 5 (weights.h5 has their weights alone", said)
        for setting in ("recurrent_activation=hard_sigmoid", "activation=relu"):
            self.refused(f"{setting} was set, and nothing of this model asks for it", path, "--set", setting, "--set",
                         f"window={keras.WINDOW}")

    def objects(self, name, layers, more=()):
        """The weights as save_weights of TensorFlow 2 keeps them."""
        tensors = dict(more)
        for at, (_, _, _, weights) in enumerate(layers):
            for weight, values in weights.items():
                weight = weight.replace("_lstm/", "_layer/cell/")
                tensors[f"layer_with_weights-{at}/{weight}/.ATTRIBUTES/VARIABLE_VALUE"] = values
        return foreign.tensorflow_checkpoint(self.source(name), tensors)

    def test_both_directions(self):
        layers = keras.bidirectional(keras.seeded(23), False)
        self.check_windowed(layers, self.objects("both", layers), None, "--set", f"window={keras.WINDOW}", "--set",
                            "recurrent_activation=hard_sigmoid")

    def test_hidden_layers(self):
        rng = keras.seeded(24)
        hidden = ("Dense", "hidden", *keras.dense(rng, activation="relu")[2:])
        layers = [keras.embedding(rng), keras.recurrent(rng, "LSTM", 2), hidden, keras.dense(rng, len(keras.SYMBOLS))]
        said = ("--set", f"window={keras.WINDOW}", "--set", "recurrent_activation=hard_sigmoid")
        for path in (self.objects("hidden", layers), keras.h5(self.source("hidden.h5"), layers)):
            self.refused("weights alone do not tell the activation of its hidden layer ", path, *said)
            self.refused("the activation step is not built here", path, *said, "--set", "activation=step")
            told = self.check_windowed(layers, path, 0, *said, "--set", "activation=relu")
            self.assertIn("activation: relu (of its hidden layers: it was set)", told)

    def test_weights_that_are_left_over(self):
        rng = keras.seeded(25)
        layers = [keras.embedding(rng), keras.recurrent(rng, "LSTM", 2), keras.dense(rng)]
        said = ("--set", f"window={keras.WINDOW}", "--set", "recurrent_activation=hard_sigmoid")
        slots = {f"optimizer/_variables/{at}/.ATTRIBUTES/VARIABLE_VALUE": ((2, 2), [0.5] * 4) for at in range(3)}
        slots.update({f"model/{name}": values for name, values in slots.items()})
        self.check_windowed(layers, self.objects("optimizer", layers, slots), 0, *said)
        for name in ("layer_with_weights-1/extra", "model/highway/alpha"):
            more = {name + "/.ATTRIBUTES/VARIABLE_VALUE": ((3, 3), [0.5] * 9)}
            path = self.objects("more", layers, more)
            self.refused("of shape (3, 3) belongs to no layer that is known: the model does more than is understood",
                         path, *said)
            self.refused("rest=used: it can only be ignored", path, *said, "--set", "rest=used")
            self.imported(path, *said, "--set", "rest=ignored")

    def test_what_the_version_tells_of_weights_alone(self):
        rng = keras.seeded(11)
        layers = [keras.recurrent(rng, "LSTM", len(keras.SYMBOLS)), keras.dense(rng)]
        window = ("--set", f"window={keras.WINDOW}")
        path = keras.h5(self.source("weights.h5"), layers, version="2.2.4")
        self.check_windowed(layers, path, None, *window)
        path = keras.h5(self.source("weights.h5"), layers, version="2.2.4-tf")
        self.refused("say --set recurrent_activation=sigmoid or hard_sigmoid", path, *window)
        self.check_windowed(layers, path, None, *window, "--set", "recurrent_activation=hard_sigmoid")

    def test_vocabularies_that_are_numbered_from_1(self):
        layers, stored = self.cudnn_layers(12)
        path = keras.h5(self.source("model.h5"), stored, keras.sequential(stored, [None, keras.WINDOW]))
        symbols = ["<s>", "b", "c", "\n"]
        self.vocabulary = foreign.write(os.path.join(self.folder, "from-1"),
                                        json.dumps({symbol: number for number, symbol in enumerate(symbols, 1)}))
        name, said = self.imported(path)
        self.assertIn("padding: <pad>", said)
        want = keras.probabilities(layers, keras.window_of([1, 2, 3], 0))
        reply = self.expect(200, "POST", "/v1/completions",
                            {"model": name, "prompt": "<s>bc", "max_tokens": 1, "temperature": 0, "logprobs": 1})
        logprobs = reply["choices"][0]["logprobs"]
        self.assertEqual(logprobs["tokens"], [["<pad>", *symbols][want.index(max(want))]])
        self.assertAlmostEqual(2.718281828459045 ** logprobs["token_logprobs"][0], max(want), delta=2e-6)
