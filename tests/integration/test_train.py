"""/v1/corpora and /v1/models/{m}/train: kept texts, jobs, their events, and every limit and refusal."""
import hashlib
import json
import os
import resource
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import CORPUS, Daemon, DaemonTest, run, wait_until  # noqa: E402

SMALL = {"language_model": {"layers": 1, "units": 8}}
SHORT = {"batch": 4, "sequence_length": 16, "max_steps": 20}
ENDLESS = {"batch": 4, "sequence_length": 16, "max_steps": 1 << 40, "corpus": {"text": CORPUS}}


class Training(DaemonTest):
    names = iter(range(1000))

    def setUp(self):
        self.name = f"t{next(self.names)}"
        self.path = f"/v1/models/{self.name}"
        self.expect(201, "PUT", self.path, SMALL)

    def train(self, code=202, error=None, **fields):
        body = {"corpus": {"text": CORPUS}, **SHORT, **fields}
        return self.expect(code, "POST", self.path + "/train", body, error=error)

    def events(self):
        """Every record up to [DONE], which ends the stream."""
        status, headers, content = self.daemon.request("GET", self.path + "/train/events")
        self.assertEqual((status, headers["Content-Type"]), (200, "text/event-stream"))
        lines = [line[6:] for line in content.decode().split("\n") if line.startswith("data: ")]
        self.assertEqual(lines[-1], "[DONE]")
        return [json.loads(line) for line in lines[:-1]]

    def stop(self):
        return self.expect(200, "DELETE", self.path + "/train")


