"""Texts on the command line: sources, cleaning, parts for validation and the test, words, files that change."""
import json
import math
import os
import shutil
import subprocess
import unittest

from test_cli import LSTMD, SMALL, TEXT, TIMEOUT_SECONDS, CommandTest, records


class Sources(CommandTest):
    def test_what_was_changed_is_said(self):
        dos = self.write("dos.txt", b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
        line = records(self.good("train", dos, self.corpus, "--out", self.model, *SMALL, "--max-steps", "1"))[0]
        self.assertEqual(line["changed_files"],
                         [{"name": dos, "byte_order_marks_dropped": 1, "line_endings_changed": TEXT.count("\n")}])

    def test_directories_and_standard_input(self):
        folder = os.path.join(self.directory, "texts", "deep")
        os.makedirs(folder)
        self.write("texts/2.txt", TEXT[500:900])
        self.write("texts/deep/1.txt", TEXT[900:])
        self.write("texts/.hidden", b"\xff")
        first = self.write("first", TEXT[:500])
        tail = ["--out", self.model, *SMALL, "--max-steps", "2"]
        lines = records(self.good("train", first, os.path.dirname(folder), *tail))
        self.assertEqual((lines[0]["files"], lines[0]["symbols"]), (3, len(TEXT)))
        whole = records(self.good("train", self.corpus, *tail))
        read = records(self.good("train", "-", *tail, input=TEXT.encode()))
        self.assertEqual(lines[0]["sha256"], whole[0]["sha256"])
        self.assertEqual(read[0]["sha256"], whole[0]["sha256"])
        self.assertEqual(self.weights(1), self.weights(2))
        self.assertEqual(self.weights(1), self.weights(3))

    def test_refusals(self):
        out = ["--out", self.model, *SMALL]
        malformed = self.write("malformed.txt", b"first\r\nsecond \xff line\n")
        empty = self.write("empty.txt", "")
        self.bad(1, "corpus: /dev/null: is no regular file", "train", "/dev/null", *out)
        self.bad(1, "can be read only once", "train", "-", "-", *out)
        self.bad(1, f"validation: {malformed}: line 2: invalid UTF-8 at byte offset 14 (0xff)", "train", self.corpus,
                 *out, "--validation", malformed)
        self.bad(1, f"test: {empty}: empty (0 bytes)", "train", self.corpus, *out, "--test", empty)
        self.bad(1, "validation_fraction: there is a text of its own", "train", self.corpus, *out, "--validation",
                 self.corpus, "--validation-fraction", "0.2")
        self.bad(2, "test_fraction and validation_fraction leave less", "train", self.corpus, *out,
                 "--test-fraction", "0.9")
        self.bad(2, "--min-count is for --vocabulary words", "train", self.corpus, *out,
                 "--min-count", "2")
        self.bad(1, "max_size must be a whole number from 2", "train", self.corpus, *out, "--vocabulary", "words",
                 "--max-size", "1")

    def test_validation_and_test_texts(self):
        other = self.write("other.txt", TEXT[:700])
        last = self.write("last.txt", TEXT[700:1500])
        lines = self.train("--validation", other, "--test", last, "--epochs", "2")
        self.assertEqual(lines[0]["symbols"], len(TEXT) + 1500)
        evaluation = lines[-1]["evaluation"]
        self.assertEqual(lines[-2]["test_loss"], evaluation["test_loss"])
        self.assertAlmostEqual(evaluation["test_perplexity"], math.exp(evaluation["test_loss"]), 2)
        with open(os.path.join(self.model, "1", "manifest.json"), encoding="utf-8") as file:
            manifest = json.load(file)
        self.assertAlmostEqual(manifest["evaluation"]["test_loss"], evaluation["test_loss"], 4)
        corpus = manifest["origin"]["corpus"]
        self.assertEqual((corpus["training_symbols"], corpus["validation_symbols"], corpus["test_symbols"]),
                         (len(TEXT), 700, 800))
        score = json.loads(self.good("score", self.model, last, "--json"))
        self.assertLess(abs(score["nats_per_symbol"] / evaluation["test_loss"] - 1), 0.05)
        self.assertIn("test_loss", self.train("--test-fraction", "0.2", "--epochs", "1")[-1]["evaluation"])
        self.assertNotIn("test_loss", self.train("--epochs", "1")[-1]["evaluation"])

    def test_a_file_that_changes_ends_the_job(self):
        for change in (lambda: os.truncate(self.corpus, 100), lambda: self.write("text.txt", TEXT.upper())):
            self.write("text.txt", TEXT)
            process = subprocess.Popen([LSTMD, "train", self.corpus, "--out", self.model, *SMALL, "--epochs",
                                        "1000000", "--checkpoint-seconds", "0.01"],
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for line in process.stdout:
                if json.loads(line)["event"] == "checkpoint":
                    break
            change()
            errors = process.communicate(timeout=TIMEOUT_SECONDS)[1].decode()
            self.assertEqual(process.returncode, 1)
            self.assertIn(f"corpus: {self.corpus}: changed since it was read: {len(TEXT)} bytes then", errors)
            self.assertTrue(os.path.exists(os.path.join(self.model, ".training", "manifest.json")))
            shutil.rmtree(self.model)


class Words(CommandTest):
    """Lines as those of the Penn Treebank's files: " no it was n't <unk> monday \\n"."""
    LINES = [" the whale is white \n", " <unk> sees the whale \n", " N men sail and the whale dives \n"]
    OPTIONS = ["--vocabulary", "words", "--embedding", "6", *SMALL, "--sequence-length", "5"]

    def setUp(self):
        super().setUp()
        self.corpus = self.write("ptb.train.txt", "".join(self.LINES[i % 3] for i in range(200)))
        self.other_text = "".join(self.LINES[i % 2] for i in range(300))
        self.other = self.write("ptb.valid.txt", self.other_text)

    def words(self, *arguments):
        return records(self.good("train", *arguments, "--out", self.model, *self.OPTIONS))

    def vocabulary(self, version=1):
        with open(os.path.join(self.model, str(version), "vocab.json"), encoding="utf-8") as file:
            return json.load(file)["symbols"]

    def test_files_as_published(self):
        lines = self.words(self.corpus, "--validation", self.other, "--test", self.other, "--epochs", "4",
                           "--learning-rate", "0.01")
        with open(self.corpus, encoding="utf-8") as file:
            words = file.read().replace("\n", "<eos>").split()
        order = sorted(set(words), key=lambda word: (-words.count(word), word))     # _build_vocab of the tutorial
        self.assertEqual(self.vocabulary(), order)
        self.assertEqual(lines[0]["vocabulary"], {"kind": "words", "size": len(order)})
        evaluation = lines[-1]["evaluation"]
        self.assertAlmostEqual(evaluation["test_loss"], evaluation["validation_loss"], 4)
        symbols = len(self.other_text.replace("\n", "<eos> ").split())
        characters = sum(len(line.strip()) + 1 for line in self.other_text.splitlines())
        self.assertAlmostEqual(evaluation["bits_per_character"],
                               evaluation["validation_loss"] / math.log(2) * symbols / characters, 3)
        score = json.loads(self.good("score", self.model, self.other, "--json"))
        self.assertEqual(score["symbols"], symbols - 1)
        self.assertAlmostEqual(score["perplexity"], math.exp(score["nats_per_symbol"]), 2)
        self.assertLess(abs(score["nats_per_symbol"] / evaluation["test_loss"] - 1), 0.1)
        self.assertLess(abs(score["bits_per_character"] / evaluation["bits_per_character"] - 1), 0.1)

    def test_text_is_words_with_spaces(self):
        self.words(self.corpus, "--epochs", "8", "--learning-rate", "0.02")
        text = self.good("sample", self.model, "--prompt", "the  harpooner", "--length", "40", "--seed", "1")
        self.assertTrue(text.startswith("the  harpooner"), text)        # unknown: "<unk>" stands for it
        for line in text.rstrip("\n").split("\n")[1:]:
            self.assertEqual(line, " ".join(line.split()))
            self.assertLessEqual(set(line.split()), set(self.vocabulary()))

    def test_limits_and_unknown_words(self):
        text = self.write("text.txt", "a a a b b c\n" * 30 + "d\n")
        self.words(text, "--max-steps", "2", "--min-count", "2")
        self.assertEqual(self.vocabulary(1), ["a", "b", "<eos>", "c", "<unk>"])
        self.words(text, "--max-steps", "2", "--max-size", "4")
        self.assertEqual(self.vocabulary(2), ["a", "b", "<eos>", "<unk>"])
        self.words(text, "--max-steps", "2")
        self.assertEqual(self.vocabulary(3), ["a", "b", "<eos>", "c", "d"])
        self.bad(1, 'the model does not know the word "x" at position 2', "sample", self.model, "--prompt", "a x")
        other = self.write("other.txt", "a b\nc a\nb x y\n")
        line = self.words(text, "--validation", other, "--max-steps", "2")[0]    # "x" and "y" are in no training text
        self.assertEqual(self.vocabulary(4), ["a", "b", "<eos>", "c", "d", "<unk>"])
        self.assertEqual((line["unknown_words"], line["unseen_words"], line["trains_unknown"]), (2, 2, False))
        line = self.words(text, "--validation", other, "--max-steps", "2", "--min-count", "2")[0]
        self.assertEqual((line["unknown_words"], line["unseen_words"], line["trains_unknown"]), (3, 2, True))
        self.bad(1, f'corpus: {other}: line 3: the model does not know the word "x" (--vocabulary-policy extend takes '
                 'it in)', "train", text, "--validation", other, "--out", self.model, "--from", self.model + "@3",
                 "--batch", "4", "--sequence-length", "5")
        self.good("train", text, "--validation", other, "--out", self.model, "--from", self.model + "@3", "--batch",
                  "4", "--sequence-length", "5", "--max-steps", "1", "--vocabulary-policy", "extend")
        self.assertEqual(self.vocabulary(6), ["a", "b", "<eos>", "c", "d", "<unk>"])

    def test_resume_is_exact(self):
        options = [*self.OPTIONS, "--epochs", "4", "--dropout", "0.2", "--checkpoint-seconds", "0.0001"]
        self.good("train", self.corpus, "--out", self.model, *options)
        process = subprocess.Popen([LSTMD, "train", self.corpus, "--out", self.model, *options],
                                   stdout=subprocess.PIPE)
        for line in process.stdout:
            if json.loads(line)["event"] == "checkpoint":
                break
        process.kill()
        process.communicate(timeout=TIMEOUT_SECONDS)
        if not os.path.exists(os.path.join(self.model, "2")):
            self.good("train", self.corpus, "--out", self.model, *options, "--resume")
        self.assertEqual(self.weights(1), self.weights(2))


class From(CommandTest):
    """Fine-tuning: what becomes of symbols that the version's vocabulary lacks."""

    def setUp(self):
        super().setUp()
        self.new_text = self.write("new.txt", TEXT.replace("Ishmael", "Zoë") * 2)
        self.tuned = os.path.join(self.directory, "models", "tuned")

    def tune(self, *arguments, corpus=None):
        return records(self.good("train", corpus or self.new_text, "--out", self.tuned, "--from", self.model,
                                 "--batch", "4", "--sequence-length", "16", *arguments))

    def tensors(self, model):
        """Name → shape and little-endian float32 rows."""
        with open(os.path.join(model, "1", "weights.safetensors"), "rb") as file:
            content = file.read()
        head = int.from_bytes(content[:8], "little")
        entries = json.loads(content[8:8 + head])
        return {name: (entry["shape"], content[8 + head + entry["data_offsets"][0]:8 + head + entry["data_offsets"][1]])
                for name, entry in entries.items() if name != "__metadata__"}

    def symbols(self, model):
        with open(os.path.join(model, "1", "vocab.json"), encoding="utf-8") as file:
            return json.load(file).get("symbols")

    def test_fixed_refuses_by_name_and_place(self):
        self.train("--max-steps", "5")
        self.bad(1, f'corpus: {self.new_text}: line 1: the model does not know the character U+005A "Z"', "train",
                 self.new_text, "--out", self.tuned, "--from", self.model)
        self.bad(2, "--vocabulary-policy is for --from", "train", self.corpus, "--out", self.tuned,
                 "--vocabulary-policy", "extend")
        self.bad(2, "--vocabulary-policy more: fixed, extend or bytes", "train", self.corpus, "--out", self.tuned,
                 "--from", self.model, "--vocabulary-policy", "more")

    def check_rows(self, kept, *arguments):
        """Rows of the symbols in `kept` (new row → old row) are the version's; the learning rate is next to nothing."""
        self.tune(*arguments, "--max-steps", "1", "--learning-rate", "1e-30", "--optimizer", "sgd")
        old, new = self.tensors(self.model), self.tensors(self.tuned)
        self.assertEqual(set(old), set(new))
        for name, (shape, values) in old.items():
            if name == "embedding":
                width = 4 * shape[1]
                for after, before in kept.items():
                    self.assertEqual(new[name][1][after * width:(after + 1) * width],
                                     values[before * width:(before + 1) * width])
            elif name == "softmax/w":
                columns = new[name][0][1]
                for row in range(shape[0]):
                    for after, before in kept.items():
                        self.assertEqual(new[name][1][4 * (row * columns + after):4 * (row * columns + after + 1)],
                                         values[4 * (row * shape[1] + before):4 * (row * shape[1] + before + 1)])
            elif name == "softmax/b":
                for after, before in kept.items():
                    self.assertEqual(new[name][1][4 * after:4 * after + 4], values[4 * before:4 * before + 4])
            elif shape == new[name][0]:
                self.assertEqual(new[name][1], values)
            else:       # one-hot: the first layer's kernel, the recurrent rows behind the symbols'
                width = 4 * shape[1]
                for after, before in kept.items():
                    self.assertEqual(new[name][1][after * width:(after + 1) * width],
                                     values[before * width:(before + 1) * width])
                self.assertEqual(new[name][1][-8 * width:], values[-8 * width:])

    def test_extend_keeps_rows(self):
        for options in ([], ["--embedding", "5"], ["--cell", "gru"], ["--embedding", "8", "--tie"]):
            self.train("--max-steps", "20", *options)
            old = self.symbols(self.model)
            self.check_rows({i: i for i in range(len(old))}, "--vocabulary-policy", "extend")
            self.assertEqual(self.symbols(self.tuned), old + ["Z", "ë"])
            shutil.rmtree(self.model)
            shutil.rmtree(self.tuned)

    def test_bytes_keep_rows_of_characters(self):
        self.train("--max-steps", "20", "--embedding", "5")
        old = self.symbols(self.model)
        self.check_rows({ord(symbol): i for i, symbol in enumerate(old)}, "--vocabulary-policy", "bytes")
        self.assertIsNone(self.symbols(self.tuned))
        score = json.loads(self.good("score", self.tuned, self.corpus, "--json"))
        before = json.loads(self.good("score", self.model, self.corpus, "--json"))
        self.assertGreater(score["nats_per_symbol"], before["nats_per_symbol"])     # 256 symbols to tell apart

    def test_what_was_learnt_is_kept(self):
        self.train("--epochs", "20", "--learning-rate", "0.01")
        lines = self.tune("--vocabulary-policy", "extend", "--max-steps", "1", "--learning-rate", "1e-30")
        self.assertLess(lines[-1]["evaluation"]["validation_loss"], math.log(20))
        lines = self.tune("--vocabulary-policy", "extend", "--epochs", "3", "--checkpoint-seconds", "0.0001")
        self.assertEqual(lines[-1]["version"], 2)

    def test_words(self):
        text = self.write("words.txt", "the whale dives\n" * 100)
        options = ["--vocabulary", "words", "--embedding", "4", *SMALL, "--sequence-length", "4"]
        self.good("train", text, "--out", self.model, *options, "--max-steps", "5")
        more = self.write("more.txt", "the whale sees a ship and a man\n" * 60 + "rare\n")
        self.tune("--vocabulary-policy", "extend", "--min-count", "2", "--max-steps", "5", corpus=more)
        self.assertEqual(self.symbols(self.tuned),
                         [*self.symbols(self.model), "a", "and", "man", "sees", "ship", "<unk>"])
        self.bad(1, "words cannot become bytes", "train", more, "--out", self.tuned, "--from", self.model,
                 "--vocabulary-policy", "bytes")

    def test_resume_is_exact(self):
        self.train("--max-steps", "20")
        options = ["--vocabulary-policy", "extend", "--max-steps", "100", "--checkpoint-seconds", "0.0001"]
        self.tune(*options)
        process = subprocess.Popen([LSTMD, "train", self.new_text, "--out", self.tuned, "--from", self.model, "--batch",
                                    "4", "--sequence-length", "16", *options], stdout=subprocess.PIPE)
        for line in process.stdout:
            if json.loads(line)["event"] == "checkpoint":
                break
        process.kill()
        process.communicate(timeout=TIMEOUT_SECONDS)
        if not os.path.exists(os.path.join(self.tuned, "2")):
            self.good("train", self.new_text, "--out", self.tuned, "--resume")
        with open(os.path.join(self.tuned, "2", "weights.safetensors"), "rb") as file:
            second = file.read()
        with open(os.path.join(self.tuned, "1", "weights.safetensors"), "rb") as file:
            self.assertEqual(file.read(), second)


if __name__ == "__main__":
    unittest.main()
