"""Requests of one session, one after the other: those that wait, are cancelled, leave, or come after a reload."""
import json
import os
import shutil
import socket
import threading

from harness import Daemon, DaemonTest, wait_until

PROMPT = "Call me"
ENDLESS = 1000000


class Turns(DaemonTest):
    """A session whose first request makes text until it is told to end, and others that wait behind it."""
    MODELS = {"bard": {}, "slow": {"units": 512, "layers": 2, "max_steps": 1}}

    def setUp(self):
        self.name = self.id().rsplit(".", 1)[1]
        self.connection, self.stream = self.daemon.open_stream("POST", "/v1/completions", {
            "model": "slow", "prompt": PROMPT, "max_tokens": ENDLESS, "stream": True, "session": self.name,
            "session_start": True}, {"X-Request-Id": f"{self.name}.inside"})
        self.stream.readline()

    def tearDown(self):
        self.connection.close()

    def cancel(self, name):
        self.expect(200, "DELETE", f"/v1/requests/{self.name}.{name}")

    def test_who_left_while_a_large_body_was_read_waits_no_longer(self):
        body = json.dumps({"model": "slow", "prompt": "I" * 400000, "max_tokens": 3, "session": self.name}).encode()
        with self.daemon.raw() as leaver:
            leaver.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: %s.left\r\n"
                           b"Content-Length: %d\r\n\r\n" % (self.name.encode(), len(body)) + body)
        wait_until(lambda: "left" in self.running())
        wait_until(lambda: self.running() == ["inside"], "it still waits")

    def running(self):
        entries = self.expect(200, "GET", "/v1/requests")["data"]
        return [entry["id"].split(".")[1] for entry in entries if entry["id"].startswith(f"cmpl-{self.name}.")]

    def ask(self, name, replies, **fields):
        """A request that waits for its turn; its reply will be in `replies`."""
        headers = {"X-Request-Id": f"{self.name}.{name}"}
        body = {"model": "slow", "prompt": "", "max_tokens": 3, "session": self.name, **fields}

        def run():
            replies.append((name, *self.daemon.request("POST", "/v1/completions", body, headers)))
        thread = threading.Thread(target=run)
        thread.start()
        self.addCleanup(thread.join)
        wait_until(lambda: name in self.running() or not thread.is_alive())     # a deadline may have come first
        return thread

    def check_ended(self, replies, name, reason):
        (told, status, headers, content), = replies
        choice = json.loads(content)["choices"][0]
        self.assertEqual((told, status, choice["text"], choice["finish_reason"]), (name, 200, "", reason))
        self.assertEqual(headers["X-Lstmd-Model"], "slow@1")

    def test_one_that_waits_is_cancelled(self):
        replies, others = [], []
        before = self.ask("before", others)
        thread = self.ask("cancelled", replies)
        after = self.ask("after", others)
        self.cancel("cancelled")
        thread.join()
        self.check_ended(replies, "cancelled", "cancelled")
        self.assertEqual(self.running(), ["after", "before", "inside"])
        self.cancel("inside")
        before.join()
        after.join()
        found = {name: json.loads(content)["usage"]["prompt_tokens_details"] for name, _, _, content in others}
        stood = {name: details["restored_tokens"] + details["replayed_tokens"] for name, details in found.items()}
        self.assertEqual(stood["after"], stood["before"] + 3)

    def test_one_that_waits_has_a_deadline(self):
        replies = []
        self.ask("late", replies, deadline_ms=50).join()
        self.check_ended(replies, "late", "deadline")
        self.assertEqual(self.running(), ["inside"])

    def test_a_stream_that_waits_has_a_deadline(self):
        replies = []
        self.ask("late", replies, deadline_ms=50, stream=True).join()
        (_, status, _, content), = replies
        events = [line[6:] for line in content.decode().split("\n") if line.startswith("data: ")]
        self.assertEqual((status, len(events), events[-1]), (200, 2, "[DONE]"))
        choice = json.loads(events[0])["choices"][0]
        self.assertEqual((choice["text"], choice["finish_reason"]), ("", "deadline"))

    def test_one_that_closed_its_side_has_its_deadline(self):
        for more in ({}, {"stream": True}):
            fields = {"model": "slow", "prompt": "", "session": self.name, "deadline_ms": 1500, **more}
            body = json.dumps(fields).encode()
            with self.daemon.raw() as client:
                client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                               b"X-Request-Id: %s.closed\r\nContent-Length: %d\r\n\r\n"
                               % (self.name.encode(), len(body)) + body)
                wait_until(lambda: "closed" in self.running())
                client.shutdown(socket.SHUT_WR)
                content = b"".join(iter(lambda: client.recv(65536), b""))
            self.assertTrue(content.startswith(b"HTTP/1.1 200 OK"), content)
            self.assertIn(b'"finish_reason":"deadline"', content)
        self.assertEqual(self.running(), ["inside"])

    def test_those_that_leave_give_up_their_place(self):
        for name, more in (("plain", {}), ("stream", {"stream": True})):
            connection = self.daemon.connect()
            body = {"model": "slow", "prompt": "", "max_tokens": 3, "session": self.name, **more}
            connection.request("POST", "/v1/completions", json.dumps(body), {"X-Request-Id": f"{self.name}.{name}"})
            wait_until(lambda name=name: name in self.running())
            connection.close()
        wait_until(lambda: self.running() == ["inside"])

    def test_a_maker_that_leaves(self):
        """What waits behind it finds no session; nothing of the text that nobody got is kept."""
        for more in ({}, {"session_start": True}):
            name = f"{self.name}{len(more)}"
            connection = self.daemon.connect()
            body = {"model": "slow", "prompt": PROMPT, "max_tokens": ENDLESS, "session": name, "session_start": True}
            connection.request("POST", "/v1/completions", json.dumps(body), {"X-Request-Id": f"{self.name}.maker"})
            wait_until(lambda: "maker" in self.running())
            replies = []
            thread = self.ask("waits", replies, session=name, **more)
            connection.close()
            thread.join()
            self.assertEqual(replies[0][1], 200 if more else 404)
            self.expect(200 if more else 404, "GET", f"/v1/sessions/{name}")


class Versions(DaemonTest):
    """A session stays with its version, which is loaded when it is needed."""
    MODELS = {"bard": {}}

    def complete(self, **fields):
        return self.expect(200, "POST", "/v1/completions", {"model": "bard", "seed": 4, **fields})

    def copy_version(self):
        source = os.path.join(self.models, "bard", "1")
        shutil.copytree(source, os.path.join(self.models, ".copy"))
        os.rename(os.path.join(self.models, ".copy"), os.path.join(self.models, "bard", "2"))
        self.assertEqual(self.expect(200, "POST", "/v1/models/bard/load")["model"], "bard@2")

    def test_after_a_reload(self):
        whole = self.complete(prompt=PROMPT, max_tokens=60)["choices"][0]["text"]
        text = self.complete(prompt=PROMPT, max_tokens=20, session="long", session_start=True)["choices"][0]["text"]
        self.copy_version()
        reply = self.complete(prompt="", max_tokens=20, session="long")
        self.assertEqual(reply["model"], "bard@1")
        text += reply["choices"][0]["text"]
        self.assertEqual(self.daemon.stop(), 0)
        type(self).daemon = Daemon(self.models)
        text += self.complete(prompt="", max_tokens=20, session="long")["choices"][0]["text"]
        self.assertEqual(text, whole)