class Jobs(Training):
    CONFIG = "training_jobs_max = 2\n"

    def test_end_publishes(self):
        job = self.train()
        self.assertEqual((job["model"], job["state"], job["options"]["max_steps"]), (self.name, "running", 20))
        events = self.events()
        self.assertEqual([event["event"] for event in events[-2:]], ["published", "done"])
        self.assertEqual((events[-1]["step"], events[-1]["version"]), (20, 1))
        for field in ("epoch", "train_loss", "validation_loss", "bits_per_character", "perplexity", "learning_rate",
                      "symbols_per_second", "seconds_left"):
            self.assertIn(field, events[-1])
        reply = self.expect(200, "GET", self.path + "/train")
        self.assertEqual((reply["state"], reply["version"], reply["step"]), ("done", 1, 20))
        self.assertEqual(reply["history"], events)
        self.expect(200, "POST", self.path + "/load")
        described = self.expect(200, "GET", self.path)
        self.assertEqual(described["versions"][0]["status"], "serving")
        self.assertFalse(described["training"])
        self.assertIn("change", described["evaluation"]["precisions"]["bf16"])
        self.assertFalse(os.path.exists(os.path.join(self.models, self.name, ".training")))
        self.assertFalse(self.expect(200, "GET", self.path + "/graph")["unsaved"])

    def test_preset(self):
        """Its fields, and those beside it, which come first; of a model, too."""
        options = self.train(preset="char-rnn", optimizer={"learning_rate": 0.01}, epochs=2)["options"]
        self.assertEqual((options["batch"], options["epochs"], options["clip_value"]), (4, 2, 0.1))
        self.assertEqual((options["optimizer"]["name"], options["optimizer"]["decay"],
                          options["optimizer"]["learning_rate"]), ("rmsprop", 0.95, 0.01))
        self.assertEqual(self.events()[-1]["event"], "done")
        self.path = "/v1/models/published"
        self.expect(201, "PUT", self.path, {"language_model": {"preset": "torch-rnn", "units": 8}})
        self.train()
        self.events()
        self.expect(200, "POST", self.path + "/load")
        model = self.expect(200, "GET", self.path)["architecture"]
        self.assertEqual((model["layers"], model["units"], model["embedding"]), (2, 8, 64))

    def test_optimizers_one_after_another(self):
        """Each has slots of its own, on one graph; what is fed builds nothing."""
        for optimizer in ({"name": "adamw", "weight_decay": 0.1}, {"name": "momentum", "use_nesterov": True},
                          {"name": "rmsprop", "centered": True}, {"name": "adagrad"}, {"name": "sgd"}):
            self.train(optimizer=optimizer, clip_value=0.5, label_smoothing=0.1, gradient_noise=0.01, publish="never")
            self.assertEqual(self.events()[-1]["event"], "done")
        built = self.expect(200, "GET", self.path + "/graph")["nodes"]
        self.train(optimizer={"name": "sgd", "learning_rate": 1}, clip_value=1, label_smoothing=0.2,
                   gradient_noise=0.02, publish="never")
        self.assertEqual(self.events()[-1]["event"], "done")
        self.assertEqual(self.expect(200, "GET", self.path + "/graph")["nodes"], built)
        self.train(**{**ENDLESS, "optimizer": {"name": "momentum", "momentum": 0.5}, "label_smoothing": 0.1})
        step = self.stop()["step"]
        text = os.path.join(self.folder, "text")
        with open(text, "w", encoding="utf-8") as file:
            file.write(CORPUS)
        done = run("train", text, "--out", os.path.join(self.models, self.name), "--resume", "--max-steps", step + 9)
        self.assertEqual(done.returncode, 0, done.stderr)    # another process builds them all again, slot by slot
        self.assertIn(f'"event":"done","step":{step + 9},', done.stdout.replace(" ", ""))

    def test_samples(self):
        """An event each, the same as the model would write again; what it writes changes no weights."""
        self.train(sample_every_steps=10, sample_symbols=25)
        samples = [event for event in self.events() if event["event"] == "sample"]
        self.assertEqual([(event["step"], len(event["text"])) for event in samples], [(10, 25), (20, 25)])

    def end_failed(self, code, **fields):
        """A job that ends as failed: what served before serves on, and the last checkpoint stands."""
        kept = os.path.join(self.models, self.name, ".training", "manifest.json")
        before = os.stat(kept).st_mtime_ns if os.path.exists(kept) else None
        prompt = {"model": self.name, "prompt": "Call", "max_tokens": 20, "seed": 3}
        text = self.expect(200, "POST", "/v1/completions", prompt)["choices"][0]["text"]
        self.train(**fields)
        event = self.events()[-1]
        self.assertEqual((event["event"], event["error"]["code"]), ("failed", code))
        reply = self.expect(200, "GET", self.path + "/train")
        self.assertEqual((reply["state"], reply["version"]), ("failed", None))
        self.assertEqual(before, os.stat(kept).st_mtime_ns if os.path.exists(kept) else None)
        self.assertEqual(self.expect(200, "POST", "/v1/completions", prompt)["choices"][0]["text"], text)
        versions = self.expect(200, "GET", self.path)["versions"]
        self.assertEqual([(version["version"], version["status"]) for version in versions], [(1, "serving")])
        return event["error"]["message"]

    def test_a_loss_that_is_no_number(self):
        self.train()
        self.events()
        self.expect(200, "POST", self.path + "/load")
        bias = self.expect(200, "GET", self.path + "/variables/softmax/b")
        size = bias["shape"][0]
        self.expect(200, "PUT", self.path + "/variables/softmax/b",
                    {"dtype": "float32", "shape": [size], "data": ["NaN"] + [0] * (size - 1)})
        self.assertRegex(self.end_failed("not_finite"), "step 1: the loss is -?nan: training ends")

    def test_disk_full(self):
        self.train()
        self.events()
        self.expect(200, "POST", self.path + "/load")
        pid = self.daemon.process.pid
        limits = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, limits[1]))
        self.addCleanup(resource.prlimit, pid, resource.RLIMIT_FSIZE, limits)
        self.assertIn("File too large", self.end_failed("io"))

    def test_second_job_and_stop(self):
        self.train(**ENDLESS)
        self.assertTrue(self.expect(200, "GET", self.path)["training"])
        self.train(409, "training")
        self.expect(409, "DELETE", self.path, error="model_in_use")
        self.expect(409, "POST", self.path + "/graph/build",
                    {"program": [{"op": "get_variable", "name": "w", "shape": [1]}]})
        self.expect(409, "POST", self.path + "/graph/reset")
        self.assertEqual(self.stop()["state"], "stopped")
        self.assertEqual(self.stop()["state"], "stopped")
        events = self.events()
        checkpoint, stopped = events[-2:]
        self.assertEqual((checkpoint["event"], stopped["event"]), ("checkpoint", "stopped"))
        self.assertEqual(stopped["step"], checkpoint["step"])
        self.assertIn(f"stopped at step {stopped['step']}; its checkpoint is kept", stopped["message"])
        self.assertTrue(os.path.exists(os.path.join(self.models, self.name, ".training", "manifest.json")))
        self.train(409, "unfinished_job")
        self.train(400, batch=0)
        reply = self.expect(200, "GET", self.path + "/train")    # what was refused leaves it as it was
        self.assertEqual((reply["state"], reply["history"]), ("stopped", events))
        self.assertEqual(self.events(), events)

    def test_resume(self):
        self.train(**ENDLESS, evaluate_every_steps=5)
        wait_until(lambda: self.expect(200, "GET", self.path + "/train").get("step", 0) > 10)
        step = self.stop()["step"]
        self.train(409, "resume_differs", resume=True, batch=8)
        manifest = os.path.join(self.models, self.name, ".training", "manifest.json")
        with open(manifest, "r+", encoding="utf-8") as file:
            content = json.load(file)
            content["origin"]["kernels"] = "mmx"
            file.seek(0)
            json.dump(content, file)
            file.truncate()
        body = {"corpus": {"text": CORPUS}, "resume": True, "max_steps": step + 10}
        self.expect(202, "POST", self.path + "/train", body)
        events = self.events()
        self.assertEqual(events[-1]["step"], step + 10)
        self.assertIn("kernels mmx", [event["message"] for event in events if event["event"] == "warning"][0])
        history = self.expect(200, "GET", self.path + "/train")["history"]
        self.assertEqual([record["step"] for record in history if record["event"] == "progress"][:2], [5, 10])
        self.assertEqual([record["step"] for record in events if record["event"] == "progress"][:2], [5, 10])

    def test_a_deleted_model_takes_its_jobs_along(self):
        for force in ("", "?force=true"):
            self.train()
            self.events()
            self.expect(200, "DELETE", self.path + force)
            self.expect(201, "PUT", self.path, SMALL)
            self.expect(404, "GET", self.path + "/train", error="no_training")

    def test_discard_what_is_unfinished(self):
        self.train(**ENDLESS)
        self.stop()
        self.train(resume=False)
        self.assertEqual(self.events()[-1]["step"], 20)

    def test_forced_reset_stops(self):
        self.train(**ENDLESS)
        self.expect(200, "POST", self.path + "/graph/reset", {"force": True})
        self.assertEqual(self.expect(200, "GET", self.path + "/train")["state"], "stopped")

    def test_forced_delete_stops(self):
        self.train(**ENDLESS)
        self.expect(200, "DELETE", self.path + "?force=true")
        self.expect(404, "POST", self.path + "/train", {"corpus": {"text": CORPUS}}, error="model_not_found")

    def test_jobs_at_a_time(self):
        paths = [self.path]
        for _ in range(2):
            self.setUp()
            paths.append(self.path)
        for path in paths[:2]:
            self.expect(202, "POST", path + "/train", ENDLESS)
        status, headers, _ = self.daemon.request("POST", paths[2] + "/train", ENDLESS)
        self.assertEqual((status, headers["Retry-After"] is not None), (429, True))
        for path in paths[:2]:
            self.expect(200, "DELETE", path + "/train")
        self.expect(202, "POST", paths[2] + "/train", {"corpus": {"text": CORPUS}, **SHORT})
        self.path = paths[2]
        self.events()

    def test_follow_while_it_runs(self):
        self.train(**ENDLESS)
        connection, reply = self.daemon.open_stream("GET", self.path + "/train/events")
        try:
            self.assertTrue(reply.readline().startswith(b"data: {"))
            self.stop()
            self.assertTrue(reply.read().endswith(b"data: [DONE]\n\n"))
        finally:
            connection.close()

    def test_follower_that_leaves(self):
        self.train(**ENDLESS)
        connection, reply = self.daemon.open_stream("GET", self.path + "/train/events")
        reply.readline()
        connection.close()
        self.stop()

    def test_refusals(self):
        for fields in ({"batch": 0}, {"batch": "4"}, {"wings": 2}, {"publish": "often"}, {"resume": 1},
                       {"corpus": None}, {"corpus": "text"}, {"corpus": {}}, {"corpus": {"text": 1}},
                       {"corpus": {"text": "a", "name": "b"}}, {"corpus": {"url": "x"}},
                       {"optimizer": {"name": "magic"}}, {"corpus": {"text": ""}},
                       {"corpus": {"text": "too short"}}):
            self.train(400, **fields)
        self.assertIn("char-rnn, torch-rnn, anna", self.train(400, preset="small")["error"]["message"])
        self.train(404, "corpus_not_found", corpus={"name": "nothing"})
        self.train(404, "corpus_not_found", corpus={"name": "../t0"})
        self.train(404, "no_checkpoint", resume=True)
        self.expect(400, "POST", self.path + "/train", "{", error="bad_json")
        self.expect(404, "GET", self.path + "/train", error="no_training")
        self.expect(404, "GET", self.path + "/train/events", error="no_training")
        self.expect(404, "DELETE", self.path + "/train", error="no_training")
        self.expect(404, "POST", "/v1/models/nobody/train", {"corpus": {"text": "x"}}, error="model_not_found")
        self.assertFalse(self.expect(200, "GET", self.path)["training"])

    def test_empty_graph(self):
        self.path = "/v1/models/hollow"
        self.expect(201, "PUT", self.path, {})
        self.train(422)


