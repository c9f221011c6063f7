"""Importing Keras models: what the daemon computes of them, against plain Python; windows; what is refused."""
import contextlib
import json
import os

import foreign_files as foreign
import keras_files as keras
from keras_case import TEXT, KerasTest


class Windowed(KerasTest):
    """A model that reads a window predicts from a zero state over the last symbols, each time anew."""

    def test_one_hot_cells_of_every_kind(self):
        rng = keras.seeded(1)
        width = len(keras.SYMBOLS)
        for kind, config in (("LSTM", {}), ("LSTM", {"recurrent_activation": "sigmoid"}), ("GRU", {}),
                             ("GRU", {"reset_after": True, "recurrent_activation": "sigmoid"}),
                             ("SimpleRNN", {"activation": "relu"})):
            layers = [keras.recurrent(rng, kind, width, **config), keras.dense(rng)]
            config = keras.sequential(layers, [None, keras.WINDOW, width])
            said = self.check_windowed(layers, keras.h5(self.source("model.h5"), layers, config))
            self.assertIn("input: one-hot", said)

    def test_stacked_layers_over_an_embedding(self):
        rng = keras.seeded(2)
        first = keras.recurrent(rng, "LSTM", 2, return_sequences=True)
        second = ("LSTM", "second", *keras.recurrent(rng, "LSTM", keras.UNITS)[2:])
        layers = [keras.embedding(rng), first, second, keras.dense(rng, activation="linear")]
        path = keras.h5(self.source("model.h5"), layers, keras.sequential(layers, [None, keras.WINDOW]))
        self.assertIn("input: embedding", self.check_windowed(layers, path, 0))

    def test_hard_sigmoid_is_that_of_the_version(self):
        rng = keras.seeded(3)
        width = len(keras.SYMBOLS)
        layers = [keras.recurrent(rng, "LSTM", width), keras.dense(rng)]
        path = keras.h5(self.source("model.h5"), layers, keras.sequential(layers, [None, keras.WINDOW, width]), "3.0.5")
        layers[0][2]["recurrent_activation"] = "hard_sigmoid of Keras 3"
        self.assertIn("clip(x / 6 + 0.5, 0, 1)", self.check_windowed(layers, path))

    def test_both_directions(self):
        for go_backwards in (False, True):
            layers = keras.bidirectional(keras.seeded(18), go_backwards)
            shape = [None, keras.WINDOW, len(keras.SYMBOLS)]
            self.check_windowed(layers, keras.h5(self.source("model.h5"), layers, keras.sequential(layers, shape)))


