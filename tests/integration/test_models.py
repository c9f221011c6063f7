"""/v1/models: made, looked at, saved, restored, loaded, labelled, set and deleted; and every refusal."""
import concurrent.futures
import json
import os
import re
import shutil
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import FLAVOUR, Daemon, DaemonTest, train, wait_until  # noqa: E402

SMALL = {"language_model": {"layers": 1, "units": 8, "vocabulary": "bytes"}}


class Models(DaemonTest):
    def make(self, name, versions=0):
        self.expect(201, "PUT", f"/v1/models/{name}", SMALL)
        for number in range(versions):
            reply = self.expect(200, "POST", f"/v1/models/{name}/save")
            self.assertEqual(reply, {"version": number + 1, "model": f"{name}@{number + 1}"})

    def current(self, name):
        entries = self.expect(200, "GET", "/v1/models")["data"]
        return next((entry.get("version") for entry in entries if entry["id"] == name), None)

    def test_load_finds_what_was_just_copied(self):
        """A load right after a copy needs no watcher to have seen it first."""
        train(os.path.join(self.models, "copied"))
        status, reply = self.daemon.json("POST", "/v1/models/copied/load")
        self.assertEqual((status, reply.get("model")), (200, "copied@1"), reply)
        status, reply = self.daemon.json("POST", "/v1/models/never-copied/load")
        self.assertEqual((status, reply["error"]["code"]), (404, "model_not_found"))

    def test_reload_has_seen_what_was_copied(self):
        names = [f"copied-{number}" for number in range(20)]
        for name in names:
            train(os.path.join(self.models, name))
        self.assertEqual(self.expect(200, "POST", "/v1/reload"), {"reloaded": True})
        status = {entry["id"]: entry["status"] for entry in self.expect(200, "GET", "/v1/models")["data"]}
        self.assertEqual({name: status.get(name) for name in names}, {name: "serving" for name in names})

    def test_put_again_is_nothing_new(self):
        self.make("again")
        self.expect(200, "PUT", "/v1/models/again", SMALL)
        other = {"language_model": {"layers": 1, "units": 9, "vocabulary": "bytes"}}
        self.expect(409, "PUT", "/v1/models/again", other, error="model_exists")
        self.expect(409, "PUT", "/v1/models/again", {}, error="model_exists")

    def test_puts_at_once_make_one_model(self):
        """Sent before any scan has seen the first: one makes it, the same again is nothing new, another is refused."""
        other = {"language_model": {"layers": 1, "units": 9, "vocabulary": "bytes"}}
        for attempt in range(5):
            with concurrent.futures.ThreadPoolExecutor(6) as pool:
                replies = list(pool.map(lambda body: self.daemon.json("PUT", f"/v1/models/at-once-{attempt}", body),
                                        [SMALL, SMALL, SMALL, other, other, other]))
            made = [reply["definition"] for code, reply in replies if code == 201]
            self.assertEqual(len(made), 1, replies)
            self.assertEqual(sorted(code for code, _ in replies), [200, 200, 201, 409, 409, 409], replies)
            self.assertEqual(self.expect(200, "GET", f"/v1/models/at-once-{attempt}")["definition"], made[0])

    def test_a_removed_directory_stays_away(self):
        for method, path, body in (("PATCH", "/settings", {"start": "x"}), ("PUT", "/labels/stable", {"version": 1})):
            self.make("removed", versions=1)
            directory = os.path.join(self.models, "removed")
            shutil.rmtree(directory)
            self.expect(404, method, "/v1/models/removed" + path, body)
            self.assertFalse(os.path.exists(directory))
            wait_until(lambda: self.daemon.json("GET", "/v1/models/removed")[0] == 404)

    def test_put_empty(self):
        self.expect(201, "PUT", "/v1/models/empty", {})
        self.assertEqual(self.expect(200, "GET", "/v1/models/empty/graph")["node_count"], 0)
        self.expect(422, "POST", "/v1/models/empty/save")

    def test_put_refusals(self):
        self.expect(400, "PUT", "/v1/models/.hidden", {}, error="invalid_name")
        self.expect(400, "PUT", "/v1/models/bad", "{", error="bad_json")
        self.expect(400, "PUT", "/v1/models/bad", {"languagemodel": {}}, error="unknown_field")
        self.expect(400, "PUT", "/v1/models/bad", {"import": {"path": "/x"}, "language_model": {}})
        self.expect(400, "PUT", "/v1/models/bad", {"language_model": 3})
        error = self.expect(400, "PUT", "/v1/models/bad", {"language_model": {"units": "many"}})["error"]
        self.assertEqual(error["param"], "/language_model/units")
        self.assertTrue(error["message"].startswith("/language_model/units: must be"), error["message"])
        self.expect(400, "PUT", "/v1/models/bad", {"language_model": {"wings": 2}})
        self.expect(400, "PUT", "/v1/models/bad", {"language_model": {
            "vocabulary": {"kind": "characters", "corpus": {"text": "abc"}}}}, error="unsupported")
        self.expect(404, "GET", "/v1/models/bad", error="model_not_found")

    def test_unknown_model(self):
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/save"), ("POST", "/restore"), ("POST", "/load"),
                             ("POST", "/unload"), ("GET", "/labels"), ("GET", "/settings"), ("PATCH", "/settings"),
                             ("DELETE", "/labels/x"), ("GET", "/graph"), ("POST", "/graph/reset")):
            self.expect(404, method, "/v1/models/nobody" + path, error="model_not_found")

    def test_save_serves_and_is_described(self):
        self.make("saved", versions=2)
        reply = self.expect(200, "GET", "/v1/models/saved")
        self.assertEqual([entry["version"] for entry in reply["versions"]], [2, 1])
        self.assertEqual(reply["versions"][0]["status"], "serving")
        self.assertEqual(self.current("saved"), 2)
        self.expect(400, "POST", "/v1/models/saved/save", {"name": "x"}, error="unknown_field")
        graph = self.expect(200, "GET", "/v1/models/saved/graph")
        self.assertEqual((graph["generation"], graph["base_version"], graph["unsaved"]), (1, 2, False))

    def test_restore(self):
        self.make("restored", versions=1)
        before = self.expect(200, "GET", "/v1/models/restored/variables/softmax/w")
        self.expect(200, "POST", "/v1/models/restored/graph/run", {"targets": ["softmax/b/Assign", "softmax/w/Assign"]})
        self.assertNotEqual(self.expect(200, "GET", "/v1/models/restored/variables/softmax/w"), before)
        self.expect(200, "POST", "/v1/models/restored/restore", {"version": 1})
        self.assertEqual(self.expect(200, "GET", "/v1/models/restored/variables/softmax/w"), before)
        self.expect(404, "POST", "/v1/models/restored/restore", {"version": 9}, error="version_not_found")
        self.expect(400, "POST", "/v1/models/restored/restore", {"version": "1"})
        self.expect(400, "POST", "/v1/models/restored/restore", {"names": ["a"]})
        self.expect(400, "POST", "/v1/models/restored/restore", {"names": {"a": 1}})

    def test_restore_without_version(self):
        self.make("unrestored")
        self.expect(422, "POST", "/v1/models/unrestored/restore", error="no_version")

    def test_load_and_unload(self):
        self.make("loaded", versions=2)
        self.assertTrue(self.expect(200, "POST", "/v1/models/loaded/unload")["unloaded"])
        body = {"model": "loaded", "prompt": "a"}
        status, headers, content = self.daemon.request("POST", "/v1/completions", body)
        error = json.loads(content)["error"]
        self.assertEqual((status, error["code"]), (503, "model_unloaded"))
        self.assertEqual(headers["Retry-After"], str(error["retry_after_seconds"]))
        self.assertEqual(self.expect(200, "POST", "/v1/models/loaded/load")["model"], "loaded@2")
        self.expect(200, "POST", "/v1/models/loaded/load", {"version": 1})
        self.expect(400, "POST", "/v1/models/loaded/load", {"version": 0})
        self.expect(400, "POST", "/v1/models/loaded/load", {"versions": 1}, error="unknown_field")
        self.expect(400, "POST", "/v1/models/loaded/unload", {"now": True}, error="unknown_field")
        self.expect(413, "POST", "/v1/models/loaded/load", " " * 70000 + "{}")

    def test_load_refused_version(self):
        self.make("refused", versions=1)
        folder = os.path.join(self.models, "refused")
        shutil.copytree(os.path.join(folder, "1"), os.path.join(folder, ".copy"))
        with open(os.path.join(folder, ".copy", "weights.safetensors"), "r+b") as file:
            file.truncate(100)
        os.rename(os.path.join(folder, ".copy"), os.path.join(folder, "2"))
        self.expect(422, "POST", "/v1/models/refused/load", error="version_refused")
        self.assertEqual(self.current("refused"), 1)

    def test_load_version_that_is_gone(self):
        self.make("vanished", versions=2)
        self.expect(200, "POST", "/v1/models/vanished/load", {"version": 1})
        shutil.rmtree(os.path.join(self.models, "vanished", "1"))
        shutil.rmtree(os.path.join(self.models, "vanished", "2"))
        for _ in range(2):
            reply = self.expect(404, "POST", "/v1/models/vanished/load", {"version": 1}, error="version_not_found")
            self.assertEqual(reply["error"]["message"], "model vanished has no version 1")
        for body in ({"version": 2}, {}):
            reply = self.expect(422, "POST", "/v1/models/vanished/load", body, error="version_gone")
            self.assertIn("version 2 of vanished", reply["error"]["message"])
        self.expect(422, "POST", "/v1/models/vanished/restore", {"version": 2}, error="version_gone")
        self.expect(200, "POST", "/v1/completions", {"model": "vanished", "prompt": "I ", "max_tokens": 1})
        reply = self.expect(404, "POST", "/v1/models/vanished/load", {"version": 9}, error="version_not_found")
        self.assertIn("version 9", reply["error"]["message"])

    def test_graph_of_a_version_that_is_gone(self):
        """The reply says so, and not where on the server it was."""
        self.make("found", versions=1)
        shutil.copytree(os.path.join(self.models, "found"), os.path.join(self.models, "lost"))
        self.expect(200, "POST", "/v1/models/lost/load")        # what nobody has asked for the graph of
        shutil.rmtree(os.path.join(self.models, "lost", "1"))
        reply = self.expect(422, "GET", "/v1/models/lost/graph", error="version_gone")
        self.assertEqual(reply["error"]["message"], "the files of version 1 of lost are gone")
        _, reply = self.daemon.json("GET", "/v2/models/lost")
        self.assertEqual(reply["error"], "the files of version 1 of lost are gone")

    def test_labels(self):
        self.make("labelled", versions=2)
        self.expect(201, "PUT", "/v1/models/labelled/labels/stable", {"version": 1})
        self.expect(200, "PUT", "/v1/models/labelled/labels/stable", {"split": {"1": 90, "2": 10}})
        self.assertEqual(self.expect(200, "GET", "/v1/models/labelled/labels"),
                         {"labels": {"stable": {"split": {"1": 90, "2": 10}}}})
        split = {"id": "labelled:stable", "object": "model", "created": 0, "owned_by": "lstmd", "status": "serving",
                 "split": {"1": 90, "2": 10}}
        self.assertEqual(self.expect(200, "GET", "/v1/models/labelled:stable"), split)
        self.expect(201, "PUT", "/v1/models/labelled/labels/old", {"version": 1})
        listed = {entry["id"]: entry for entry in self.expect(200, "GET", "/v1/models")["data"]}
        self.assertEqual(listed["labelled:stable"], split)
        old = listed["labelled:old"]
        self.assertEqual((old["object"], old["version"], listed["labelled"]["version"]), ("model", 1, 2))
        wait_until(lambda: "bytes" in self.expect(200, "GET", "/v1/models/labelled:old"), "labelled:old is not loaded")
        old = self.expect(200, "GET", "/v1/models/labelled:old")
        self.assertEqual((old["status"], old["version"]), ("serving", 1))
        self.assertEqual(self.expect(200, "GET", "/v1/models/labelled@1"), {**old, "id": "labelled@1"})
        self.assertEqual(self.expect(200, "GET", "/v1/models/labelled:current")["version"], 2)
        self.expect(404, "GET", "/v1/models/labelled:new", error="label_not_found")
        self.expect(404, "GET", "/v1/models/labelled@9", error="version_not_found")
        self.expect(404, "GET", "/v1/models/labelled@x", error="model_not_found")
        self.expect(200, "DELETE", "/v1/models/labelled/labels/old")
        self.expect(200, "DELETE", "/v1/models/labelled/labels/stable")
        self.expect(404, "DELETE", "/v1/models/labelled/labels/stable", error="label_not_found")
        self.expect(404, "PUT", "/v1/models/labelled/labels/old", {"version": 7}, error="version_not_found")
        for label, body in (("predict", {"version": 1}), ("x", {}), ("x", {"version": "1"}), ("x", {"to": 1}),
                            ("x", {"split": {"1": 50, "2": 40}}), ("x", {"split": {"1": 100}, "version": 1})):
            self.expect(400, "PUT", f"/v1/models/labelled/labels/{label}", body)

    def test_rollback(self):
        self.make("pinned", versions=2)
        self.expect(201, "PUT", "/v1/models/pinned/labels/current", {"version": 1})
        self.expect(200, "POST", "/v1/models/pinned/load")
        self.assertEqual(self.current("pinned"), 1)
        self.expect(200, "DELETE", "/v1/models/pinned/labels/current")
        self.expect(200, "POST", "/v1/models/pinned/load")
        self.assertEqual(self.current("pinned"), 2)

    def test_settings(self):
        self.make("set")
        reply = self.expect(200, "PATCH", "/v1/models/set/settings", {"start": "Call", "versions_kept": 3})
        self.assertEqual((reply["start"], reply["versions_kept"]), ("Call", 3))
        self.expect(200, "PATCH", "/v1/models/set/settings", {"start": None})
        self.assertEqual(self.expect(200, "GET", "/v1/models/set/settings")["start"], "")
        reply = self.expect(400, "PATCH", "/v1/models/set/settings", {"colour": "red"})
        self.assertEqual(reply["error"]["param"], "/colour")
        self.expect(400, "PATCH", "/v1/models/set/settings", "[]", error="bad_json")

    def write(self, name, text):
        with open(os.path.join(self.models, name + ".new"), "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(os.path.join(self.models, name + ".new"), os.path.join(self.models, name))

    def test_settings_that_no_request_could_use(self):
        self.make("unusable")
        for generation, place in (({"temperature": "hot"}, "temperature"), ({"colour": 1}, "colour"),
                                  ({"n": 2}, "n"), ({"top_p": 7}, "top_p")):
            reply = self.expect(400, "PATCH", "/v1/models/unusable/settings", {"generation": generation})
            self.assertEqual(reply["error"]["param"], "/generation/" + place)
        for name, value, what in (("versions_kept", 0, "a whole number, 1 or more"),
                                  ("precision", "fp8", "fp32, bf16 or int8"),
                                  ("unknown_symbols", "drop", "error, skip or replace"),
                                  ("chat_template", "{role}", "a text with {content} once, and {role} at most once")):
            message = self.expect(400, "PATCH", "/v1/models/unusable/settings", {name: value})["error"]["message"]
            self.assertIn(f"/{name}: must be {what}", message)

    def test_bad_settings_file(self):
        """What was good stays in force, the log says once why, and what somebody wrote is not overwritten."""
        self.make("edited")
        path = "/v1/models/edited/settings"
        self.expect(200, "PATCH", path, {"start": "Call"})
        self.assertNotIn("reason", self.expect(200, "GET", path))
        for text, why in (("{\n \"start\": }", "line 2, column "), ("[]", "it must be a JSON object"),
                          ('{"start": 7}', "/start: must be a string"),
                          ('{"colour": "red"}', "/colour: unknown setting"),
                          ('{"start": "a", "start": "b"}', "duplicate object key"),
                          ('{"generation": {"temperature": "hot"}}', "/generation/temperature: temperature must be")):
            start = len(self.daemon.output)
            self.write("edited/settings.json", text)
            self.daemon.wait_for_output("file_refused model=edited file=settings.json", start)
            reply = self.expect(200, "GET", path)
            self.assertEqual(reply["start"], "Call")
            self.assertEqual((reply["reason"]["code"], reply["reason"]["file"]), ("bad_file", "settings.json"))
            self.assertIn(why, reply["reason"]["message"])
        self.assertEqual(self.expect(200, "GET", "/v1/models/edited")["problems"], [reply["reason"]])
        self.expect(422, "PATCH", path, {"start": "Some"}, error="bad_file")
        with open(os.path.join(self.models, "edited", "settings.json"), encoding="utf-8") as file:
            self.assertIn("hot", file.read())
        self.expect(404, "POST", "/v1/models/edited/load")                      # scans once more
        self.assertEqual(len(re.findall("file_refused model=edited", self.daemon.text())), 6)
        start = len(self.daemon.output)
        self.write("edited/settings.json", '{"start": "Some"}')
        self.daemon.wait_for_output("file_mended model=edited file=settings.json", start)
        reply = self.expect(200, "PATCH", path, {"versions_kept": 9})
        self.assertEqual((reply["start"], reply["versions_kept"]), ("Some", 9))
        self.assertEqual(self.expect(200, "GET", "/v1/models/edited")["problems"], [])

    def test_bad_labels_file(self):
        self.make("relabelled", versions=2)
        path = "/v1/models/relabelled/labels"
        self.expect(201, "PUT", path + "/current", {"version": 1})
        for text, why in (("{", "line 1, column "), ('{"current": 1}', "label current: a label is "),
                          ('{"predict": {"version": 1}}', "'predict' is no name for a label"),
                          ('{"a": {"split": {"x": 100}}}', "label a: /split/x must be")):
            start = len(self.daemon.output)
            self.write("relabelled/labels.json", text)
            self.daemon.wait_for_output("file_refused model=relabelled file=labels.json", start)
            reply = self.expect(200, "GET", path)
            self.assertEqual(reply["labels"], {"current": {"version": 1}})
            self.assertIn(why, reply["reason"]["message"])
        self.assertEqual(self.current("relabelled"), 1)
        self.expect(422, "PUT", path + "/stable", {"version": 2}, error="bad_file")
        self.expect(422, "DELETE", path + "/current", error="bad_file")
        os.unlink(os.path.join(self.models, "relabelled", "labels.json"))
        self.expect(200, "POST", "/v1/models/relabelled/load")
        self.assertEqual(self.expect(200, "GET", path), {"labels": {}})
        self.assertEqual(self.current("relabelled"), 2)

    def test_nothing_is_removed_while_labels_are_unknown(self):
        self.make("unknown", versions=1)
        self.expect(200, "PATCH", "/v1/models/unknown/settings", {"versions_kept": 1})
        start = len(self.daemon.output)
        self.write("unknown/labels.json", "{")
        self.daemon.wait_for_output("file_refused model=unknown", start)
        self.expect(200, "POST", "/v1/models/unknown/save")
        self.assertTrue(os.path.isdir(os.path.join(self.models, "unknown", "1")))
        self.assertNotIn("pruned model=unknown", self.daemon.text())
        os.unlink(os.path.join(self.models, "unknown", "labels.json"))
        self.expect(200, "POST", "/v1/models/unknown/save")
        self.daemon.wait_for_output("pruned model=unknown version=1")

    def test_delete(self):
        self.make("deleted", versions=1)
        self.expect(400, "DELETE", "/v1/models/deleted?force=perhaps")
        self.expect(400, "DELETE", "/v1/models/deleted?now=true", error="unknown_field")
        self.assertTrue(self.expect(200, "DELETE", "/v1/models/deleted")["deleted"])
        self.assertFalse(os.path.exists(os.path.join(self.models, "deleted")))

    def test_delete_knows_its_own_requests(self):
        """What ends on a deleted model is no use of one made later under its name, and its end no end of one."""
        path = "/v1/models/reborn/generate?max_tokens=1000000"
        self.make("reborn", versions=1)
        before, _ = self.daemon.open_stream("GET", path)
        self.addCleanup(before.close)
        self.expect(409, "DELETE", "/v1/models/reborn", error="model_in_use")
        self.expect(200, "DELETE", "/v1/models/reborn?force=true")
        self.make("reborn", versions=1)
        self.expect(200, "DELETE", "/v1/models/reborn")
        self.make("reborn", versions=1)
        after, _ = self.daemon.open_stream("GET", path)
        self.addCleanup(after.close)

        def running():
            return len([entry for entry in self.expect(200, "GET", "/v1/requests")["data"]
                        if entry["model"] == "reborn@1"])
        wait_until(lambda: running() == 1, "the first never ended")
        reply = self.expect(409, "DELETE", "/v1/models/reborn", error="model_in_use")
        self.assertIn("in use by 1 requests", reply["error"]["message"])

    def test_delete_forced(self):
        self.make("forced")
        self.expect(200, "POST", "/v1/models/forced/save")
        body = {"model": "forced", "prompt": "a", "max_tokens": 1000000, "stream": True}
        connection, reply = self.daemon.open_stream("POST", "/v1/completions", body)
        self.assertTrue(reply.readline().startswith(b"data: {"))
        self.expect(200, "DELETE", "/v1/models/forced?force=true")
        events = [line[6:] for line in reply.read().decode().split("\n") if line.startswith("data: ")]
        connection.close()
        self.assertEqual(json.loads(events[-2])["choices"][0]["finish_reason"], "cancelled")


class Installed(DaemonTest):
    """A model of the installation: it serves, its graph runs, its files stay as they are."""

    @classmethod
    def start(cls):
        maker = Daemon(cls.models)
        try:
            maker.json("PUT", "/v1/models/demo", SMALL)
            maker.json("POST", "/v1/models/demo/save")
        finally:
            maker.stop()
        cls.demo = os.path.join(cls.folder, "demo")
        os.rename(cls.models, cls.demo)
        os.mkdir(cls.models)
        return Daemon(cls.models, "--demo", cls.demo)

    def test_comes_back_behind_a_deleted_model(self):
        name = os.path.join(self.models, "demo")
        os.mkdir(name)
        with open(os.path.join(name, "definition.json"), "w", encoding="utf-8") as file:
            file.write("{}")
        wait_until(lambda: self.daemon.json("GET", "/v1/models/demo")[1]["read_only"] is False)
        # at first it is still in use: lstmd says a first sentence with it
        wait_until(lambda: self.daemon.json("DELETE", "/v1/models/demo")[0] == 200, "it was never deleted")
        wait_until(lambda: self.daemon.json("GET", "/v1/models/demo")[1].get("status") == "serving")
        self.assertTrue(self.daemon.json("GET", "/v1/models/demo")[1]["read_only"])

    def test_is_read_only(self):
        for method, path, body in (("POST", "/save", {}), ("POST", "/restore", {"version": 1}), ("DELETE", "", None),
                                   ("POST", "/train", {"corpus": {"text": "abc"}}),
                                   ("PUT", "/labels/stable", {"version": 1}), ("PATCH", "/settings", {"start": "x"})):
            status, reply = self.daemon.json(method, "/v1/models/demo" + path, body)
            self.assertEqual((status, reply["error"]["code"]), (409, "read_only"), (method, path, reply))

    def test_graph_runs(self):
        status, reply = self.daemon.json("POST", "/v1/models/demo/graph/run", {"fetches": ["softmax/b:0"]})
        self.assertEqual((status, len(reply["results"]["softmax/b:0"])), (200, 256))


@unittest.skipIf(FLAVOUR != "release", "a sanitizer has memory of its own")
class Peak(DaemonTest):
    MODELS = {"large": {"units": 800, "sequence_length": 4, "batch": 1, "max_steps": 1}}

    def memory_bytes(self):
        with open(f"/proc/{self.daemon.process.pid}/status", encoding="ascii") as file:
            facts = dict(line.split(":", 1) for line in file)
        return tuple(int(facts[name].split()[0]) << 10 for name in ("VmHWM", "VmRSS"))

    def test_a_load_holds_the_weights_once_beside_what_it_packs(self):
        file_bytes = os.path.getsize(os.path.join(self.models, "large", "1", "weights.safetensors"))
        self.assertGreater(file_bytes, 10_000_000)
        peak, held = self.memory_bytes()
        self.assertLess(peak - held, 1.3 * file_bytes, (peak, held, file_bytes))


if __name__ == "__main__":
    unittest.main()