class Cells(DaemonTest):
    """Every cell, one-hot, embedded or tied: trains, stops, resumes, serves, and writes what its graph says."""

    def post(self, path, body, code=200):
        status, reply = self.daemon.json("POST", path, body)
        self.assertEqual(status, code, reply)
        return reply

    def trained(self, name, **fields):
        path = f"/v1/models/{name}"
        model = {"layers": 2, "units": 12, "vocabulary": "bytes", **fields}
        status, reply = self.daemon.json("PUT", path, {"language_model": model})
        self.assertEqual(status, 201, reply)
        fast = {"name": "adam", "learning_rate": 0.05}  # so that soon what it writes is ASCII
        self.post(path + "/train", {**ENDLESS, "optimizer": fast}, 202)
        step = self.daemon.json("DELETE", path + "/train")[1]["step"]
        self.post(path + "/train", {"corpus": {"text": CORPUS}, "resume": True, "max_steps": step + 20}, 202)
        self.assertIn(b'"step":%d' % (step + 20), self.daemon.request("GET", path + "/train/events")[2])
        self.post(path + "/load", {})
        return path

    def check(self, name, **fields):
        path = self.trained(name, **fields)
        body = {"model": name, "prompt": "Call", "max_tokens": 24, "temperature": 0}
        text = self.post("/v1/completions", body)["choices"][0]["text"]
        self.assertEqual(self.post("/v1/completions", body)["choices"][0]["text"], text)
        symbols = list(("Call" + text).encode())
        reply = self.post(path + "/graph/run", {"feeds": {"predict/inputs:0": [symbols]},
                                                "fetches": ["predict/logits:0"]})
        logits = reply["results"]["predict/logits:0"][0]
        for read, said in zip(logits[3:], symbols[4:]):
            self.assertGreater(read[said], max(read) - 1e-4)
        architecture = self.daemon.json("GET", path)[1]["architecture"]
        self.assertEqual((architecture["cell"], architecture["tie"]), (fields["cell"], fields.get("tie", False)))
        self.assertEqual(architecture["residual"], fields.get("residual", False))

    def test_gru(self):
        self.check("gru", cell="gru")
        self.check("gru-embedded", cell="gru", embedding=7, dropout=0.2)

    def test_rnn(self):
        self.check("rnn", cell="rnn")

    def test_dropout_and_first_weights(self):
        """A forget bias is served as it was trained; dropout of the input, with one mask a sequence, of each cell."""
        how = {"embedding": 6, "dropout": 0.3, "input_dropout": True, "variational_dropout": True, "initial_range": 0.3}
        self.check("biased", cell="lstm", forget_bias=-0.5, **how)
        self.check("masked-gru", cell="gru", **how)

    def test_tied(self):
        self.check("tied", cell="lstm", embedding=12, tie=True)
        self.check("tied-gru", cell="gru", embedding=12, tie=True)

    def test_residual(self):
        self.check("residual", cell="lstm", residual=True, dropout=0.2)
        self.check("residual-rnn", cell="rnn", embedding=5, residual=True)

    def test_state_goes_in_and_out(self):
        """One symbol after another, carrying the state as TensorFlow nests it, is the whole text at once."""
        path = self.trained("state", cell="gru")
        text, last = list(b"some"), None
        whole = self.post(path + "/graph/run", {"feeds": {"predict/inputs:0": [text]}, "fetches": ["predict/logits:0"]})
        states = {f"predict/initial_state/{i}:0": [[0.0] * 12] for i in range(2)}
        fetches = ["predict/logits:0", "predict/final_state/0:0", "predict/final_state/1:0"]
        for symbol in text:
            run = self.post(path + "/graph/run", {"feeds": {"predict/inputs:0": [[symbol]], **states},
                                                  "fetches": fetches})["results"]
            states = {f"predict/initial_state/{i}:0": run[f"predict/final_state/{i}:0"] for i in range(2)}
            last = run["predict/logits:0"][0][0]
        for a, b in zip(last, whole["results"]["predict/logits:0"][0][-1]):
            self.assertAlmostEqual(a, b, delta=1e-4)

    def test_refused(self):
        for error, fields in (("gru", {"cell": "gated"}), ("true or false", {"tie": 1}),
                              ("true or false", {"residual": "no"}),
                              ("only an lstm", {"cell": "gru", "forget_bias": 1}),
                              ("needs an embedding", {"input_dropout": True}), ("above 0", {"initial_range": 0}),
                              ("must be one of char-rnn", {"preset": "x"}),
                              ("an embedding of 12, the units of the top layer, not 0", {"tie": True}),
                              ("an embedding of 12, the units of the top layer, not 8", {"tie": True, "embedding": 8})):
            status, reply = self.daemon.json("PUT", "/v1/models/no", {"language_model": {"units": 12, **fields}})
            self.assertEqual(status, 400, reply)
            self.assertIn(error, reply["error"]["message"])