class Masks(KerasTest):
    """Layers pass over what is masked: what stands before a text's beginning, and symbol 0 wherever it is."""

    def test_embeddings_that_mask_zero(self):
        rng = keras.seeded(19)
        for kind, config, is_true in (("LSTM", {}, True), ("GRU", {"reset_after": True}, 1), ("SimpleRNN", {}, 1.0)):
            lookup = keras.embedding(rng, mask_zero=is_true)        # whatever Python takes for true
            first = keras.recurrent(rng, kind, 2, return_sequences=True, **config)
            second = ("GRU", "second", *keras.recurrent(rng, "GRU", keras.UNITS)[2:])
            layers = [lookup, first, ("Dropout", "dropout", {"rate": 0.5}, {}), second, keras.dense(rng)]
            path = keras.h5(self.source("model.h5"), layers, keras.sequential(layers, [None, keras.WINDOW]))
            said = self.check_windowed(layers, path, 0)
            self.assertIn("mask: symbol 0 (layer embedding has mask_zero: recurrent layers pass over it)", said)

    def test_masking_layers(self):
        rng = keras.seeded(20)
        width = len(keras.SYMBOLS)
        for value in (0.0, 1.0):
            layers = [("Masking", "masking", {"mask_value": value}, {}), keras.recurrent(rng, "LSTM", width),
                      keras.dense(rng)]
            path = keras.h5(self.source("model.h5"), layers, keras.sequential(layers, [None, keras.WINDOW, width]))
            self.assertIn(f"mask: vectors of {value:g} (layer masking is a Masking", self.check_windowed(layers, path))

    def test_both_directions(self):
        rng = keras.seeded(21)
        for go_backwards in (False, True):
            both = keras.bidirectional(rng, go_backwards)
            layers = [("Masking", "masking", {"mask_value": 0.0}, {}), *both]
            path = keras.h5(self.source("model.h5"), layers,
                            keras.sequential(layers, [None, keras.WINDOW, len(keras.SYMBOLS)]))
            self.check_windowed(layers, path)

    def test_what_is_not_built(self):
        rng = keras.seeded(22)
        lookup = keras.embedding(rng, mask_zero=True)
        cell = keras.recurrent(rng, "LSTM", 2, recurrent_activation="sigmoid", return_sequences=True)
        head = keras.dense(rng)
        layers = [lookup, cell, ("Flatten", "flat", {}, {}), keras.dense(rng, keras.UNITS * keras.WINDOW)]
        path = keras.h5(self.source("model.h5"), layers, keras.sequential(layers, [None, keras.WINDOW]))
        self.refused("layer flat (Flatten) is fed symbols that are masked, which is not built here", path)
        layers = [lookup, keras.cudnn(cell), head]
        path = keras.h5(self.source("model.h5"), layers, keras.sequential(layers, [None, keras.WINDOW]))
        self.refused("layer lstm (CuDNNLSTM) is fed symbols that are masked", path)
        layers = [lookup, cell, head]
        path = keras.h5(self.source("model.h5"), layers, keras.sequential(layers, [None, None]))
        self.refused("layer embedding (Embedding) masks symbols, which is built for models that read a window only: "
                     "say --set window=N", path)


