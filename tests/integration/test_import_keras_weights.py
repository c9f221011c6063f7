"""Importing the weights of Keras models alone: what they tell, what is asked for, and what is refused."""
import contextlib
import json
import os

import foreign_files as foreign
import keras_files as keras
from keras_case import TEXT, KerasTest

WINDOW = ("--set", f"window={keras.WINDOW}")


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

    def textgenrnn_layers(self):
        """What computes, and how it is stored."""
        rng = keras.seeded(14)
        config = {"recurrent_activation": "sigmoid", "return_sequences": True}
        recurrent = [("LSTM", name, *keras.recurrent(rng, "LSTM", columns, **config)[2:])
                     for name, columns in (("rnn_1", 2), ("rnn_2", keras.UNITS))]
        layers = [keras.embedding(rng), *recurrent, keras.attention(rng, 2 + 2 * keras.UNITS),
                  keras.dense(rng, 2 + 2 * keras.UNITS)]
        return layers, [("InputLayer", "input", {}, {}), *layers[:1], *map(keras.cudnn, recurrent),
                        ("Concatenate", "rnn_concat", {}, {}), *layers[3:]]

    def test_textgenrnn(self):
        layers, stored = self.textgenrnn_layers()
        path = keras.h5(self.source("weights.hdf5"), stored)
        name, said = self.imported(path, "--set", f"window={keras.WINDOW}")
        self.assertIn("layers: Embedding 2, CuDNNLSTM 3, CuDNNLSTM 3, Concatenate, AttentionWeightedAverage", said)
        for length in (2, len(TEXT)):
            window = keras.window_of(TEXT[:length], 0)
            self.assert_predicts(name, TEXT[:length], keras.textgenrnn_probabilities(layers, window))
        self.assertIn("generation: windowed, 40 symbols", self.imported(path)[1])

    def test_the_configuration_of_textgenrnn(self):
        """What lies beside says the length of inputs, also where the vocabulary is given; of several the one of its
        name."""
        layers, stored = self.textgenrnn_layers()
        path = keras.h5(self.source("poems_weights.hdf5"), stored)
        def beside(**lengths):
            for name, length in lengths.items():
                foreign.write(self.source(name + "_config.json"), json.dumps({"rnn_layers": 2, "max_length": length}))
        foreign.write(self.source("a_vocab.json"), json.dumps({f"word-{at}": at for at in range(300)}))
        beside(textgenrnn=10)
        self.assertIn("max_length: 10 (textgenrnn_config.json says so)", self.imported(path)[1])
        beside(news=20, poems=keras.WINDOW)
        name, said = self.imported(path)
        self.assertIn(f"max_length: {keras.WINDOW} (poems_config.json says so)", said)
        window = keras.window_of(TEXT, 0)
        self.assert_predicts(name, TEXT, keras.textgenrnn_probabilities(layers, window))
        other = keras.h5(self.source("poem.hdf5"), stored)
        self.refused("weights alone do not tell how many symbols its inputs have (news_config.json says 20, "
                     "textgenrnn_config.json says 10): say --set window=N", other)
        self.imported(other, *WINDOW)

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