class Corpora(Training):
    CONFIG = "corpus_bytes_max = 20000\ncorpora_bytes_max = 30000\n"

    def test_kept(self):
        reply = self.expect(201, "PUT", "/v1/corpora/a.txt", "some text")
        self.assertEqual(reply, {"name": "a.txt", "bytes": 9, "sha256": hashlib.sha256(b"some text").hexdigest()})
        self.expect(200, "PUT", "/v1/corpora/a.txt", "other text")
        self.assertEqual(self.daemon.request("GET", "/v1/corpora/a.txt")[2], b"other text")
        self.expect(200, "DELETE", "/v1/corpora/a.txt")
        self.expect(404, "GET", "/v1/corpora/a.txt", error="corpus_not_found")
        self.expect(404, "DELETE", "/v1/corpora/a.txt", error="corpus_not_found")

    def test_train_on_it(self):
        self.expect(201, "PUT", "/v1/corpora/trained", CORPUS[:15000])
        self.train(corpus={"name": "trained"})
        self.assertEqual(self.events()[-1]["event"], "done")
        self.expect(200, "DELETE", "/v1/corpora/trained")

    def test_several_and_parts(self):
        self.expect(201, "PUT", "/v1/corpora/one", CORPUS[:9000])
        self.expect(201, "PUT", "/v1/corpora/two", CORPUS[9000:12000].replace("\n", "\r\n"))
        self.train(corpus={"name": ["one", "two"]}, validation={"name": "two"}, test={"text": CORPUS[:500]})
        events = self.events()
        self.assertEqual(events[0]["event"], "corpus")
        self.assertEqual((events[0]["files"], events[0]["symbols"]), (4, 15500))
        self.assertEqual([file["line_endings_changed"] for file in events[0]["changed_files"]],
                         [CORPUS[9000:12000].count("\n")] * 2)
        self.expect(200, "POST", self.path + "/load")
        described = self.expect(200, "GET", self.path)
        self.assertAlmostEqual(described["evaluation"]["test_loss"], events[-1]["test_loss"], 4)
        self.train(400, validation={"name": "two"}, validation_fraction=0.1)
        self.train(404, "corpus_not_found", test={"name": "three"})
        for wrong in ({"name": []}, {"name": [1]}, {"text": "a", "name": "one"}, "one"):
            self.train(400, "invalid_corpus", validation=wrong)
        for name in ("one", "two"):
            self.expect(200, "DELETE", "/v1/corpora/" + name)

    def test_a_kept_text_may_be_replaced_meanwhile(self):
        self.expect(201, "PUT", "/v1/corpora/kept", CORPUS[:9000])
        self.train(corpus={"name": "kept"}, max_steps=60)
        self.expect(200, "PUT", "/v1/corpora/kept", "short")
        self.assertEqual(self.events()[-1]["event"], "done")
        self.expect(200, "DELETE", "/v1/corpora/kept")

    def test_not_utf8(self):
        self.expect(201, "PUT", "/v1/corpora/bytes", b"\xff\xfe" * 4000)
        error = self.train(400, "malformed_utf8", corpus={"name": "bytes"})["error"]
        self.assertIn("bytes", error["message"])
        self.expect(200, "DELETE", "/v1/corpora/bytes")

    def test_limits(self):
        self.expect(400, "PUT", "/v1/corpora/empty", "", error="empty_corpus")
        self.expect(400, "PUT", "/v1/corpora/.hidden", "x", error="invalid_name")
        self.expect(400, "GET", "/v1/corpora/..%2Fx", error="invalid_name")
        self.assertEqual(self.daemon.request("PUT", "/v1/corpora/large", b"x" * 20001)[0], 413)
        self.expect(201, "PUT", "/v1/corpora/first", "x" * 20000)
        self.expect(413, "PUT", "/v1/corpora/second", "x" * 10001, error="corpora_full")
        self.expect(200, "PUT", "/v1/corpora/first", "y" * 20000)     # what it replaces does not count
        self.expect(200, "DELETE", "/v1/corpora/first")

    def test_path_without_roots(self):
        self.train(400, "corpus_path", corpus={"path": os.path.join(self.folder, "lstmd.conf")})


