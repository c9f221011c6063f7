"""Importing what holds more than one model: checkpoints with the best weights so far, with averages or with the module
beside its state_dict, in dictionaries and in lists."""
import collections

import foreign_files as foreign
from import_case import ComputedTest, ImportTest

CELLS = [("lstm", 3)]
TOKENS = {"tokens": foreign.SYMBOLS}


def states(*models):
    """A state_dict of each, and the storages of all."""
    made, storages = [], []
    for tensors in models:
        state, more = foreign.torch_tensors(tensors, begin=len(storages))
        made.append(state)
        storages += more
    return *made, storages


def optimizer(storages):
    """What an optimiser's state_dict is."""
    moment, more = foreign.torch_tensors({"exp_avg": ((7, 3), [0.5] * 21)}, begin=len(storages))
    storages += more
    return {"state": {0: moment}, "param_groups": [{"lr": 0.1, "params": [0]}]}


class Refusals(ImportTest):
    def refused(self, message, root, storages, *arguments):
        self.bad(message, foreign.write(self.folder + "/model", foreign.torch_archive(root, storages)), *arguments)

    def test_models_that_differ_are_asked_for(self):
        one, other, storages = states(foreign.torch_stack(CELLS, 1), foreign.torch_stack(CELLS, 2))
        for names in (("state_dict", "ema_state_dict"), ("best", "last"), ("model", "state_dict")):
            root = {names[0]: one, names[1]: other, **TOKENS}
            for first, second in (names, names[::-1]):
                if sorted(names)[0] == first:
                    self.refused(f"it holds several models, one of them below {first}, another below {second}: say "
                                 f"--set root={first} or root={second}, or root=all", root, storages)
            self.refused("it holds several models", root, storages, "--set", "root=none")
            self.refused("root=other: no tensor's name begins with it", root, storages, "--set", "root=other")
        self.refused("one of them below 0, another below 1", [one, other], storages)

    def test_a_module_beside_another_state_dict(self):
        one, other, storages = states(foreign.torch_model(1), foreign.torch_model(2))
        self.refused("one of them below model, another below state_dict: say --set root=model",
                     {"model": foreign.Module(one), "state_dict": other, **TOKENS}, storages)

    def test_names_that_begin_with_nothing(self):
        tensors = foreign.torch_stack(CELLS)
        averaged = {"ema." + name: (shape, [x + 0.5 for x in numbers]) for name, (shape, numbers) in tensors.items()}
        path = foreign.write(self.folder + "/model", foreign.safetensors({**tensors, **averaged}))
        self.bad("one of them below ema, another outside of ema: say --set root=ema or root=none", path)

    def test_an_encoder_and_a_decoder_are_no_stack(self):
        encoder, decoder = foreign.torch_stack(CELLS, 1), foreign.torch_stack(CELLS, 2)
        del encoder["decoder.weight"], encoder["decoder.bias"]
        tensors = {**{"encoder." + name: content for name, content in encoder.items()},
                   **{"decoder." + name: content for name, content in decoder.items()}}
        path = foreign.write(self.folder + "/model", foreign.safetensors(tensors))
        self.bad("one of them below decoder, another below encoder", path)


class OneOfThem(ComputedTest):
    def expect_model(self, name, tensors, root, storages, *arguments):
        path = foreign.write(self.folder_of(name), foreign.torch_archive(root, storages))
        want = foreign.torch_stack_probabilities(tensors, CELLS, self.TEXT)
        return self.check(name, want, path, "--vocabulary", self.vocabulary(), *arguments)

    def test_the_one_that_was_set(self):
        models = foreign.torch_stack(CELLS, 3), foreign.torch_stack(CELLS, 4)
        one, other, storages = states(*models)
        root = {"state_dict": one, "ema_state_dict": other}
        for name, tensors in zip(root, models, strict=True):
            said = self.expect_model("set-" + name, tensors, root, storages, "--set", "root=" + name)
            self.assertIn(f"root: {name} (it was set)", said)
            self.assertIn("layers: 1 ", said)
        flat = {**models[0], **{"ema." + name: content for name, content in models[1].items()}}
        for value, tensors in zip(("none", "ema"), models, strict=True):
            path = foreign.write(self.folder_of("flat"), foreign.safetensors(flat))
            self.check("flat-" + value, foreign.torch_stack_probabilities(tensors, CELLS, self.TEXT), path,
                       "--vocabulary", self.vocabulary(), "--set", "root=" + value)

    def test_copies_are_left_out(self):
        tensors = foreign.torch_stack(CELLS, 5)
        one, again, storages = states(tensors, tensors)
        for name, root in (("same", {"state_dict": one, "best_state_dict": one}),
                           ("equal", {"state_dict": one, "best_state_dict": again}),
                           ("three", {"a": one, "b": again, "c": one}),
                           ("module", {"model": foreign.Module(one), "state_dict": one}),
                           ("list", [one, again])):
            said = self.expect_model("copies-" + name, tensors, root, storages)
            self.assertIn("(what lies below it lies elsewhere, too, number for number)", said)

    def test_lists_and_tuples(self):
        tensors = foreign.torch_stack(CELLS, 6)
        numbers = {symbol: number for number, symbol in enumerate(foreign.SYMBOLS)}
        state, storages = states(tensors)
        trained = optimizer(storages)
        criterion = foreign.Module(collections.OrderedDict())
        for name, root in (("module", [foreign.Module(state), criterion, trained]),
                           ("state", (state, {"step": 3})), ("dictionary", [3, {"state_dict": state}, trained])):
            said = self.expect_model("list-" + name, tensors, root, storages)
            self.assertIn("output: decoder.weight ", said)
        path = foreign.write(self.folder_of("pair"), foreign.torch_archive((state, numbers), storages))
        self.check("pair", foreign.torch_stack_probabilities(tensors, CELLS, self.TEXT), path)

    def test_one_name_twice(self):
        """What is not part of names may lie around both; tensors that are the same are one."""
        tensors = foreign.torch_stack(CELLS, 7)
        state, storages = states(tensors)
        root = {"model": state, "params": {"decoder.bias": state["decoder.bias"]}}
        self.expect_model("twice", tensors, root, storages)
