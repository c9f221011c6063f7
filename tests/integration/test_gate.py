"""The setting "gate": a version that predicts a text worse than the one before it does not serve, restarts included."""
import json
import os
import re
import shutil

from harness import CORPUS, DaemonTest, train, wait_until

SHORT = True

STEPS = {"worst": 1, "middling": 15, "best": 80}
TEXT = CORPUS[:300]


class Gate(DaemonTest):
    def setUp(self):
        self.name = self.id().rpartition(".")[2]
        self.directory = os.path.join(self.models, self.name)

    def publish(self, quality, number):
        """Puts a model trained that long in place as a version, all of it at once."""
        source = os.path.join(self.folder, quality)
        if not os.path.isdir(source):
            train(source, max_steps=STEPS[quality])
        os.makedirs(self.directory, exist_ok=True)
        partial = os.path.join(self.folder, "partial")
        shutil.copytree(os.path.join(source, "1"), partial)
        os.rename(partial, os.path.join(self.directory, str(number)))

    def load(self):
        return self.daemon.json("POST", f"/v1/models/{self.name}/load")

    def entry(self):
        return self.expect(200, "GET", f"/v1/models/{self.name}")

    def reason(self, number):
        return next(one["reason"] for one in self.entry()["versions"] if one["version"] == number)

    def set_gate(self, margin=0.02, **gate):
        gate = {"text": TEXT, "margin_nats": margin, **gate}
        reply = self.expect(200, "PATCH", f"/v1/models/{self.name}/settings", {"gate": gate})
        self.assertEqual(reply["gate"], gate)

    def begin(self, quality="middling"):
        self.publish(quality, 1)
        self.assertEqual(self.load()[0], 200)
        self.set_gate()

    def restart(self):
        self.stop_daemon()
        type(self).daemon = self.start()
        wait_until(lambda: self.entry()["status"] == "serving", self.daemon.text)

    def kept(self):
        with open(os.path.join(self.directory, "gate.json"), encoding="utf-8") as file:
            versions = json.load(file)["versions"].values()
        return {one["version"]: one["refused"] is None for one in versions}

    def test_a_worse_version_is_kept_out(self):
        self.begin()
        score = self.expect(200, "POST", f"/v1/models/{self.name}/score", {"text": TEXT})["nats_per_symbol"]
        self.publish("worst", 2)
        status, reply = self.load()
        self.assertEqual((status, reply["error"]["code"]), (422, "version_refused"), reply)
        reason = self.reason(2)
        losses = [float(number) for number in re.findall(r"\d+\.\d{4}", reason["message"])]
        self.assertEqual(reason["code"], "gate")
        self.assertGreater(losses[0], losses[1] + losses[2])
        self.assertAlmostEqual(losses[1], score * (len(TEXT) - 1) / len(TEXT), delta=0.0002)
        self.assertEqual(losses[2], 0.02)
        self.assertEqual(self.entry()["version"], 1)
        self.publish("best", 3)
        self.assertEqual(self.load()[1]["model"], self.name + "@3")
        self.publish("middling", 4)
        self.assertEqual(self.load()[0], 422)
        self.assertEqual(self.entry()["version"], 3)
        self.assertEqual(self.kept(), {2: False, 3: True, 4: False})

    def test_what_was_kept_out_stays_out_after_a_restart(self):
        self.begin()
        self.publish("worst", 2)
        self.assertEqual(self.load()[0], 422)
        message = self.reason(2)["message"]
        self.restart()
        self.assertEqual(self.entry()["version"], 1)
        self.assertEqual(self.reason(2)["message"], message)

    def test_what_came_while_nothing_served_is_compared_too(self):
        self.begin("best")
        self.stop_daemon()
        self.publish("worst", 2)
        self.publish("middling", 3)
        type(self).daemon = self.start()
        wait_until(lambda: self.entry()["status"] == "serving", self.daemon.text)
        self.assertEqual(self.entry()["version"], 1)
        for number in (2, 3):
            self.assertIn("version 1 with", self.reason(number)["message"])

    def test_another_gate_is_another_chance(self):
        self.begin()
        self.publish("worst", 2)
        self.assertEqual(self.load()[0], 422)
        self.set_gate(margin=50)
        self.assertEqual(self.load()[1]["model"], self.name + "@2")
        self.assertEqual(self.kept(), {2: True})

    def test_without_a_gate_all_pass(self):
        self.begin()
        self.publish("worst", 2)
        self.assertEqual(self.load()[0], 422)
        reply = self.expect(200, "PATCH", f"/v1/models/{self.name}/settings", {"gate": None})
        self.assertNotIn("gate", reply)
        self.assertEqual(self.load()[1]["model"], self.name + "@2")

    def test_people_may_choose_what_was_kept_out(self):
        """The errors say how, and the label current alone does it."""
        self.begin()
        self.publish("worst", 2)
        hint = self.load()[1]["error"]["hint"]
        self.assertIn(f'/v1/models/{self.name}/labels/current with {{"version":2}}', hint)
        asked = {"model": self.name + "@2", "prompt": "a", "max_tokens": 1}
        self.assertEqual(self.expect(422, "POST", "/v1/completions", asked)["error"]["hint"], hint)
        self.expect(201, "PUT", f"/v1/models/{self.name}/labels/other", {"version": 2})
        self.assertEqual(self.entry()["version"], 1)
        self.expect(201, "PUT", f"/v1/models/{self.name}/labels/current", {"version": 2})
        self.assertEqual(self.entry()["version"], 2)
        self.expect(200, "POST", "/v1/completions", asked)

    def test_versions_that_are_gone_are_forgotten(self):
        self.begin()
        for number in (2, 3):
            self.publish("worst", number)
            self.assertEqual(self.load()[0], 422)
            shutil.rmtree(os.path.join(self.directory, str(number)))
        self.publish("best", 4)
        self.assertEqual(self.load()[1]["model"], self.name + "@4")
        self.assertEqual(self.kept(), {4: True})

    def test_a_damaged_file_is_as_none(self):
        self.begin()
        for content in ("", "{", "[]", '{"versions": 3}', "\0" * 2000000):
            with open(os.path.join(self.directory, "gate.json"), "w", encoding="utf-8") as file:
                file.write(content)
            self.publish("worst", 2)
            self.assertEqual(self.load()[0], 422)
            shutil.rmtree(os.path.join(self.directory, "2"))
            self.assertEqual(self.load()[0], 200)

    def test_settings_that_are_wrong(self):
        self.begin()
        long = "a" * 16385
        for gate in ({}, [], "text", {"text": ""}, {"text": "a"}, {"text": long}, {"text": 3}, {"margin_nats": 1},
                     {"text": TEXT, "margin_nats": -1}, {"text": TEXT, "margin_nats": "1"},
                     {"text": TEXT, "margin": 1}):
            reply = self.expect(400, "PATCH", f"/v1/models/{self.name}/settings", {"gate": gate})
            self.assertEqual(reply["error"]["param"], "/gate")
        reply = self.expect(400, "PATCH", f"/v1/models/{self.name}/settings", {"gate": {"text": "a \U0001f40b"}})
        self.assertEqual(reply["error"]["param"], "/gate/text")
        self.assertIn("U+1F40B", reply["error"]["message"])
        self.set_gate()