class Paths(Training):
    @classmethod
    def start(cls):
        root = os.path.join(cls.folder, "texts")
        for folder in (root, root + "-private"):
            os.mkdir(folder)
            with open(os.path.join(folder, "text"), "w", encoding="utf-8") as file:
                file.write(CORPUS)
        os.symlink(os.path.join(root + "-private", "text"), os.path.join(root, "link"))
        cls.root = root
        cls.CONFIG = f"corpora_roots = {root}\n"
        return super().start()

    def test_below_a_root(self):
        self.train(corpus={"path": os.path.join(self.root, "text")})
        self.assertEqual(self.events()[-1]["event"], "done")

    def test_a_directory(self):
        self.train(corpus={"path": self.root})       # but for the link in it
        events = self.events()
        self.assertEqual((events[0]["files"], events[-1]["event"]), (1, "done"))

    def test_a_file_that_shrinks_ends_the_job(self):
        path = os.path.join(self.root, "shrinking")
        with open(path, "w", encoding="utf-8") as file:
            file.write(CORPUS)
        self.train(**{**ENDLESS, "corpus": {"path": [path]}})
        wait_until(lambda: self.expect(200, "GET", self.path + "/train").get("step", 0) > 0)
        os.truncate(path, 100)
        event = self.events()[-1]
        reply = self.expect(200, "GET", self.path + "/train")
        self.assertEqual((reply["state"], reply["error"]), ("failed", event["error"]))
        self.assertGreater(min(reply["step"], reply["epoch"], reply["train_loss"]), 0)
        self.assertEqual((event["event"], event["error"]["code"]), ("failed", "file_changed"))
        self.assertIn(f"{path}: changed since it was read: {len(CORPUS.encode())} bytes then, now 100",
                      event["error"]["message"])
        os.unlink(path)

    def test_stop_while_the_text_is_read(self):
        """A text of gigabytes is left within a piece of it; reading has only CPU time that nobody else wants."""
        path = os.path.join(self.root, "vast")
        with open(path, "wb") as file:
            os.truncate(file.fileno(), 4 << 30)
        answers = []
        starting = threading.Thread(target=lambda: answers.append(
            self.daemon.json("POST", self.path + "/train", {**SHORT, "corpus": {"path": path}})))
        starting.start()
        wait_until(lambda: self.daemon.json("GET", self.path + "/train")[1].get("state") == "starting")
        tasks = f"/proc/{self.daemon.process.pid}/task"

        def reads_idly():
            return any(os.sched_getscheduler(int(task)) == os.SCHED_IDLE for task in os.listdir(tasks))
        wait_until(lambda: answers or reads_idly())
        self.assertEqual(answers, [])
        self.assertEqual(self.stop()["state"], "stopped")
        starting.join()
        os.unlink(path)
        self.assertEqual((answers[0][0], answers[0][1]["error"]["code"]), (409, "stopped"))
        self.assertFalse(os.path.exists(os.path.join(self.models, self.name, ".training")))
        self.expect(404, "GET", self.path + "/train", error="no_training")

    def test_elsewhere(self):
        for path in (self.root + "-private/text", self.root + "/../texts-private/text", self.root + "/link",
                     self.root + "/missing", "text", "/etc/passwd"):
            self.train(400, "corpus_path", corpus={"path": path})