class Names(KerasTest):
    """Layers without weights are what their names say."""

    def layers(self, seed, *between):
        rng = keras.seeded(seed)
        return [keras.recurrent(rng, "LSTM", len(keras.SYMBOLS)), *between, keras.dense(rng)]

    def stored(self, layers):
        return keras.h5(self.source("weights.h5"), layers, version="2.1.5")

    def test_what_changes_nothing(self):
        names = ("input_1", "spatial_dropout1d_3", "gaussian_noise", "alphadropout_2")
        layers = [("Layer", name, {}, {}) for name in names] + self.layers(40, ("Dropout", "dropout_1", {}, {}))
        said = self.check_windowed(layers, self.stored(layers), None, *WINDOW)
        self.assertIn("output: dense (the last layer with weights; its activation is taken for its softmax, which "
                      "weights alone do not tell)", said)

    def test_one_direction_of_a_name_that_says_it(self):
        first, last = self.layers(49)
        layers = [("LSTM", "forward_lstm", *first[2:]), last]
        self.check_windowed(layers, self.stored(layers), None, *WINDOW)

    def test_masking(self):
        layers = [("Masking", "masking_1", {"mask_value": 0.0}, {}), *self.layers(41)]
        said = self.check_windowed(layers, self.stored(layers), None, *WINDOW)
        self.assertIn("mask value: 0 (layer masking_1: Keras' default, weights alone tell no other)", said)

    def test_what_computes_or_is_unknown(self):
        for name, reason in (
                ("leaky_re_lu_1", "weights alone do not tell what its layer leaky_re_lu_1 does, which has none: say "
                                  "--set rest=ignored if it does nothing when the model predicts"),
                ("mine", "weights alone do not tell what its layer mine does"),
                ("input_2", "weights alone do not tell what its layer input_2 does"),
                ("add_1", "layer add_1, by its name of the class Add, has no weights: what it is fed with"),
                ("flatten", "layer flatten, by its name of the class Flatten, has no weights"),
                ("dense_7", "layer dense_7, by its name of the class Dense, has no weights")):
            layers = [("InputLayer", "input_1", {}, {}), *self.layers(42, ("Layer", name, {}, {}))]
            self.refused(reason, self.stored(layers), *WINDOW)
        layers = self.layers(43, ("Layer", "mine", {}, {}))
        said = self.check_windowed(layers, self.stored(layers), None, *WINDOW, "--set", "rest=ignored")
        self.assertIn("left out: mine (it has no weights, and rest=ignored was set)", said)

    def test_an_activation_at_the_end_is_the_softmax(self):
        rng = keras.seeded(44)
        last = ("Activation", "activation_1", {}, {})
        layers = [*self.layers(45, ("Dropout", "dropout_1", {}, {})), last]
        said = self.check_windowed(layers, self.stored(layers), None, *WINDOW)
        self.assertIn("output: dense (the last layer with weights; activation_1 is taken for its softmax, which "
                      "weights alone do not tell)", said)
        hidden = ("Dense", "hidden", {"activation": "relu"}, {"kernel": foreign.array(rng, 3, 3),
                                                             "bias": foreign.array(rng, 3)})
        layers = [*self.layers(46, hidden), last]
        self.refused("weights alone do not tell the activation of its hidden layer hidden: say --set activation=",
                     self.stored(layers), *WINDOW)
        self.check_windowed(layers, self.stored(layers), None, *WINDOW, "--set", "activation=relu")

    def test_an_activation_between_layers_is_asked_for(self):
        rng = keras.seeded(47)
        hidden = ("Dense", "hidden", {"activation": "tanh"}, {"kernel": foreign.array(rng, 3, 3),
                                                             "bias": foreign.array(rng, 3)})
        layers = self.layers(48, hidden, ("Dropout", "dropout_1", {}, {}), ("Activation", "activation_1", {}, {}))
        self.refused("weights alone do not tell the activation of its hidden layer activation_1: say --set activation=",
                     self.stored(layers), *WINDOW)
        said = self.check_windowed(layers, self.stored(layers), None, *WINDOW, "--set", "activation=tanh")
        self.assertIn("activation: linear (of hidden: activation_1 stands behind it)", said)


class Keras1(KerasTest):
    """Weights of Keras 1, named after layers and gates, without a version."""

    def check(self, layers, stored, padding=None):
        path = keras.keras_1_weights(self.source("weights.h5"), stored)
        self.refused("weights alone do not tell how many symbols its inputs have: say --set window=N", path)
        said = self.check_windowed(layers, path, padding, *WINDOW)
        self.assertIn("weights.h5 has their weights alone, of Keras 1)", said)
        return said

    def test_cells_of_every_kind(self):
        rng = keras.seeded(50)
        for kind in ("LSTM", "GRU", "SimpleRNN"):
            for table in ("embedding_1", "letters", None):
                first = [("Embedding", table, *keras.embedding(rng)[2:])] if table else []
                layers = [*first, keras.recurrent(rng, kind, 2 if first else len(keras.SYMBOLS)), keras.dense(rng)]
                said = self.check(layers, keras.keras_1_names(layers), 0 if first else None)
                self.assertIn(f"layers: {'Embedding 2, ' if first else ''}{kind} 3, Dense 5 (", said)

    def test_wrappers(self):
        rng = keras.seeded(51)
        layers = keras.bidirectional(rng, False)
        parts = {side: {name.split("/")[1]: values for name, values in layers[0][3].items() if name.startswith(side)}
                 for side in ("forward", "backward")}
        both = {}
        for side, weights in parts.items():
            both.update(keras.keras_1_names([("LSTM", side + "_lstm_1", {}, weights)])[0][3])
        above = keras.keras_1_names(layers[1:])
        stored = [("Bidirectional", "bidirectional_1", {}, both), above[0],
                  ("TimeDistributed", "timedistributed_1", {}, above[1][3])]
        self.check(layers, stored)

    def test_a_wrapper_of_a_whole_model(self):
        rng = keras.seeded(52)
        layers = [keras.recurrent(rng, "LSTM", len(keras.SYMBOLS)), keras.dense(rng)]
        cell, head = keras.keras_1_names(layers)
        inner = {"class_name": "Dense", "config": {"name": "dense", **head[2]}}
        stored = [cell, ("TimeDistributed", "timedistributed_1", {"layer": inner}, head[3])]
        path = keras.h5(self.source("model.h5"), stored,
                        keras.sequential(stored, [None, keras.WINDOW, len(keras.SYMBOLS)]), "1.2.2", "{name}:0")
        self.check_windowed(layers, path)


