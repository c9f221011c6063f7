"""Training over HTTP while clients generate from the same model: one process, one set of names, no torn weights."""
import json
import os
import subprocess
import threading
import unittest

from harness import CORPUS, LSTMD, DaemonTest, wait_until

CLIENTS = 8
STEPS = 60
TEXT = CORPUS * 2


class TrainWhileServing(DaemonTest):
    MODELS = {"bard": {"max_steps": 20}}

    def generate(self, seed):
        status, reply = self.daemon.json("POST", "/v1/completions", {
            "model": "bard", "prompt": "I thought", "max_tokens": 60, "seed": seed})
        self.assertEqual(status, 200, reply)
        return reply["model"], reply["choices"][0]["text"]

    def client(self, is_over, seen, failures):
        """The same seed on the same version gives the same text, however much is trained meanwhile."""
        while not is_over.is_set():
            try:
                model, text = self.generate(7)
            except AssertionError as reason:
                failures.append(str(reason))
                return
            if seen.setdefault(model, text) != text:
                failures.append(f"{model} gave two texts for one seed")
                return

    def test_clients_see_published_versions(self):
        is_over, seen, failures = threading.Event(), {}, []
        clients = [threading.Thread(target=self.client, args=(is_over, seen, failures)) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            for round_number in range(2):
                status, job = self.daemon.json("POST", "/v1/models/bard/train", {
                    "corpus": {"text": TEXT}, "batch": 4, "sequence_length": 16, "max_steps": STEPS, "publish": "end",
                    "seed": round_number + 1})
                self.assertEqual(status, 202, job)
                status, refused = self.daemon.json("POST", "/v1/models/bard/train", {
                    "corpus": {"text": TEXT}, "batch": 4, "sequence_length": 16, "max_steps": STEPS})
                self.assertIn(status, (409, 202), refused)   # 202 only if the first was over already
                if status == 202:
                    wait_until(self.is_trained, "training never ended")
                wait_until(self.is_trained, "training never ended")
                wait_until(lambda n=round_number: self.version() >= 2 + n, "never published")
            wait_until(lambda: f"bard@{self.version()}" in seen or failures, "no client saw the last version")
        finally:
            is_over.set()
            for client in clients:
                client.join()
        self.assertEqual(failures, [])
        self.assertGreater(len(seen), 1)
        self.assertNotIn("already exists", self.daemon.text())

    def version(self):
        return self.daemon.json("GET", "/v1/models/bard")[1]["version"]

    def is_trained(self):
        status, job = self.daemon.json("GET", "/v1/models/bard/train")
        self.assertEqual(status, 200, job)
        self.assertNotIn(job["state"], ("failed",), json.dumps(job))
        return job["state"] == "done"

    def check_priorities(self):
        """The trainer's threads take only what nobody else wants; no other thread is like that."""
        tasks = f"/proc/{self.daemon.process.pid}/task"
        policies = {}
        for task in os.listdir(tasks):
            with open(f"{tasks}/{task}/comm", encoding="utf-8") as file:
                policies.setdefault(file.read().strip(), set()).add(os.sched_getscheduler(int(task)) &
                                                                    ~os.SCHED_RESET_ON_FORK)
        trainers = {name for name in policies if "train" in name}
        self.assertTrue(trainers, policies)
        self.assertGreater(len(policies), len(trainers))
        for name, found in policies.items():
            self.assertEqual(found, {os.SCHED_IDLE if name in trainers else os.SCHED_OTHER}, policies)

    def test_graph_is_held_by_the_job(self):
        """A build beside a job is refused by the job's name; reading goes on."""
        status, job = self.daemon.json("POST", "/v1/models/bard/train", {
            "corpus": {"text": TEXT}, "batch": 4, "sequence_length": 16, "max_steps": 100000, "publish": "never"})
        self.assertEqual(status, 202, job)
        try:
            wait_until(lambda: self.daemon.json("GET", "/v1/models/bard/train")[1].get("step", 0) > 0, "never began")
            self.check_priorities()
            status, reply = self.daemon.json("POST", "/v1/models/bard/graph/build",
                                             {"program": [{"op": "get_variable", "name": "extra", "shape": [1]}]})
            self.assertEqual(status, 409, reply)
            self.assertIn("training job", reply["error"]["message"])
            self.assertEqual(self.daemon.json("GET", "/v1/models/bard/graph")[0], 200)
        finally:
            status, _ = self.daemon.json("DELETE", "/v1/models/bard/train")
            self.assertIn(status, (200, 202))
            wait_until(lambda: self.daemon.json("GET", "/v1/models/bard/train")[1]["state"] == "stopped",
                       "never stopped")


class TrainBeside(DaemonTest):
    """`lstmd train` in the directory of a model that is served."""

    MODELS = {"bard": {}}

    def job(self):
        return self.daemon.json("GET", "/v1/models/bard/train")[1]

    def test_it_is_said_to_run(self):
        corpus = os.path.join(self.folder, "corpus.txt")
        with open(corpus, "w", encoding="utf-8") as file:
            file.write(CORPUS)
        command = [LSTMD, "train", corpus, "--out", os.path.join(self.models, "bard"), "--max-steps", str(1 << 40),
                   "--batch", "4", "--sequence-length", "16", "--units", "16", "--checkpoint-seconds", "0.1"]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as beside:
            try:
                wait_until(lambda: "state" in self.job(), lambda: json.dumps(self.job()))
                self.assertEqual((self.job()["state"], self.job()["id"]), ("running", None))
                self.expect(409, "POST", "/v1/models/bard/train", {"corpus": {"text": CORPUS}, "resume": True},
                            error="training_locked")
            finally:
                beside.terminate()
        self.assertEqual(self.job()["state"], "interrupted")


if __name__ == "__main__":
    unittest.main()