class Words(Training):
    """A model whose symbols are words, from its first training to its text."""
    TEXT = " the whale is white \n" * 40 + " the man sees the whale \n" * 60

    def setUp(self):
        super().setUp()
        self.expect(200, "DELETE", self.path)
        self.expect(201, "PUT", self.path, {"language_model": {
            "layers": 1, "units": 16, "embedding": 8, "vocabulary": {"kind": "words", "min_count": 41}}})
        self.train(corpus={"text": self.TEXT}, batch=4, sequence_length=8, max_steps=150,
                   optimizer={"name": "adam", "learning_rate": 0.02})
        self.assertEqual(self.events()[-1]["event"], "done")
        self.expect(200, "POST", self.path + "/load")

    def complete(self, **fields):
        body = {"model": self.name, "prompt": "the man\nsees  the", "max_tokens": 30, "seed": 5, **fields}
        return self.expect(200, "POST", "/v1/completions", body)["choices"][0]

    def test_text_prompts_stops_and_logprobs(self):
        described = self.expect(200, "GET", self.path)
        self.assertEqual(described["architecture"]["vocabulary"], {"kind": "words", "size": 6})
        with open(os.path.join(self.models, self.name, "1", "vocab.json"), encoding="utf-8") as file:
            self.assertEqual(json.load(file)["symbols"], ["the", "<eos>", "whale", "<unk>", "man", "sees"])
        choice = self.complete(logprobs=2)
        text = choice["text"]
        self.assertTrue(text.startswith(" ") or text.startswith("\n"), text)
        for line in text.split("\n")[1:]:
            self.assertEqual(line, " ".join(line.split()))
        self.assertLessEqual(set(text.split()), {"the", "whale", "<unk>", "man", "sees"})
        self.assertEqual("".join(choice["logprobs"]["tokens"]), text)
        self.assertEqual(len(choice["logprobs"]["tokens"]), 30)
        status, _, content = self.daemon.request("POST", "/v1/completions", json.dumps(
            {"model": self.name, "prompt": "the man\nsees  the", "max_tokens": 30, "seed": 5, "stream": True}))
        events = [json.loads(line[6:]) for line in content.decode().split("\n")
                  if line.startswith("data: {")]
        self.assertEqual((status, "".join(event["choices"][0]["text"] for event in events)), (200, text))
        stopped = self.complete(stop=["\n"])
        self.assertEqual(stopped["text"], text.split("\n")[0])
        two = " ".join(text.split(" ")[3:5])
        self.assertEqual(self.complete(stop=[two])["text"], text[:text.index(two)])
        self.assertEqual(self.complete(echo=True)["text"].split(), ["the", "man", "sees", "the", *text.split()])
        self.complete(prompt="the harpooner")           # "<unk>" stands for it
        self.assertNotEqual(self.complete(prompt="harpooner the", unknown_symbols="skip")["text"], "")

    def test_limits_are_checked(self):
        for vocabulary, where in (({"kind": "words", "min_count": 0}, "min_count"),
                                  ({"kind": "words", "max_size": 1}, "max_size"),
                                  ({"kind": "characters", "max_size": 10}, "only a vocabulary of words"),
                                  ({"kind": "letters"}, "kind"), ({"kind": "words", "size": 1}, "no keys but")):
            status, reply = self.daemon.json("PUT", "/v1/models/no", {"language_model": {"vocabulary": vocabulary}})
            self.assertEqual(status, 400, reply)
            self.assertIn(where, reply["error"]["message"])
            self.assertIn("/vocabulary/", reply["error"]["param"])


