"""When a training makes versions (`publish`), of what, and how they are told of."""
import os
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import CORPUS, wait_until  # noqa: E402
from test_train import ENDLESS, Training  # noqa: E402


class Versions(Training):
    def test_never_publishes(self):
        self.train(publish="never")
        self.assertNotIn("published", [event["event"] for event in self.events()])
        self.assertEqual(self.expect(200, "GET", self.path)["versions"], [])
        self.assertTrue(self.expect(200, "GET", self.path + "/graph")["unsaved"])

    def test_checkpoints_publish(self):
        self.train(publish="checkpoints", checkpoint_seconds=1e-9, max_steps=6)  # at every step, however fast
        events = self.events()
        published = [event for event in events if event["event"] == "published"]
        versions = [event["version"] for event in published]
        self.assertEqual(versions, sorted(set(versions)))
        self.assertEqual(sorted({event["step"] for event in published}), [1, 2, 3, 4, 5, 6])
        last = [event for event in events if event["event"] == "checkpoint"][-1]
        is_best = last["validation_loss"] == last["best_validation_loss"]
        at_the_end = [event for event in published if event["step"] == last["step"]]
        self.assertEqual(len(at_the_end), 1 if is_best else 2)      # the same weights no second time
        self.assertFalse(self.expect(200, "GET", self.path + "/graph")["unsaved"])
        self.assertIn("int8", self.expect(200, "GET", self.path)["evaluation"]["precisions"])

    def test_best_publishes_what_is_better(self):
        self.train(publish="best", max_steps=60)
        self.assertEqual(self.events()[-1]["version"], 1)
        self.expect(200, "POST", self.path + "/load")  # what the next one has to beat serves by now
        self.train(publish="best", max_steps=1, optimizer={"name": "sgd", "learning_rate": 100})
        self.assertNotIn("published", [event["event"] for event in self.events()])
        bad = {"max_steps": 1, "optimizer": {"name": "sgd", "learning_rate": 1e-30}, "from": "scratch"}
        self.train(publish="best", **bad, corpus={"text": CORPUS + "of the world\n"})
        self.assertNotIn("published", [event["event"] for event in self.events()])

    def test_best_compares_on_the_same_validation_text(self):
        """Whatever was trained on, and in whatever symbols: by the character."""
        validation = {"text": CORPUS[:3000]}
        self.train(publish="best", max_steps=60, validation=validation)
        self.assertEqual(self.events()[-1]["version"], 1)
        self.expect(200, "POST", self.path + "/load")
        bad = {"max_steps": 1, "optimizer": {"name": "sgd", "learning_rate": 1e-30}, "from": "scratch"}
        self.train(publish="best", corpus={"text": CORPUS[400:9000]}, validation=validation, **bad)
        self.assertNotIn("published", [event["event"] for event in self.events()])
        self.train(publish="best", corpus={"text": CORPUS[400:9000] + "Zoë\n" * 50}, validation={"text": "Zoë\n" * 9},
                   vocabulary_policy="extend", **bad)
        events = self.events()
        self.assertIn("does not know the character U+005A", [event["message"] for event in events
                                                            if event["event"] == "warning"][0])
        self.assertEqual(events[-1]["version"], 2)

    def test_best_of_bytes_and_characters(self):
        """Of two bytes that are a character the first is soon known: a byte costs less, and a character more."""
        text = "".join(chr(0x400 + ord(letter) % 64) for letter in CORPUS)
        self.train(corpus={"text": text}, publish="best", max_steps=60)
        best = self.events()[-1]["best_validation_loss"]
        self.expect(200, "POST", self.path + "/load")
        self.train(corpus={"text": text}, publish="best", max_steps=40, vocabulary_policy="bytes",
                   optimizer={"learning_rate": 0.02}, **{"from": "scratch"})
        events = self.events()
        self.assertLess(events[-1]["best_validation_loss"], best)
        self.assertGreater(2 * events[-1]["best_validation_loss"], best)
        self.assertNotIn("published", [event["event"] for event in events])

    def test_where_it_stands_after_it_published(self):
        self.train(**{**ENDLESS, "publish": "checkpoints", "checkpoint_seconds": 0.001})

        def has_published():
            reply = self.expect(200, "GET", self.path + "/train")
            is_published = reply["history"][-1:] and reply["history"][-1]["event"] == "published"
            if is_published:
                self.assertGreater(reply["step"], 0)
                self.assertGreater(reply["train_loss"], 0)
                self.assertGreater(reply["version"], 0)
            return is_published
        wait_until(has_published)
        self.stop()

    def test_resume_publishes_as_it_began(self):
        """What the request does not say is the checkpoint's."""
        self.train(**ENDLESS, publish="never")
        wait_until(lambda: self.expect(200, "GET", self.path + "/train").get("step", 0) > 0)
        body = {"corpus": {"text": CORPUS}, "resume": True, "max_steps": self.stop()["step"] + 5}
        self.assertEqual(self.expect(202, "POST", self.path + "/train", body)["options"]["publish"], "never")
        self.assertNotIn("published", [event["event"] for event in self.events()])
        self.assertEqual(self.expect(200, "GET", self.path)["versions"], [])

    def test_best_needs_text_that_is_held_back(self):
        self.assertEqual(self.train(400, publish="best", validation_fraction=0)["error"]["param"], "publish")


class Published(Training):
    def test_the_graph_that_was_published_stays(self):
        """Until the version that was saved from it serves, the older one that still does is nothing to go back to."""
        self.train()
        self.events()
        self.expect(200, "POST", self.path + "/load")
        large = self.path + "-large"
        self.expect(201, "PUT", large, {"language_model": {"layers": 2, "units": 512,
                                                                "vocabulary": "bytes"}})
        self.expect(200, "POST", large + "/save")
        seen, is_over = [], threading.Event()

        def look():
            while not is_over.is_set():
                seen.append(self.expect(200, "GET", self.path + "/graph")["generation"])

        def keep_the_loader_busy():
            while not is_over.is_set():
                self.expect(200, "POST", large + "/unload")
                self.expect(200, "POST", large + "/load")
        threads = [threading.Thread(target=target) for target in (look, keep_the_loader_busy)]
        for thread in threads:
            thread.start()
        for _ in range(10):
            self.train()
            self.events()
        is_over.set()
        for thread in threads:
            thread.join()
        self.assertEqual(set(seen), {seen[0]})


if __name__ == "__main__":
    unittest.main()