class OtherFiles(KerasTest):
    """The same models as other programs keep them."""

    def layers(self, seed):
        rng = keras.seeded(seed)
        second = ("LSTM", "second", *keras.recurrent(rng, "LSTM", keras.UNITS, recurrent_activation="sigmoid")[2:])
        first = keras.recurrent(rng, "LSTM", 2, recurrent_activation="sigmoid", return_sequences=True)
        layers = [keras.embedding(rng), first, second, keras.dense(rng)]
        return layers, keras.sequential(layers, [None, keras.WINDOW])

    def test_keras_3_archives(self):
        layers, config = self.layers(6)
        said = self.check_windowed(layers, keras.v3(self.source("model.keras"), layers, config), 0)
        self.assertIn("format: Keras 3", said)

    def test_tensorflow_js(self):
        layers, config = self.layers(7)
        for dtype, shard_bytes in ((None, None), (None, 50), ("float16", None), ("uint8", 33)):
            folder = self.source(f"tfjs-{dtype}-{shard_bytes}")
            kept = keras.tfjs(folder, layers, config, dtype, shard_bytes)
            self.assertIn("of TensorFlow.js", self.check_windowed(kept, folder, 0))
        shard = min(name for name in os.listdir(folder) if "shard" in name)
        foreign.write(os.path.join(folder, shard), b"")
        self.refused("of its shards'", folder)
        os.remove(os.path.join(folder, shard))
        self.refused(f"{shard}, which is not beside it", folder)
        foreign.write(os.path.join(folder, "model.json"), '{"format": "graph-model", "weightsManifest": []}')
        self.refused("is a graph model of TensorFlow.js", folder)

    def test_keras_1(self):
        rng = keras.seeded(13)
        for kind in ("LSTM", "GRU", "SimpleRNN"):
            layers = [keras.embedding(rng), keras.recurrent(rng, kind, 2), keras.dense(rng)]
            said = self.check_windowed(layers, keras.keras_1(self.source(kind), layers, [None, keras.WINDOW]), 0)
            self.assertIn("of Keras 1.2.2", said)

    def test_what_holds_no_numbers_is_left_out(self):
        layers = [keras.recurrent(keras.seeded(26), "LSTM", len(keras.SYMBOLS)), keras.dense(keras.seeded(27))]
        path = keras.h5(self.source("model.h5"), layers,
                        keras.sequential(layers, [None, keras.WINDOW, len(keras.SYMBOLS)]))
        with contextlib.closing(keras.Hdf5(path, is_there=True)) as file:
            file.nothing("/model_weights/nothing")
        self.check_windowed(layers, path)

    def test_weights_beside_their_configuration(self):
        layers, config = self.layers(8)
        keras.h5(self.source("weights.h5"), layers)
        foreign.write(self.source("model.json"), json.dumps({**config, "keras_version": "2.1.6"}))
        self.check_windowed(layers, os.path.dirname(self.source("weights.h5")), 0)

    def test_several_configurations_beside_weights(self):
        """The one of their name is theirs; none is taken where names do not tell. Copies are one."""
        layers, config = self.layers(8)
        config = {**config, "keras_version": "2.1.6"}
        other = {**config, **keras.sequential(layers[1:], [None, keras.WINDOW, len(keras.SYMBOLS)])}
        path = keras.h5(self.source("model_weights.h5"), layers)

        def beside(name, content):
            foreign.write(self.source(name + ".json"), json.dumps(content))

        beside("a_copy", config)
        beside("z_copy", config)
        self.check_windowed(layers, path, 0)
        beside("news", other)
        self.refused("beside model_weights.h5, weights alone, lie several models, a_copy.json and news.json among "
                     "them, and no name is more like theirs: give the right one the same name, but for .json", path)
        beside("model_old", other)
        beside("model", config)
        self.assertIn("model.json has their configuration", self.check_windowed(layers, path, 0))
        os.rename(path, self.source("model.h5"))
        self.assertIn("model.json has their configuration", self.check_windowed(layers, self.source("model.h5"), 0))
        snakes = [("Snake", *layer[1:]) for layer in layers]
        beside("model", {**config, **keras.sequential(snakes, [None, keras.WINDOW])})
        self.refused("lstmd import: model.json: layer ", self.source("model.h5"))

    def test_configurations_in_other_folders(self):
        """Those around the weights count; what lies beside other weights is theirs."""
        layers, config = self.layers(8)
        config = {**config, "keras_version": "2.1.6"}
        other = {**config, **keras.sequential(layers[1:], [None, keras.WINDOW, len(keras.SYMBOLS)])}
        for folder in ("run-1", "run-2"):
            os.mkdir(self.source(folder))
        keras.h5(self.source("run-1/weights.h5"), layers)
        keras.h5(self.source("run-2/weights.h5"), layers)
        whole = os.path.dirname(self.source("x"))
        foreign.write(self.source("run-1/model.json"), json.dumps(other))
        said = self.imported(whole, "--set", "file=run-2/weights.h5", "--set", f"window={keras.WINDOW}")[1]
        self.assertIn("run-2/weights.h5 has their weights alone", said)
        foreign.write(self.source("model.json"), json.dumps(config))
        said = self.check_windowed(layers, whole, 0, "--set", "file=run-2/weights.h5")
        self.assertIn("(model.json has their configuration", said)

    def test_a_tokenizer_beside_is_no_configuration(self):
        layers, config = self.layers(9)
        numbers = {symbol: number for number, symbol in enumerate(keras.SYMBOLS) if number}
        tokenizer = {"class_name": "Tokenizer", "config": {"char_level": True, "word_index": json.dumps(numbers)}}
        path = keras.h5(self.source("weights.h5"), layers, version="2.4.0")
        foreign.write(self.source("char_tokenizer.json"), json.dumps(tokenizer))
        said = self.check_windowed(layers, path, 0, "--set", f"window={keras.WINDOW}")
        self.assertIn("weights.h5 has their weights alone", said)
        foreign.write(self.source("model.json"), json.dumps({**config, "keras_version": "2.4.0"}))
        self.assertIn("model.json has their configuration", self.check_windowed(layers, path, 0))
        self.vocabulary = None
        self.assertIn("vocabulary: 5 characters (char_tokenizer.json, config, word_index", self.imported(path)[1])

    def test_keras_3_writes_no_version_beside_weights(self):
        rng = keras.seeded(28)
        layers = [keras.recurrent(rng, "LSTM", len(keras.SYMBOLS)), keras.dense(rng)]
        config = {"module": "keras", **keras.sequential(layers, [None, keras.WINDOW, len(keras.SYMBOLS)])}
        path = keras.v3_weights(self.source("model.weights.h5"), layers)
        foreign.write(self.source("model.json"), json.dumps(config))
        layers[0][2]["recurrent_activation"] = "hard_sigmoid of Keras 3"
        said = self.check_windowed(layers, path)
        self.assertIn("model.json has their configuration, of Keras 3)", said)
        self.assertIn("recurrent activation: hard_sigmoid (clip(x / 6 + 0.5, 0, 1)", said)