class From(Training):
    NEW = CORPUS.replace("the", "thé")

    def vocabulary(self, name):
        return self.expect(200, "GET", "/v1/models/" + name)["architecture"]["vocabulary"]["size"]

    def test_where_it_begins(self):
        self.train()
        self.assertEqual(self.events()[-1]["version"], 1)
        self.expect(200, "POST", self.path + "/load")
        size = self.vocabulary(self.name)
        error = self.train(400, "unknown_symbol", corpus={"text": self.NEW})["error"]
        self.assertIn('the text: line 1: the model does not know the character U+00E9', error["message"])
        self.assertIn("extend", error["hint"])
        self.train(400, vocabulary_policy="more")
        for wrong in ("nobody", "nobody@1", self.name + "@9", "../" + self.name, self.name + "@x"):
            status, reply = self.daemon.json("POST", self.path + "/train",
                                             {"corpus": {"text": CORPUS}, **SHORT, "from": wrong})
            self.assertIn(status, (400, 404), reply)
            self.assertEqual(reply["error"]["param"], "/from")
        generation = self.expect(200, "GET", self.path + "/graph")["generation"]
        self.train(corpus={"text": self.NEW}, vocabulary_policy="extend")
        self.assertEqual(self.events()[-1]["version"], 2)
        self.assertEqual(self.expect(200, "GET", self.path + "/graph")["generation"], generation + 1)
        self.expect(200, "POST", self.path + "/load")
        self.assertEqual(self.vocabulary(self.name), size + 1)
        self.expect(201, "PUT", self.path + "b", {})
        try:
            body = {"corpus": {"text": CORPUS}, **SHORT, "from": self.name + "@1", "vocabulary_policy": "bytes"}
            self.expect(202, "POST", self.path + "b/train", body)
            wait_until(lambda: self.expect(200, "GET", self.path + "b/train")["state"] == "done")
            self.expect(200, "POST", self.path + "b/load")
            self.assertEqual(self.vocabulary(self.name + "b"), 256)
        finally:
            self.expect(200, "DELETE", self.path + "b?force=true")
        self.train(**{"from": "scratch"}, max_steps=1, optimizer={"name": "sgd", "learning_rate": 1e-30})
        self.assertEqual(self.events()[-1]["version"], 3)
        self.train(**{"from": self.name}, max_steps=1, optimizer={"name": "sgd", "learning_rate": 1e-30})
        losses = [event["train_loss"] for event in self.events() if event["event"] == "done"]
        self.assertGreater(losses[-1], 0)


