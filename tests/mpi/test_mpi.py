"""Two ranks that train together under mpirun give the losses that one process gives; whatever ends one ends all.

The binary is $LSTMD, built with MPI=1; tests/run says where mpirun is missing.
"""
import json
import os
import shutil
import signal
import subprocess
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LSTMD = os.environ.get("LSTMD", os.path.join(ROOT, "build", "mpi", "lstmd"))
TIMEOUT_SECONDS = 120
TEXT = ("Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in my purse, and "
        "nothing particular to interest me on shore, I thought I would sail about a little and see the watery part "
        "of the world.\n") * 30
OPTIONS = ["--layers", "2", "--units", "16", "--batch", "6", "--sequence-length", "20", "--dropout", "0.2", "--shards",
           "4", "--evaluate-every-steps", "5", "--test-fraction", "0.05"]
# As root too; and ranks that wait leave the CPU to those that compute.
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
               "OMPI_MCA_mpi_yield_when_idle": "1"}
ALONE = []
TWO = ["mpirun", "-n", "2", "--oversubscribe", "--bind-to", "none"]


class Ranks(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="lstmd-mpi-")
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.corpus = os.path.join(self.directory, "text")
        with open(self.corpus, "w", encoding="utf-8") as file:
            file.write(TEXT)
        self.model = os.path.join(self.directory, "models", "moby")

    def command(self, launcher, *options):
        return [*launcher, LSTMD, "train", self.corpus, "--out", self.model, "--json", *OPTIONS, *options]

    def train(self, launcher, *options):
        done = subprocess.run(self.command(launcher, *options), env=ENVIRONMENT, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT_SECONDS,
                              check=False)
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    def good(self, launcher, *options):
        status, records, errors = self.train(launcher, *options)
        self.assertEqual((status, errors), (0, ""))
        return records

    def start(self, *options):
        """Two ranks that go on for ever, once they have begun."""
        process = subprocess.Popen(self.command(TWO, "--max-steps", "100000000", *options), env=ENVIRONMENT,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        while json.loads(process.stdout.readline())["event"] != "progress":
            pass
        return process

    def ranks(self, process):
        """The process ids of mpirun's ranks."""
        with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as file:
            return sorted(int(word) for word in file.read().split())

    def losses(self, records):
        return [(record["step"], record["train_loss"], record["validation_loss"], record["gradient_norm"])
                for record in records if record["event"] == "progress"]

    def weights(self, version):
        with open(os.path.join(self.model, str(version), "weights.safetensors"), "rb") as file:
            return file.read()

    def test_losses_agree(self):
        for options in (["--max-steps", "60"],
                        ["--max-steps", "40", "--optimizer", "sgd", "--clip-norm", "0.5", "--cell", "gru",
                         "--validation-fraction", "0.001"]):
            one, two = self.good(ALONE, *options), self.good(TWO, *options)
            for ours, theirs in zip(self.losses(one), self.losses(two), strict=True):
                self.assertEqual(ours[0], theirs[0])
                for a, b in zip(ours[1:], theirs[1:]):
                    self.assertAlmostEqual(a, b, delta=1e-4 * abs(a))
            self.assertAlmostEqual(one[-1]["evaluation"]["test_loss"], two[-1]["evaluation"]["test_loss"], 3)
            self.assertEqual(two[-1]["version"], one[-1]["version"] + 1)
            self.assertGreater(two[-2]["symbols_per_second"], 0)

    def test_one_shard_each_gives_the_same_bits(self):
        self.good(ALONE, "--shards", "2", "--max-steps", "30")
        self.good(TWO, "--shards", "2", "--max-steps", "30")
        self.assertEqual(self.weights(1), self.weights(2))

    def test_stopped_and_resumed(self):
        """A signal to any rank stops all, with a checkpoint that one process or two go on from."""
        steps = 2000
        self.good(ALONE, "--max-steps", str(steps), "--shards", "2")
        for rank, launcher in ((1, TWO), (0, ALONE)):
            process = self.start("--shards", "2")
            os.kill(self.ranks(process)[rank], signal.SIGTERM)
            process.stdout.read()
            errors = process.stderr.read()
            self.assertNotEqual(process.wait(TIMEOUT_SECONDS), 0)
            self.assertEqual(errors.count("its checkpoint is kept"), 1, errors)
            self.assertNotIn("rank 1: ", errors)
            with open(os.path.join(self.model, ".training", "train.json"), encoding="utf-8") as file:
                step = json.load(file)["step"]
            more = ["--shards", "2", "--resume", "--max-steps", str(max(steps, step + 1))]
            version = self.good(launcher, *more)[-1]["version"]
            if step < steps:
                self.assertEqual(self.weights(1), self.weights(version))

    def test_a_rank_that_dies_ends_all(self):
        process = self.start()
        os.kill(self.ranks(process)[1], signal.SIGKILL)
        process.stdout.read()
        errors = process.stderr.read()
        self.assertNotEqual(process.wait(TIMEOUT_SECONDS), 0)
        self.assertRegex(errors, r"rank 1 .*exited on\s+signal 9")

    def test_a_rank_that_fails_ends_all(self):
        """The text changes under them: whoever sees it first says so, and nobody waits for anybody."""
        process = self.start()
        os.truncate(self.corpus, 100)
        process.stdout.read()
        errors = process.stderr.read()
        self.assertNotEqual(process.wait(TIMEOUT_SECONDS), 0)
        self.assertIn("changed since it was read", errors)

    def test_refused(self):
        for error, options in (("shards is 1, and 2 ranks train", ["--shards", "1"]),
                               ("there is no interrupted training", ["--resume"])):
            status, _, errors = self.train(TWO, *options)
            self.assertNotEqual(status, 0)
            self.assertEqual(errors.count(error), 1, errors)
        self.corpus = "-"
        self.assertIn("standard input is no text for several ranks", self.train(TWO)[2])
        self.corpus = os.path.join(self.directory, "nothing")
        self.assertIn("nothing", self.train(TWO)[2])
        self.assertFalse(os.path.exists(self.model))

    def test_texts_that_differ(self):
        other = self.corpus + "2"
        with open(other, "w", encoding="utf-8") as file:
            file.write(TEXT.replace("Ishmael", "Jonah"))
        second = self.command([], "--max-steps", "5")
        second[second.index(self.corpus)] = other
        done = subprocess.run(["mpirun", "--oversubscribe", "-n", "1", *self.command([], "--max-steps", "5"), ":", "-n",
                               "1", *second], env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=TIMEOUT_SECONDS, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stderr, r"lstmd train: rank 1: the text's SHA-256 is \w+, for kernels")
        self.assertFalse(os.path.exists(os.path.join(self.model, "1")))


if __name__ == "__main__":
    unittest.main()