class Keras3(KerasTest):
    """Weights of Keras 3, whose layers are in no order."""

    def stored(self, layers):
        return keras.v3_weights(self.source("model.weights.h5"), layers)

    def test_an_order_that_names_and_shapes_tell(self):
        rng = keras.seeded(60)
        config = {"recurrent_activation": "sigmoid"}
        layers = [keras.embedding(rng), ("Dropout", "dropout", {}, {}),
                  keras.recurrent(rng, "LSTM", 2, return_sequences=True, **config),
                  keras.recurrent(rng, "LSTM", keras.UNITS, **config), keras.dense(rng)]
        said = self.check_windowed(layers, self.stored(layers), 0, *WINDOW)
        self.assertIn("order: embedding,lstm,lstm_1,dense (the one that fits the names' numbers and the shapes)", said)
        self.assertIn("model.weights.h5 has their weights alone, of Keras 3)", said)
        layers = [("Masking", "masking", {"mask_value": 0.0}, {}),
                  keras.recurrent(rng, "GRU", len(keras.SYMBOLS), reset_after=True, **config), keras.dense(rng),
                  ("Softmax", "softmax", {}, {})]
        said = self.check_windowed(layers, self.stored(layers), None, *WINDOW)
        self.assertIn("order: masking,gru,dense,softmax (", said)

    def test_both_directions(self):
        layers = keras.bidirectional(keras.seeded(61), False)
        path = self.stored(layers)
        for layer in (layers[0][2]["layer"]["config"], layers[1][2]):
            layer["recurrent_activation"] = "hard_sigmoid of Keras 3"
        self.check_windowed(layers, path, None, *WINDOW, "--set", "recurrent_activation=hard_sigmoid")

    def test_an_order_that_is_asked_for(self):
        rng = keras.seeded(62)
        config = {"recurrent_activation": "sigmoid", "return_sequences": True}
        table = keras.embedding(rng, keras.UNITS)
        layers = [table, keras.recurrent(rng, "LSTM", keras.UNITS, **config),
                  keras.recurrent(rng, "GRU", keras.UNITS, reset_after=True, **config), keras.dense(rng)]
        path = self.stored(layers)
        self.refused("model.weights.h5: weights alone do not tell the order of its layers: say --set layers=A,B,… "
                     "with all of dense,embedding,gru,lstm as they stand from the input to the output", path, *WINDOW)
        said = self.check_windowed(layers, path, 0, *WINDOW, "--set", "layers=embedding,lstm,gru,dense")
        self.assertIn("order: embedding,lstm,gru,dense (it was set)", said)
        for names, reason in (("embedding,lstm,gru", "layers: 'dense' is not among them"),
                              ("lstm,lstm", "layers: 'lstm' is no layer that it has, or was named before"),
                              ("", "layers: '' is no layer"), ("dense,", "layers: '' is no layer"),
                              ("embedding,dense,gru,lstm", "the activation of its hidden layer dense")):
            self.refused(reason, path, *WINDOW, "--set", "layers=" + names)
        self.refused("weights alone do not tell the order of its layers, whose shapes fit in none one behind the other",
                     self.stored([table, keras.recurrent(rng, "LSTM", 4), keras.dense(rng)]), *WINDOW)

    def test_activations_are_somewhere(self):
        rng = keras.seeded(63)
        layers = [keras.recurrent(rng, "LSTM", len(keras.SYMBOLS), recurrent_activation="sigmoid"), keras.dense(rng),
                  ("Activation", "activation", {}, {})]
        path = self.stored(layers)
        self.refused("weights alone do not tell where its layer activation stands: say --set layers=A,B,… with all of "
                     "lstm,dense,activation as they stand", path, *WINDOW)
        self.check_windowed(layers, path, None, *WINDOW, "--set", "layers=lstm,dense,activation")
        layers[2] = ("LeakyReLU", "leaky", {}, {})
        self.refused("what its layer leaky_re_lu does, which has none", self.stored(layers), *WINDOW)

    def test_what_optimisers_and_dropouts_keep_is_left_out(self):
        rng = keras.seeded(64)
        layers = [keras.recurrent(rng, "LSTM", len(keras.SYMBOLS), recurrent_activation="sigmoid"),
                  ("Dropout", "dropout", {}, {}), keras.dense(rng)]
        path = self.stored(layers)
        with contextlib.closing(keras.Hdf5(path, is_there=True)) as file:
            file.dataset("/optimizer/vars/2", foreign.array(rng, 5, 12), file.parents())
            for place in ("lstm/cell", "dropout"):
                file.dataset(f"/layers/{place}/seed_generator/vars/0", ((2,), [7, 8]), file.parents(), is_whole=True)
        self.check_windowed(layers, path, None, *WINDOW)