class Killed(Training):
    """A daemon that is killed while it trains: another one goes on to the very weights."""
    STEPS = {**ENDLESS, "checkpoint_seconds": 0.001, "evaluate_every_steps": 5, "dropout": 0.2}

    def weights(self, path):
        version = self.events()[-1]["version"]
        with open(os.path.join(self.models, path, str(version), "weights.safetensors"), "rb") as file:
            return file.read()

    def check(self, model, **fields):
        """A job on a model made so, of another model's version: killed, resumed, and the same not killed."""
        self.expect(201, "PUT", self.path + "-killed", model)
        self.expect(201, "PUT", self.path + "-whole", model)
        whole, self.path = self.path + "-whole", self.path + "-killed"
        self.train(**{**self.STEPS, **fields})
        wait_until(lambda: self.expect(200, "GET", self.path + "/train").get("step", 0) > 12)
        self.daemon.kill()
        type(self).daemon = Daemon(self.models)
        stands = self.expect(200, "GET", self.path + "/train")
        self.assertEqual((stands["state"], stands["model"], stands["version"]),
                         ("interrupted", os.path.basename(self.path), None))
        self.assertEqual((stands["options"]["batch"], stands["history"][0]["step"]), (4, 5))
        self.assertGreater(min(stands[field] for field in ("epoch", "train_loss", "validation_loss")), 0)
        self.expect(404, "GET", self.path + "/train/events", error="no_training")
        steps = {"max_steps": stands["step"] + 15}
        self.expect(202, "POST", self.path + "/train", {"corpus": {"text": CORPUS}, "resume": True, **steps})
        resumed = self.weights(os.path.basename(self.path))
        self.path = whole
        self.train(**{**self.STEPS, **fields, **steps, "checkpoint_seconds": 60})
        self.assertEqual(resumed, self.weights(os.path.basename(whole)))

    def begin(self, **language_model):
        self.expect(201, "PUT", self.path + "-first", {"language_model": {"layers": 1, "units": 8, **language_model}})
        self.expect(202, "POST", self.path + "-first/train", {"corpus": {"text": CORPUS}, **SHORT})
        wait_until(lambda: self.expect(200, "GET", self.path + "-first/train")["state"] == "done")
        return {"from": self.name + "-first@1"}

    def test_from_another_model_into_an_empty_one(self):
        self.check({}, **self.begin(cell="gru", embedding=5))

    def test_from_another_model_into_one_of_another_kind(self):
        self.check({"language_model": {"layers": 2, "units": 9}}, **self.begin(units=7))

    def test_from_another_model_into_one_of_the_same_sizes(self):
        self.check({"language_model": {"layers": 1, "units": 8, "forget_bias": 0.25}},
                   **self.begin(variational_dropout=True))

    def test_its_own(self):
        self.check(SMALL)


class Unseen(Training):
    """Words that only the validation text has are "<unk>", which is said; a vocabulary that is there refuses them."""
    TEXT = {"text": "the whale is white \n" * 40}
    OTHER = {"text": "the whale wept \n" * 20}

    def setUp(self):
        super().setUp()
        self.expect(200, "DELETE", self.path)
        self.expect(201, "PUT", self.path, {"language_model": {
            "layers": 1, "units": 4, "embedding": 4, "vocabulary": {"kind": "words"}}})

    def check_new(self, **fields):
        self.train(corpus=self.TEXT, validation=self.OTHER, sequence_length=4, **fields)
        event = self.events()[0]
        self.assertEqual((event["event"], event["unknown_words"], event["unseen_words"], event["trains_unknown"]),
                         ("corpus", 1, 1, False))
        self.assertEqual(event["vocabulary"]["size"], 6)

    def test_a_new_model(self):
        self.check_new()

    def test_a_new_model_with_a_policy(self):
        self.check_new(vocabulary_policy="extend")

    def test_a_model_with_a_vocabulary(self):
        self.train(corpus=self.TEXT, sequence_length=4)
        self.events()
        error = self.train(400, "unknown_symbol", corpus=self.TEXT, validation=self.OTHER, sequence_length=4)["error"]
        self.assertEqual(error["hint"], 'vocabulary_policy "extend" takes it in')
        self.check_new(vocabulary_policy="extend")


class Shutdown(Training):
    def test_an_extended_model_resumes_after_a_restart(self):
        self.train()
        self.events()
        text = {"text": CORPUS + "Zoë\n" * 50}
        self.train(**{**ENDLESS, "corpus": text, "from": self.name + "@1", "vocabulary_policy": "extend"})
        wait_until(lambda: self.expect(200, "GET", self.path + "/train").get("step", 0) > 0)
        self.assertEqual(self.daemon.stop(), 0)
        type(self).daemon = Daemon(self.models)
        self.train(400, corpus=text, resume=True, vocabulary_policy="extend", max_steps=1 << 40)
        self.expect(202, "POST", self.path + "/train", {"corpus": text, "resume": True, "max_seconds": 0.001})
        self.assertEqual(self.events()[-1]["version"], 2)
        self.expect(200, "POST", self.path + "/load")
        with open(os.path.join(self.models, self.name, "2", "vocab.json"), encoding="utf-8") as file:
            self.assertIn("ë", json.load(file)["symbols"])

    def test_stops_and_resumes_after_a_restart(self):
        self.train(**ENDLESS)
        wait_until(lambda: self.expect(200, "GET", self.path + "/train").get("step", 0) > 0)
        self.assertEqual(self.daemon.stop(), 0)
        self.assertTrue(os.path.exists(os.path.join(self.models, self.name, ".training", "manifest.json")))
        type(self).daemon = Daemon(self.models)
        body = {"corpus": {"text": CORPUS}, "resume": True, "max_seconds": 0.001}
        self.expect(202, "POST", self.path + "/train", body)
        self.assertEqual(self.events()[-1]["version"], 1)


if __name__ == "__main__":
    unittest.main()