class Stateful(KerasTest):
    def check(self, layers, input_shape, *arguments):
        path = keras.h5(self.source("model.h5"), layers, keras.sequential(layers, input_shape))
        name, said = self.imported(path, *arguments)
        self.assertIn("generation: stateful", said)
        for length in (1, len(TEXT)):
            self.assert_predicts(name, TEXT[:length], keras.probabilities(layers, TEXT[:length]))

    def test_states_are_carried(self):
        rng = keras.seeded(4)
        config = {"stateful": True, "return_sequences": True}
        for kind in ("LSTM", "GRU", "SimpleRNN"):
            layers = [keras.embedding(rng), keras.recurrent(rng, kind, 2, **config), keras.dense(rng)]
            self.check(layers, [1, 7])
        layers = [keras.recurrent(rng, "LSTM", len(keras.SYMBOLS)), keras.dense(rng)]
        self.check(layers, [None, None, len(keras.SYMBOLS)])
        self.check(layers, [None, keras.WINDOW, len(keras.SYMBOLS)], "--set", "window=none")


class Refusals(KerasTest):
    def test_what_cannot_be_built(self):
        rng = keras.seeded(5)
        width = len(keras.SYMBOLS)
        cell, head = keras.recurrent(rng, "LSTM", width), keras.dense(rng)
        shape = [None, keras.WINDOW, width]
        other = ("Conv1D", "conv", {"filters": 3}, {})
        for layers, reason in (
                ([cell, other, head], "layer conv is a Conv1D of Keras, which is not read here"),
                ([(*cell[:2], {**cell[2], "recurrent_activation": "mine"}, cell[3]), head],
                 "layer lstm: the activation mine is not built here"),
                ([cell], "the last layer, lstm (LSTM, tanh), gives no probabilities"),
                ([cell, (*head[:2], {**head[2], "activation": "sigmoid"}, head[3])], "gives no probabilities"),
                ([(*cell[:3], {**cell[3], "kernel": foreign.array(rng, 2, 12)}), head],
                 "lstm/lstm/kernel:0 is (2, 12), the layer's kernel must be (5, 12)"),
                ([(*cell[:3], {}), head], "layer lstm"),
                ([(*cell[:2], {**cell[2], "go_backwards": True, "stateful": True}, cell[3]), head],
                 "layer lstm (LSTM) needs a text's end")):
            path = keras.h5(self.source("model.h5"), layers, keras.sequential(layers, shape))
            self.refused(reason, path)
        layers = [cell, head]
        path = keras.h5(self.source("model.h5"), layers, keras.sequential(layers, shape))
        self.refused("window=0 is neither a number from 1", path, "--set", "window=0")
        for setting in ("activation=relu", "output=nowhere"):
            self.refused(f"{setting} was set, and nothing of this model asks for it", path, "--set", setting)
        self.refused("its inputs are vectors of 7, but it predicts 5 symbols", keras.h5(
            self.source("model.h5"), [keras.recurrent(rng, "LSTM", 7), head],
            keras.sequential([keras.recurrent(rng, "LSTM", 7), head], [None, 4, 7])))
        with open(path, "rb") as file:
            content = file.read()
        self.refused("a damaged HDF5 file", foreign.write(path, content[:len(content) // 2]))

    def test_a_softmax_of_no_matrix_of_its_own(self):
        layers = [keras.recurrent(keras.seeded(29), "LSTM", keras.UNITS), ("Softmax", "softmax", {}, {})]
        path = keras.h5(self.source("model.h5"), layers,
                        keras.sequential(layers, [None, keras.WINDOW, keras.UNITS]))
        self.refused("vocabulary has 5 symbols, the matrices have 3 (the last layer): give the right one", path)

    def test_functions_with_arguments(self):
        rng = keras.seeded(15)
        width = len(keras.SYMBOLS)
        cell, head = keras.recurrent(rng, "LSTM", width), keras.dense(rng, activation="linear")
        for kind, config, reason in (
                ("ReLU", {"max_value": 6.0}, "layer odd is a ReLU whose max_value is 6, which is not built here"),
                ("ReLU", {"max_value": 6}, "max_value is 6,"),
                ("ReLU", {"max_value": None, "negative_slope": 0.3}, "negative_slope is 0.3,"),
                ("ReLU", {"threshold": 1}, "threshold is 1,"),
                ("ReLU", {"max_value": "six"}, "max_value is nan,"),
                ("Softmax", {"axis": 1}, "layer odd is a Softmax along axis 1, not the last one")):
            for is_wrapped in (False, True):
                layer = {"class_name": kind, "config": config}
                odd = ("TimeDistributed", "odd", {"layer": layer}, {}) if is_wrapped else (kind, "odd", config, {})
                layers = [cell, odd, head]
                path = keras.h5(self.source("model.h5"), layers, keras.sequential(layers, [None, keras.WINDOW, width]))
                self.refused(reason, path)
        plain = {"max_value": None, "negative_slope": 0.0, "threshold": 0}
        layers = [cell, ("ReLU", "relu", plain, {}), head, ("Softmax", "softmax", {"axis": -1}, {})]
        self.imported(keras.h5(self.source("model.h5"), layers,
                               keras.sequential(layers, [None, keras.WINDOW, width])))

    def test_inputs_beside_the_symbols(self):
        rng = keras.seeded(16)
        width = len(keras.SYMBOLS)
        cell, head = keras.recurrent(rng, "LSTM", 2 * width), keras.dense(rng)
        shape = {"batch_input_shape": [None, keras.WINDOW, width]}
        layers = [("InputLayer", "symbols", shape, {}), ("InputLayer", "authors", shape, {}),
                  ("Concatenate", "both", {}, {}), cell, head]
        path = keras.h5(self.source("model.h5"), layers, keras.functional(layers, {
            "both": ["symbols", "authors"], "lstm": ["both"], "dense": ["lstm"]}))
        self.refused("the output needs 2 inputs, symbols are one", path)
        path = keras.h5(self.source("model.h5"), layers, keras.functional(layers, {
            "both": ["symbols", "symbols"], "lstm": ["both"], "dense": ["lstm"]}))
        self.imported(path)

    def test_other_layers_for_the_other_direction(self):
        rng = keras.seeded(17)
        layers = keras.bidirectional(rng, go_backwards=False)
        shape = [None, keras.WINDOW, len(keras.SYMBOLS)]
        own = layers[0][2]["layer"]
        for kind, changes in (("GRU", {}), ("LSTM", {"activation": "relu"}),
                              ("LSTM", {"recurrent_activation": "sigmoid"}), ("LSTM", {"go_backwards": False})):
            layers[0][2]["backward_layer"] = {"class_name": kind,
                                              "config": {**own["config"], "go_backwards": True, **changes}}
            path = keras.h5(self.source("model.h5"), layers, keras.sequential(layers, shape))
            self.refused("layer both: its backward_layer is not its layer turned", path)
