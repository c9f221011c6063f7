"""The command line: train, resume, sample, score, inspect, bench; exit statuses, one-line errors, signals, a terminal.

The binary is $LSTMD, as in harness.py; no daemon is started. Tests never wait for a time but for a line of output.
"""
import csv
import errno
import json
import math
import os
import pty
import random
import resource
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import unittest

from foreign_files import crc32c, masked

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LSTMD = os.environ.get("LSTMD", os.path.join(ROOT, "build", "lstmd"))
TIMEOUT_SECONDS = 120           # only what hangs takes as long, whatever the sanitizer
TEXT = ("Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in my purse, and "
        "nothing particular to interest me on shore, I thought I would sail about a little and see the watery part "
        "of the world.\n") * 12
LONG_TEXT = TEXT * 6
SMALL = ["--layers", "1", "--units", "8", "--batch", "4", "--sequence-length", "16"]


def run(*arguments, **options):
    """Runs lstmd to its end: (exit status, standard output, standard error)."""
    options.setdefault("input", b"")
    done = subprocess.run([LSTMD, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=TIMEOUT_SECONDS, **options)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def records(output):
    return [json.loads(line) for line in output.splitlines()]


class CommandTest(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="lstmd-cli-")
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.corpus = self.write("text.txt", TEXT)
        self.model = os.path.join(self.directory, "models", "moby")

    def write(self, name, content):
        path = os.path.join(self.directory, name)
        with open(path, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
        return path

    def good(self, *arguments, **options):
        status, output, errors = run(*arguments, **options)
        self.assertEqual((status, errors), (0, ""), output)
        return output

    def bad(self, status, message, *arguments):
        """Fails with that exit status and one line on standard error that holds `message`."""
        found, output, errors = run(*arguments)
        self.assertEqual(found, status, errors + output)
        self.assertRegex(errors, r"\Alstmd[^\n]*\n\Z")
        self.assertIn(message, errors)

    def train(self, *arguments):
        return records(self.good("train", self.corpus, "--out", self.model, *SMALL, *arguments))

    def weights(self, version):
        with open(os.path.join(self.model, str(version), "weights.safetensors"), "rb") as file:
            return file.read()


class Train(CommandTest):
    def test_json_lines_and_the_version(self):
        lines = self.train("--epochs", "3")
        self.assertEqual([line["event"] for line in lines if line["event"] != "progress"],
                         ["corpus", "checkpoint", "done", "published"])
        evaluations = [line["validation_loss"] for line in lines if line["event"] == "progress"]
        done, published = lines[-2], lines[-1]
        self.assertEqual(done["epoch"], 3)
        self.assertGreater(done["symbols_per_second"], 0)
        self.assertEqual(done["seconds_left"], 0)
        self.assertAlmostEqual(done["bits_per_character"], done["validation_loss"] / math.log(2), 3)
        self.assertEqual(published["version"], 1)
        self.assertAlmostEqual(published["evaluation"]["validation_loss"], min(filter(None, evaluations)), 4)
        with open(os.path.join(self.model, "1", "manifest.json"), encoding="utf-8") as file:
            manifest = json.load(file)
        self.assertEqual(manifest["origin"]["corpus"]["symbols"], len(TEXT))
        self.assertIn("--epochs 3", manifest["origin"]["command"])
        self.assertEqual(manifest["architecture"]["units"], 8)
        precisions = manifest["evaluation"]["precisions"]
        self.assertEqual(list(precisions), ["symbols", "fp32", "bf16", "int8"])
        self.assertNotEqual(precisions["int8"]["bits_per_character"], precisions["fp32"]["bits_per_character"])
        self.assertLess(abs(precisions["int8"]["change"]), 0.02)
        self.assertEqual(os.listdir(self.model), ["1"])      # no checkpoint, no lock
        self.train("--epochs", "1", "--seed", "2")
        self.assertEqual(sorted(os.listdir(self.model)), ["1", "2"])

    def test_same_seed_same_bits_whatever_the_threads(self):
        self.train("--max-steps", "20", "--dropout", "0.3", "--threads", "1")
        self.train("--max-steps", "20", "--dropout", "0.3", "--threads", "2")
        self.train("--max-steps", "20", "--dropout", "0.3", "--seed", "9")
        self.assertEqual(self.weights(1), self.weights(2))
        self.assertNotEqual(self.weights(1), self.weights(3))

    def test_cleaning_is_said(self):
        corpus = self.write("dos.txt", b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
        line = records(self.good("train", corpus, "--out", self.model, *SMALL, "--max-steps", "1"))[0]
        self.assertEqual((line["byte_order_marks_dropped"], line["line_endings_changed"], line["bytes"]),
                         (1, TEXT.count("\n"), len(TEXT)))

    def test_bytes_take_anything(self):
        corpus = self.write("bytes.bin", bytes(range(256)) * 4)
        self.good("train", corpus, "--out", self.model, *SMALL, "--max-steps", "2", "--vocabulary", "bytes")
        facts = json.loads(self.good("inspect", self.model, "--json"))
        self.assertEqual(facts["architecture"]["vocabulary"], {"kind": "bytes", "size": 256})

    def test_bad_corpora(self):
        out = ["--out", self.model, *SMALL]
        malformed = self.write("malformed.txt", b"first\r\nsecond \xff line\n")
        self.bad(1, f"{malformed}: line 2: invalid UTF-8 at byte offset 14 (0xff)", "train", malformed, *out)
        self.bad(1, "empty (0 bytes)", "train", self.write("empty.txt", ""), *out)
        self.bad(1, "one batch of 4 rows × 16 steps takes 65", "train", self.write("short.txt", "short"), *out)
        self.bad(1, "nowhere.txt", "train", os.path.join(self.directory, "nowhere.txt"), *out)
        self.assertFalse(os.path.exists(os.path.join(self.directory, "models")))

    def test_bad_arguments(self):
        out = ["--out", self.model]
        self.bad(2, "--out MODELS/NAME is missing", "train", self.corpus)
        self.bad(2, "an argument is missing", "train", *out)
        self.bad(2, "batch must be an integer from 1", "train", self.corpus, *out, "--batch", "0")
        self.bad(2, "units", "train", self.corpus, *out, "--units", "many")
        self.bad(2, "learning_rate must be a number above 0", "train", self.corpus, *out, "--learning-rate", "0")
        self.bad(2, "no-such-option", "train", self.corpus, *out, "--no-such-option", "1")
        self.bad(2, "a model's name", "train", self.corpus, "--out", os.path.join(self.directory, ".hidden"))
        self.bad(2, "preset must be one of char-rnn, torch-rnn, anna", "train", self.corpus, *out, "--preset", "anne")
        self.bad(1, "needs an embedding of 128", "train", self.corpus, *out, "--tie", "--embedding", "64")
        self.bad(2, "--cell lstn: lstm", "train", self.corpus, *out, "--cell", "lstn")
        self.bad(2, "--vocabulary letters: characters, bytes or words", "train", self.corpus, *out, "--vocabulary",
                 "letters")
        self.bad(2, "unknown command", "tarin")

    def test_from_a_version(self):
        self.train("--max-steps", "5")
        self.train("--from", self.model + "@1", "--max-steps", "5")
        self.assertNotEqual(self.weights(1), self.weights(2))
        unknown = self.write("other.txt", TEXT + "§\n")
        self.bad(1, "line 13: the model does not know the character U+00A7", "train", unknown, "--out", self.model,
                 *SMALL, "--from", self.model)


    def test_from_refuses_what_can_have_no_effect(self):
        self.train("--max-steps", "5")
        begin = ["train", self.corpus, "--out", self.model, "--from", self.model, "--max-steps", "1", "--batch", "4",
                 "--sequence-length", "16"]
        for option, value, there in (("--layers", "3", "1"), ("--units", "64", "8"), ("--cell", "gru", "lstm"),
                                     ("--vocabulary", "words", "characters"), ("--embedding", "64", "none"),
                                     ("--forget-bias", "0", "1"), ("--initial-range", "0.5", "none")):
            self.bad(1, f"{option} {value}: the model of --from has {there}: leave it out", *begin, option, value)
        for flag in ("--tie", "--residual", "--input-dropout", "--variational-dropout"):
            self.bad(1, f"{flag}: the model of --from has none: leave it out", *begin, flag)
        self.bad(1, "--min-count: the model has its vocabulary already: leave it out, or take in new words by "
                 "--vocabulary-policy extend", *begin, "--min-count", "2")
        self.bad(1, "--preset ptb-small: layers is 2 in it, and the model of --from has 1", *begin, "--preset",
                 "ptb-small")
        self.assertEqual(os.listdir(self.model), ["1"])
        same = ["--layers", "1", "--units", "8", "--cell", "lstm", "--vocabulary", "characters", "--forget-bias", "1"]
        self.good(*begin, *same, "--dropout", "0.1")     # as it is, and what is the training's
        self.good(*begin, "--preset", "torch-rnn", *same, "--embedding", "64", "--out", self.model + "2",
                  "--from", self.train_with_embedding())

    def train_with_embedding(self):
        embedded = os.path.join(self.directory, "models", "embedded")
        self.good("train", self.corpus, "--out", embedded, *SMALL, "--embedding", "64", "--max-steps", "1")
        return embedded

    def test_a_preset_and_what_is_beside_it(self):
        self.good("train", self.corpus, "--out", self.model, *SMALL, "--preset", "anna", "--warmup-steps", "10",
                  "--max-steps", "1")
        with open(os.path.join(self.model, "1", "manifest.json"), encoding="utf-8") as file:
            schedule = json.load(file)["origin"]["options"]["schedule"]
        self.assertEqual(schedule, {"name": "constant", "warmup_steps": 10})
        text = self.write("words.txt", "a a a b b c\n" * 30 + "d\n")
        self.good("train", text, "--out", self.model, *SMALL, "--embedding", "6", "--preset", "ptb-small",
                  "--min-count", "2", "--max-steps", "1", "--sequence-length", "4")
        with open(os.path.join(self.model, "2", "vocab.json"), encoding="utf-8") as file:
            self.assertEqual(json.load(file)["symbols"], ["a", "b", "<eos>", "c", "<unk>"])
        self.bad(2, "--min-count is for --vocabulary words", "train", text, "--out", self.model, "--preset", "anna",
                 "--min-count", "2")
        self.bad(2, "--max-size is for --vocabulary words", "train", text, "--out", self.model, "--max-size", "9")

    def test_cells(self):
        for number, options in enumerate((("gru",), ("rnn",), ("gru", "--embedding", "8", "--tie")), 1):
            self.assertEqual(self.train("--epochs", "2", "--cell", *options)[-1]["version"], number)
            facts = json.loads(self.good("inspect", self.model, "--json"))
            self.assertEqual((facts["architecture"]["cell"], facts["architecture"]["tie"]),
                             (options[0], "--tie" in options))
            texts = [self.good("sample", self.model, "--prompt", "Call me", "--length", "40", "--seed", "3",
                               "--threads", threads)
                     for threads in ("1", "2")]
            self.assertEqual(texts[0], texts[1])
            self.assertLess(json.loads(self.good("score", self.model, self.corpus, "--json"))["nats_per_symbol"], 9)


class Interrupted(CommandTest):
    """A signal stops the training after its step, with a checkpoint; --resume ends in the same bits."""

    OPTIONS = ["--max-steps", "8000", "--evaluate-every-steps", "20", "--dropout", "0.2"]

    def stop(self, number, *arguments):
        """Trains until the third evaluation is reported, sends the signal, and waits for the end."""
        process = subprocess.Popen([LSTMD, "train", self.corpus, "--out", self.model, *SMALL, *arguments],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        seen = 0
        for line in process.stdout:
            seen += json.loads(line)["event"] == "progress"
            if seen == 3:
                process.send_signal(number)
                break
        last = records(process.stdout.read())[-1]
        self.assertEqual(process.wait(TIMEOUT_SECONDS), 1)
        self.assertEqual(last["event"], "stopped")
        self.assertIn(f"stopped at step {last['step']}; its checkpoint is kept", last["message"])
        self.assertIn("train_loss", last)
        self.assertRegex(process.stderr.read(), r"\Alstmd train: [^\n]*stopped at step \d+; its checkpoint is kept\n\Z")
        return last

    def test_resume_is_exact(self):
        self.train(*self.OPTIONS)
        for number in (signal.SIGINT, signal.SIGTERM):
            self.stop(number, *self.OPTIONS)
            self.assertEqual(sorted(os.listdir(self.model))[0], ".training")
            self.bad(1, "an interrupted training is there", "train", self.corpus, "--out", self.model, *SMALL)
            other = self.write("other.txt", TEXT.replace("Ishmael", "Jonah"))
            self.bad(1, "SHA-256", "train", other, "--out", self.model, "--resume")
            self.bad(1, "--units 16: the model of the interrupted training has 8: leave it out", "train", self.corpus,
                     "--out", self.model, "--units", "16", "--resume")
            for option, there in (("--vocabulary", "characters"), ("--forget-bias", "1"), ("--initial-range", "none"),
                                  ("--cell", "lstm"), ("--embedding", "none")):
                value = {"--vocabulary": "words", "--cell": "gru"}.get(option, "4")
                self.bad(1, f"{option} {value}: the model of the interrupted training has {there}: leave it out",
                         "train", self.corpus, "--out", self.model, option, value, "--resume")
            for flag in ("--variational-dropout", "--tie", "--residual", "--input-dropout"):
                self.bad(1, f"{flag}: the model of the interrupted training has none: leave it out", "train",
                         self.corpus, "--out", self.model, flag, "--resume")
            self.bad(1, "--min-count: the model has its vocabulary already: leave it out", "train", self.corpus,
                     "--out", self.model, "--min-count", "2", "--resume")
            self.bad(1, "batch differs", "train", self.corpus, "--out", self.model, "--batch", "8", "--resume")
            done = records(self.good("train", self.corpus, "--out", self.model, *SMALL, *self.OPTIONS, "--resume"))
            version = done[-1]["version"]
            self.assertEqual(self.weights(1), self.weights(version))
            self.assertFalse(os.path.exists(os.path.join(self.model, ".training")))

    def kill(self, lines, seconds, *arguments):
        """Trains until so many lines were printed, and a little longer; then SIGKILL."""
        with subprocess.Popen([LSTMD, "train", self.corpus, "--out", self.model, *SMALL, *arguments],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
            for _ in range(lines):
                process.stdout.readline()
            time.sleep(seconds)                              # a moment within a step or a checkpoint's writing
            process.kill()

    def test_killed(self):
        """At any moment: the last checkpoint is whole, and what goes on from it ends in the same bits."""
        options = ["--max-steps", "40", "--dropout", "0.2", "--checkpoint-seconds", "0.000001", "--variational-dropout",
                   "--optimizer", "adamw", "--gradient-noise", "0.0001", "--evaluate-every-steps", "3", "--schedule",
                   "plateau", "--patience", "0", "--warmup-steps", "9", "--early-stopping", "12", "--clip-value", "0.1"]
        self.train(*options)
        seed = int(os.environ.get("TEST_SEED", "1"))
        moments = random.Random(seed)
        for _ in range(20 if os.environ.get("SLOW") else 4):
            self.kill(moments.randrange(50), moments.random() * 0.02, *options)
            again = ["--resume"] if os.path.exists(os.path.join(self.model, ".training")) else []
            done = records(self.good("train", self.corpus, "--out", self.model, *SMALL, *options, *again))
            self.assertEqual(self.weights(1), self.weights(done[-1]["version"]), f"TEST_SEED={seed}")

    def test_other_kernels_are_said(self):
        self.train(*self.OPTIONS)
        self.stop(signal.SIGINT, *self.OPTIONS)
        manifest = os.path.join(self.model, ".training", "manifest.json")
        with open(manifest, encoding="utf-8") as file:
            content = json.load(file)
        now = content["origin"]["blas"]
        content["origin"]["blas"] = "Katmai"
        self.write(manifest, json.dumps(content))
        done = records(self.good("train", self.corpus, "--out", self.model, *SMALL, *self.OPTIONS, "--resume"))
        said = [record["message"] for record in done if record["event"] == "warning"]
        self.assertEqual(len(said), 1)
        self.assertIn("OpenBLAS for Katmai", said[0])
        self.assertIn(f" and {now}: it will not end in the same bits", said[0])

    def files_in(self, folder):
        stats = {name: os.stat(os.path.join(folder, name)) for name in os.listdir(folder)}
        return {name: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}

    def test_disk_full(self):
        """A checkpoint that cannot be written ends the training; the one before stands, and can be resumed from."""
        self.train(*self.OPTIONS)
        self.stop(signal.SIGINT, *self.OPTIONS)
        kept = os.path.join(self.model, ".training")
        before = self.files_in(kept)
        done = subprocess.run([LSTMD, "train", self.corpus, "--out", self.model, "--checkpoint-seconds", "0.000001",
                               "--resume"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, timeout=TIMEOUT_SECONDS, check=False,
                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)))
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"\Alstmd train: write '[^\n]*' at byte 4096 of [^\n]*File too large\n\Z")
        failed = records(done.stdout)[-1]
        self.assertEqual((failed["event"], failed["error"]["code"]), ("failed", "io"))
        self.assertIn("File too large", failed["error"]["message"])
        self.assertEqual(before, self.files_in(kept))
        self.assertEqual(sorted(name for name in os.listdir(self.model) if name != ".training.lock"),
                         [".training", "1"])
        done = records(self.good("train", self.corpus, "--out", self.model, *SMALL, *self.OPTIONS, "--resume"))
        self.assertEqual(self.weights(1), self.weights(done[-1]["version"]))

    def test_from_keeps_an_interrupted_training(self):
        self.train(*self.OPTIONS)
        self.stop(signal.SIGINT, *self.OPTIONS)
        kept = os.path.join(self.model, ".training")
        before = self.files_in(kept)
        self.bad(1, f"an interrupted training is there: resume it, or remove {kept}", "train", self.corpus, "--out",
                 self.model, *SMALL, "--from", self.model, "--max-steps", "1")
        self.assertEqual(before, self.files_in(kept))

    def test_nothing_to_resume(self):
        self.bad(1, "no interrupted training to resume", "train", self.corpus, "--out", self.model, "--resume")

    def test_two_processes(self):
        process = subprocess.Popen([LSTMD, "train", self.corpus, "--out", self.model, *SMALL, "--epochs", "1000000"],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                   text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        process.stdout.readline()                            # the job holds its lock before it says anything
        self.bad(1, "another process is training there", "train", self.corpus, "--out", self.model, *SMALL)


def tf_records(content):
    """The records of a TFRecord file, their checksums compared."""
    while content:
        length, check = struct.unpack("<QI", content[:12])
        assert check == masked(content[:8])
        record, (check,) = content[12:12 + length], struct.unpack("<I", content[12 + length:16 + length])
        assert check == masked(record)
        yield record
        content = content[16 + length:]


def varint(content, at):
    number, shift = 0, 0
    while True:
        number |= (content[at] & 0x7f) << shift
        at, shift = at + 1, shift + 7
        if content[at - 1] < 0x80:
            return number, at


def message(content):
    """A protobuf message: {field: [values]}."""
    fields, at = {}, 0
    while at < len(content):
        key, at = varint(content, at)
        if key & 7 == 0:
            value, at = varint(content, at)
        elif key & 7 == 2:
            length, at = varint(content, at)
            value, at = content[at:at + length], at + length
        else:
            size, form = {1: (8, "<d"), 5: (4, "<f")}[key & 7]
            (value,), at = struct.unpack(form, content[at:at + size]), at + size
        fields.setdefault(key >> 3, []).append(value)
    return fields


class Log(CommandTest):
    OPTIONS = ["--max-steps", "40", "--evaluate-every-steps", "10", "--sample-every-steps", "20"]

    def setUp(self):
        super().setUp()
        self.log = os.path.join(self.directory, "runs", "first")

    def paths(self):
        return sorted(os.path.join(self.log, name) for name in os.listdir(self.log) if "tfevents" in name)

    def values(self):
        """(step, tag, message of the value) of every event file."""
        for path in self.paths():
            with open(path, "rb") as file:
                events = [message(record) for record in tf_records(file.read())]
            self.assertEqual(events[0][3], [b"brain.Event:2"])
            for event in events[1:]:
                self.assertGreater(event[1][0], 1e9)
                for value in message(event[5][0])[1]:
                    value = message(value)
                    yield event.get(2, [0])[0], value[1][0].decode(), value

    def test_files(self):
        self.assertEqual(crc32c(b"123456789"), 0xe3069283)   # the checksum's own check value
        printed = records(self.good("train", self.corpus, "--out", self.model, *SMALL, *self.OPTIONS,
                                    "--sample-symbols", "30", "--logdir", self.log))
        said = {line["step"]: line for line in printed if line["event"] == "progress"}
        found = {}
        for step, tag, value in self.values():
            found.setdefault(tag, {})[step] = value
        self.assertEqual(sorted(found["loss/validation"]), [10, 20, 30, 38, 40])     # an epoch has 38 steps
        for tag, field in (("loss/train", "train_loss"), ("loss/validation", "validation_loss"),
                           ("learning_rate", "learning_rate"), ("gradient_norm", "gradient_norm"),
                           ("perplexity/validation", "perplexity")):
            for step in (10, 20, 30, 40):
                self.assertAlmostEqual(found[tag][step][2][0] / said[step][field], 1, delta=1e-5)
        self.assertIn(40, found["symbols_per_second"])
        samples = {line["step"]: line["text"] for line in printed if line["event"] == "sample"}
        self.assertEqual(sorted(samples), [20, 40])
        for step, text in samples.items():
            self.assertEqual(len(text), 30)
            value = found["sample"][step]
            tensor = message(value[8][0])
            self.assertEqual((tensor[1], tensor[8]), ([7], [text.encode()]))
            self.assertEqual(message(message(value[9][0])[1][0])[1], [b"text"])
        with open(os.path.join(self.log, "history.csv"), encoding="ascii") as file:
            rows = list(csv.DictReader(file))
        row = [row for row in rows if row["step"] == "40"][-1]
        for field in ("train_loss", "validation_loss", "learning_rate", "gradient_norm", "epoch"):
            self.assertAlmostEqual(float(row[field]), said[40][field], delta=1e-5)

    def run_until(self, number, *arguments):
        """Trains until the third evaluation is reported, then sends the signal; the last step that was told."""
        with subprocess.Popen([LSTMD, "train", self.corpus, "--out", self.model, *SMALL, *arguments, "--logdir",
                               self.log, "--max-steps", "8000", "--evaluate-every-steps", "20",
                               "--checkpoint-seconds", "1e6"],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True) as process:
            evaluations, step = 0, 0
            for line in process.stdout:
                line = json.loads(line)
                step = line.get("step", step)
                evaluations += line["event"] == "progress"
                if evaluations == 3:
                    process.send_signal(number)
        return step

    def steps(self):
        with open(os.path.join(self.log, "history.csv"), encoding="ascii") as file:
            return [int(row["step"]) for row in csv.DictReader(file)]

    def test_a_resume_takes_the_place_of_what_was_killed(self):
        kept = self.run_until(signal.SIGINT)
        lost = self.run_until(signal.SIGKILL, "--resume")
        self.assertGreater(lost, kept)
        self.assertGreaterEqual(max(self.steps()), lost)
        self.good("train", self.corpus, "--out", self.model, "--resume", "--max-steps", str(kept + 40), "--logdir",
                  self.log)
        steps = self.steps()
        self.assertEqual(steps, sorted(set(steps)))          # none twice, none back
        self.assertEqual(steps[-1], kept + 40)
        starts = []
        for path in self.paths():
            with open(path, "rb") as file:
                events = [message(record) for record in tf_records(file.read())]
            session = [event for event in events if 7 in event]
            starts += [(event[2], message(event[7][0])) for event in session]
            if session:         # TensorFlow's SessionLog.START: TensorBoard forgets that step and later ones
                self.assertEqual(events[1], session[0])
                self.assertGreater(min(event[2][0] for event in events[1:]), kept)
        self.assertEqual(starts, [([kept + 1], {1: [1]})] * 2)

    def test_samples_change_no_weights(self):
        self.train(*self.OPTIONS)
        self.train("--max-steps", "40", "--evaluate-every-steps", "10")
        self.assertEqual(self.weights(1), self.weights(2))

    def test_tensorboard_opens_it(self):
        try:
            from tensorboard.backend.event_processing import event_accumulator
        except ImportError:
            self.skipTest("TensorBoard is not installed, and Debian has no package of it")
        self.good("train", self.corpus, "--out", self.model, *SMALL, *self.OPTIONS, "--logdir", self.log)
        events = event_accumulator.EventAccumulator(self.log)
        events.Reload()
        self.assertEqual([event.step for event in events.Scalars("loss/validation")], [10, 20, 30, 38, 40])

    def test_a_log_that_cannot_be_written(self):
        where = os.path.join(self.corpus, "log")
        self.bad(1, "text.txt", "train", self.corpus, "--out", self.model, *SMALL, *self.OPTIONS, "--logdir", where)
        self.assertFalse(os.path.exists(os.path.join(self.model, "1")))


class Terminal(CommandTest):
    def test_progress_bar(self):
        main, other = pty.openpty()
        process = subprocess.Popen([LSTMD, "train", self.corpus, "--out", self.model, *SMALL, "--epochs", "2",
                                    "--sample-every-steps", "9", "--sample-symbols", "20"],
                                   stdin=subprocess.DEVNULL, stdout=other, stderr=other,
                                   env={**os.environ, "TERM": "xterm"})
        os.close(other)
        output = b""
        while True:
            try:
                part = os.read(main, 4096)
            except OSError as error:                         # Linux says so when the other end is closed
                self.assertEqual(error.errno, errno.EIO)
                break
            if not part:
                break
            output += part
        os.close(main)
        self.assertEqual(process.wait(TIMEOUT_SECONDS), 0)
        text = output.decode()
        self.assertRegex(text, r"corpus: \d+ bytes in 1 file")
        self.assertRegex(text, r"[█░]+ +\d+ %  epoch")
        self.assertRegex(text, r"validation \d\.\d+ nats, \d\.\d+ bits per character  best")
        self.assertRegex(text, r"---- step 9\r\n(.|\r\n){20}\r\n----\r\n")
        self.assertRegex(text, r"moby@1: best weights, of step \d+")
        self.assertNotIn("{", text)


class Use(CommandTest):
    def setUp(self):
        super().setUp()
        self.corpus = self.write("text.txt", LONG_TEXT)
        self.train("--epochs", "4", "--optimizer", "adam", "--learning-rate", "0.02")

    def test_sample(self):
        first = self.good("sample", self.model, "--prompt", "Call me", "--length", "40", "--seed", "3")
        again = self.good("sample", self.model + "@1", "--prompt", "Call me", "--length", "40", "--seed", "3",
                          "--threads", "2")
        self.assertEqual(first, again)
        self.assertTrue(first.startswith("Call me") and first.endswith("\n"))
        self.assertEqual(len(first), len("Call me") + 40 + 1)
        reply = json.loads(self.good("sample", self.model, "--prompt", "Call me", "--length", "40", "--seed", "3",
                                     "--json"))
        self.assertEqual(reply, {"model": "moby@1", "seed": 3, "text": first[len("Call me"):-1],
                                 "finish_reason": "length"})
        self.assertEqual(len(self.good("sample", self.model, "--length", "9")), 10)
        stopped = ("sample", self.model, "--length", "40", "--seed", "3", "--stop", "\x01", "--stop")
        text = self.good(*stopped, "\x02")[:-1]
        self.assertEqual(self.good(*stopped, text[0])[:-1], "")
        later = text.find(text[0], 8)
        self.assertEqual(self.good(*stopped, text[0], "--min-tokens", "8")[:-1], text[:later] if later >= 0 else text)
        pattern = ("sample", self.model, "--prompt", "Call me", "--length", "12", "--temperature", "2", "--pattern")
        for seed in range(8):
            self.assertRegex(self.good(*pattern, "( [a-e]{2,3}){2}[.]", "--seed", str(seed)),
                             r"\ACall me( [a-e]{2,3}){2}[.]\n\Z")
        self.bad(1, "--pattern: pattern: a backreference at character 3 is not supported", *pattern, r"(a)\1")
        self.bad(1, "the shortest text that matches the pattern has 13 symbols", *pattern, "a{13}")
        self.bad(1, "stop strings", "sample", self.model, *["--stop=x"] * 20)
        self.bad(1, "U+00E9", "sample", self.model, "--prompt", "é")
        self.bad(1, "temperature", "sample", self.model, "--temperature", "-1")
        self.bad(1, "nothing", "sample", os.path.join(self.directory, "nothing"))
        self.bad(1, "/7", "sample", self.model + "@7")
        self.bad(2, "version 'x'", "sample", self.model + "@x")

    def test_a_broken_version_is_passed_over(self):
        shutil.copytree(os.path.join(self.model, "1"), os.path.join(self.model, "2"))
        with open(os.path.join(self.model, "2", "weights.safetensors"), "r+b") as file:
            file.truncate(100)
        self.assertEqual(json.loads(self.good("inspect", self.model, "--json"))["version"], 1)
        self.bad(1, "weights.safetensors", "inspect", self.model + "@2")

    def test_score(self):
        score = json.loads(self.good("score", self.model, self.corpus, "--json"))
        self.assertEqual((score["model"], score["symbols"]), ("moby@1", len(LONG_TEXT) - 1))
        self.assertAlmostEqual(score["bits_per_character"], score["nats_per_symbol"] / math.log(2), 6)
        self.assertAlmostEqual(score["perplexity"], math.exp(score["nats_per_symbol"]), 5)
        self.assertLess(score["nats_per_symbol"], 0.8 * math.log(len(set(LONG_TEXT))))
        self.assertIn("nats per symbol", self.good("score", self.model, self.corpus))
        self.bad(1, "at least 2", "score", self.model, self.write("one.txt", "C"))
        self.bad(1, "U+00E9", "score", self.model, self.write("unknown.txt", "Call é"))

    def test_score_adapts(self):
        """A text that repeats what the model never saw becomes ever less of a surprise; the version stays as it is."""
        text = self.write("other.txt", "sore seas snare some sane seers. " * 40)
        weights = os.path.join(self.model, "1", "weights.safetensors")
        with open(weights, "rb") as file:
            before = file.read()
        plain = json.loads(self.good("score", self.model, text, "--json"))
        for options, rate in (("output",), 0.003), (("all", "--learning-rate", "0.01"), 0.01):
            score = json.loads(self.good("score", self.model, text, "--json", "--adapt", *options))
            adapted = score.pop("adapted")
            self.assertEqual(score, plain)
            self.assertEqual((adapted["weights"], adapted["optimizer"], adapted["learning_rate"],
                              adapted["segment_symbols"]), (options[0], "adam", rate, 20))
            self.assertAlmostEqual(adapted["gain_nats_per_symbol"],
                                   plain["nats_per_symbol"] - adapted["nats_per_symbol"], 6)
            self.assertGreater(adapted["gain_nats_per_symbol"], 0.05)
            self.assertAlmostEqual(adapted["perplexity"], math.exp(adapted["nats_per_symbol"]), 5)
        self.assertGreater(adapted["gain_nats_per_symbol"], 0.5)
        with open(weights, "rb") as file:
            self.assertEqual(file.read(), before)
        self.assertRegex(self.good("score", self.model, text, "--adapt", "all"),
                         r"\A.*\n.*, adapting: .*\ngain: [\d.]+ nats per symbol, [\d.]+ %\n\Z")
        for error, options in (("not output or all", ("--adapt", "some")), ("in fp32, not in int8", ("--adapt",
                               "all", "--precision", "int8")), ("with --adapt", ("--learning-rate", "1")),
                               ("above 0", ("--adapt", "all", "--learning-rate", "0"))):
            self.bad(2, error, "score", self.model, text, *options)

    def test_score_is_the_validation_loss(self):
        """Two symbols are held back: the evaluation then reads what score reads, one symbol after the zero state."""
        fraction = 1.5 / len(LONG_TEXT)
        published = self.train("--epochs", "1", "--validation-fraction", f"{fraction:.12f}")[-1]
        held_back = self.write("held-back.txt", LONG_TEXT[-2:])
        score = json.loads(self.good("score", f"{self.model}@{published['version']}", held_back, "--json"))
        self.assertAlmostEqual(score["nats_per_symbol"], published["evaluation"]["validation_loss"], 4)

    def test_inspect(self):
        facts = json.loads(self.good("inspect", self.model, "--json", "--graph"))
        symbols = len(set(TEXT))
        self.assertEqual({v["name"]: v["shape"] for v in facts["variables"]}, {
            "rnn/multi_rnn_cell/cell_0/basic_lstm_cell/kernel": [symbols + 8, 32],
            "rnn/multi_rnn_cell/cell_0/basic_lstm_cell/bias": [32],
            "softmax/w": [8, symbols], "softmax/b": [symbols]})
        self.assertEqual(facts["architecture"]["parameters"],
                         (symbols + 8) * 32 + 32 + 8 * symbols + symbols)
        self.assertRegex(facts["files"]["weights.safetensors"]["sha256"], r"\A[0-9a-f]{64}\Z")
        self.assertTrue(facts["graph"]["nodes"])
        self.assertIn("softmax/w: dtype float32", self.good("inspect", self.model))


class Bench(CommandTest):
    def measure(self, *arguments):
        return records(self.good("bench", *arguments, "--units", "16", "--vocabulary", "100", "--seconds", "0.05"))

    def test_decode(self):
        lines = self.measure("decode", "--batch", "1", "--batch", "5")
        self.assertEqual([(line["kind"], line["batch"]) for line in lines], [("decode", 1), ("decode", 5)])
        for line in lines:
            self.assertGreater(line["us_per_symbol"], 0)  # of a row
            self.assertGreater(line["chars_per_s"], 0)
            self.assertGreater(line["gops"], 0)
            self.assertGreater(line["peak_rss_bytes"], 1 << 20)

    def test_cells(self):
        for cell, gates in (("lstm", 4), ("gru", 3), ("rnn", 1)):
            line, = self.measure("decode", "--batch", "2", "--cell", cell)
            weights = 3 * 16 * gates * 16 + 16 * 100  # of the first layer's input, a row of a table is taken
            self.assertEqual(line["cell"], cell)
            self.assertAlmostEqual(line["gops"], 2 * weights * line["chars_per_s"] / 1e9, delta=0.01 * line["gops"])
        self.bad(2, "--cell is 'elman', not lstm, gru or rnn", "bench", "decode", "--cell", "elman")

    def test_train(self):
        line, = self.measure("train", "--batch", "4", "--sequence-length", "8")
        self.assertEqual((line["kind"], line["batch"], line["sequence_length"], line["units"]), ("train", 4, 8, 16))
        self.assertAlmostEqual(line["ms_per_step"] * line["chars_per_s"] / 1e3, 32, delta=0.5)
        weights = (100 + 16) * 64 + (16 + 16) * 64 + 16 * 100
        self.assertAlmostEqual(line["gops"], 6 * weights * line["chars_per_s"] / 1e9, delta=0.01 * line["gops"])

    def test_serve(self):
        line, = self.measure("serve", "--clients", "3", "--length", "5")
        self.assertEqual((line["kind"], line["clients"], line["errors"]), ("serve", 3, 0))
        self.assertGreaterEqual(line["requests"], 3)
        self.assertGreater(line["chars_per_s"], 0)
        self.assertGreaterEqual(line["p99_ms"], line["p50_ms"])

    def test_precision_of_the_served(self):
        for precision in ("fp32", "int8"):
            line, = self.measure("serve", "--clients", "1", "--length", "5", "--precision", precision)
            self.assertEqual((line["precision"], line["errors"]), (precision, 0))

    def test_first_byte(self):
        line, = self.measure("first-byte", "--length", "2000")
        self.assertEqual((line["kind"], line["clients"], line["errors"]), ("first-byte", 1, 0))
        self.assertGreater(line["requests"], 0)
        self.assertGreaterEqual(line["p99_us"], line["p50_us"])

    def test_no_time(self):
        for kind in ("serve", "first-byte", "run"):
            line, = records(self.good("bench", kind, "--units", "16", "--vocabulary", "100", "--seconds", "1e-9",
                                      "--clients", "3"))
            self.assertEqual(line["errors"], 0)
            self.assertGreaterEqual(line["requests"], 3)
            self.assertLess(line.get("runs_per_s", 0), 1e6)     # of the time they took

    def test_runs(self):
        line, = self.measure("run")
        self.assertEqual((line["kind"], line["clients"], line["errors"]), ("run", 1, 0))
        self.assertGreater(line["requests"], 0)
        self.assertGreaterEqual(line["p99_us"], line["p50_us"])

    def test_bad(self):
        self.bad(1, "train is measured in fp32", "bench", "train", "--precision", "int8")
        self.bad(2, "not fp32, bf16 or int8", "bench", "decode", "--precision", "int4")
        self.bad(2, "from 1 to 256", "bench", "decode", "--batch", "257")
        self.bad(2, "from 1 to 256", "bench", "serve", "--clients", "0")
        self.bad(2, "nothing to measure", "bench", "speed")


if __name__ == "__main__":
    unittest.main()
