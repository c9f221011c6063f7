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
        self.bad(2, "--min-count and --max-size are for --vocabulary words", "train", self.corpus, *out,
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
        self.bad(1, f'corpus: {other}: line 3: the model does not know the word "x"', "train", text, "--validation",
                 other, "--out", self.model, *self.OPTIONS)

    def test_resume_is_exact(self):
        options = [*self.OPTIONS, "--epochs", "20", "--dropout", "0.2", "--checkpoint-seconds", "0.0001"]
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


if __name__ == "__main__":
    unittest.main()
