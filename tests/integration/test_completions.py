"""Text over HTTP: the shapes of replies, streams, seeds, limits, errors, cancelling, clients that leave."""
import concurrent.futures
import json
import socket
import struct
import time

from harness import FLAVOUR, DaemonTest, wait_until

SHORT = True
ENDLESS = {"model": "bard", "prompt": "I ", "max_tokens": 1000000}


class Completions(DaemonTest):
    MODELS = {"bard": {}, "slow": {"units": 512, "layers": 2, "max_steps": 1}}
    CONFIG = "ping_seconds = 1\ndefault_model = bard\n"

    def complete(self, **fields):
        status, reply = self.daemon.json("POST", "/v1/completions", {"model": "bard", "prompt": "Call me", **fields})
        self.assertEqual(status, 200, reply)
        return reply

    def refusal(self, expected, method="POST", path="/v1/completions", **fields):
        status, reply = self.daemon.json(method, path, {"model": "bard", "prompt": "Call me", **fields})
        self.assertEqual(status, expected, reply)
        self.assertLessEqual({"message", "type", "code", "param"}, reply["error"].keys())
        return reply["error"]

    def chunks(self, **fields):
        events = self.daemon.events("/v1/completions", {"model": "bard", "prompt": "Call me", "stream": True, **fields})
        self.assertEqual(events[-1], "[DONE]")
        return [json.loads(event) for event in events[:-1]]

    def running(self):
        _, reply = self.daemon.json("GET", "/v1/requests")
        return reply["data"]

    def test_shape(self):
        reply = self.complete(max_tokens=5, seed=7)
        self.assertEqual(reply["object"], "text_completion")
        self.assertEqual(reply["model"], "bard@1")
        self.assertEqual(reply["seed"], 7)
        self.assertTrue(reply["id"].startswith("cmpl-"))
        self.assertEqual(reply["usage"], {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12})
        choice = reply["choices"][0]
        self.assertEqual(choice.keys(), {"index", "text", "logprobs", "finish_reason"})
        self.assertEqual((len(choice["text"]), choice["finish_reason"], choice["logprobs"]), (5, "length", None))
        self.assertEqual(len(self.complete()["choices"][0]["text"]), 16)

    def test_one_seed_is_one_text_through_every_door(self):
        fields = {"max_tokens": 80, "seed": 11, "temperature": 0.9, "top_k": 20, "top_p": 0.95}
        text = self.complete(**fields)["choices"][0]["text"]
        streamed = "".join(chunk["choices"][0]["text"] for chunk in self.chunks(**fields))
        self.assertEqual(streamed, text)
        query = "prompt=Call%20me&max_tokens=80&seed=11&temperature=0.9&top_k=20&top_p=0.95"
        status, headers, content = self.daemon.request("GET", f"/v1/models/%62ard@1/generate?{query}")
        self.assertEqual((status, content.decode()), (200, text))
        self.assertEqual((headers["X-Lstmd-Model"], headers["X-Lstmd-Seed"]), ("bard@1", "11"))
        self.assertEqual(headers["Content-Type"], "text/plain; charset=utf-8")
        body = {"prompt": "Call me", **fields}
        for accept, read in (("application/json", lambda c: json.loads(c)["choices"][0]["text"]),
                             ("text/plain", lambda c: c.decode())):
            _, headers, content = self.daemon.request("POST", "/v1/models/bard/generate", body, {"Accept": accept})
            self.assertEqual(read(content), text)
            self.assertTrue(headers["Content-Type"].startswith(accept))
        _, headers, content = self.daemon.request("POST", "/v1/models/bard/generate", body,
                                                  {"Accept": "text/event-stream"})
        self.assertEqual(headers["Content-Type"], "text/event-stream")
        self.assertTrue(content.endswith(b"data: [DONE]\n\n"))

    def test_the_best_of_several(self):
        """Those of n, by how likely their symbols are in the mean; the same whether logprobs are told or not."""
        fields = {"prompt": ["Call me", "I "], "max_tokens": 12, "seed": 3, "temperature": 1.5}
        every = self.complete(**fields, n=5, logprobs=0)["choices"]
        means = [sum(choice["logprobs"]["token_logprobs"]) / 12 for choice in every]
        wanted = [place * 5 + number for place in range(2)
                  for number in sorted(range(5), key=lambda number: -means[place * 5 + number])[:2]]
        self.assertNotEqual(wanted, [0, 1, 5, 6])
        reply = self.complete(**fields, n=2, best_of=5)
        self.assertEqual([choice["text"] for choice in reply["choices"]], [every[place]["text"] for place in wanted])
        self.assertEqual([choice["index"] for choice in reply["choices"]], [0, 1, 2, 3])
        self.assertEqual([choice["logprobs"] for choice in reply["choices"]], [None] * 4)
        self.assertEqual(reply["usage"], {"prompt_tokens": 9, "completion_tokens": 120, "total_tokens": 129})
        told = self.complete(**fields, n=2, best_of=5, logprobs=0, echo=True)
        self.assertEqual([choice["logprobs"]["token_logprobs"][-12:] for choice in told["choices"]],
                         [every[place]["logprobs"]["token_logprobs"] for place in wanted])
        same = self.complete(**fields, n=5, best_of=5)["choices"]
        self.assertEqual([choice["text"] for choice in same], [choice["text"] for choice in every])

    def test_chosen_seed_replays(self):
        first = self.complete(max_tokens=40)
        self.assertLess(first["seed"], 2 ** 53)
        again = self.complete(max_tokens=40, seed=first["seed"])
        self.assertEqual(again["choices"], first["choices"])
        self.assertEqual(self.complete(temperature=0, seed=1)["choices"],
                         self.complete(temperature=0, seed=2)["choices"])

    def test_several_prompts_and_choices(self):
        reply = self.complete(prompt=["Call", "Some years"], n=3, seed=5, max_tokens=30)
        self.assertEqual([choice["index"] for choice in reply["choices"]], list(range(6)))
        self.assertEqual(reply["usage"]["prompt_tokens"], 14)
        texts = [choice["text"] for choice in reply["choices"]]
        alone = self.complete(prompt="Some years", n=3, seed=5, max_tokens=30)
        self.assertEqual([choice["text"] for choice in alone["choices"]], texts[3:])
        self.assertEqual(len(set(texts[:3])), 3)
        streamed = [""] * 6
        ends = {}
        for chunk in self.chunks(prompt=["Call", "Some years"], n=3, seed=5, max_tokens=30):
            choice = chunk["choices"][0]
            self.assertNotIn(choice["index"], ends)
            streamed[choice["index"]] += choice["text"]
            if choice["finish_reason"]:
                ends[choice["index"]] = choice["finish_reason"]
        self.assertEqual((streamed, ends), (texts, {index: "length" for index in range(6)}))
        numbers = self.complete(prompt=[[1, 2], [3]], max_tokens=1)
        self.assertEqual(numbers["usage"]["prompt_tokens"], 3)

    def test_stream_usage_and_warnings(self):
        chunks = self.chunks(max_tokens=4, stream_options={"include_usage": True}, frobnicate=1)
        self.assertEqual([chunk["usage"] for chunk in chunks[:-1]], [None] * (len(chunks) - 1))
        self.assertEqual(chunks[-1]["choices"], [])
        self.assertEqual(chunks[-1]["usage"], {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11})
        self.assertEqual(chunks[0]["warnings"], ["unknown field 'frobnicate' was ignored"])
        self.assertNotIn("warnings", chunks[1])
        self.assertNotIn("usage", self.chunks(max_tokens=4)[0])

    def test_settings_give_the_defaults(self):
        """A model's `generation` settings count where the request says nothing."""
        cold = [self.complete(seed=seed, temperature=0)["choices"][0]["text"] for seed in (1, 2)]
        self.assertEqual(cold[0], cold[1])
        path = "/v1/models/bard/settings"
        try:
            self.assertEqual(self.daemon.json("PATCH", path, {"generation": {"temperature": 0}})[0], 200)
            self.assertEqual(self.complete(seed=3)["choices"][0]["text"], cold[0])
            warm = {self.complete(seed=seed, temperature=1)["choices"][0]["text"] for seed in range(5)}
            self.assertGreater(len(warm), 1)
        finally:
            self.assertEqual(self.daemon.json("PATCH", path, {"generation": None})[0], 200)

    def test_stop_strings(self):
        text = self.complete(seed=3, max_tokens=200)["choices"][0]["text"]
        stop = text[20:23]
        choice = self.complete(seed=3, max_tokens=200, stop=["no such text", stop])["choices"][0]
        self.assertEqual((choice["text"], choice["finish_reason"]), (text[:text.index(stop)], "stop"))
        streamed = self.chunks(seed=3, max_tokens=200, stop=stop)
        self.assertEqual("".join(chunk["choices"][0]["text"] for chunk in streamed), text[:text.index(stop)])
        self.assertEqual(streamed[-1]["choices"][0]["finish_reason"], "stop")

    def test_empty_prompts_and_no_tokens(self):
        for fields in ({"prompt": ""}, {"prompt": None}, {"max_tokens": 0}):
            choice = self.complete(**fields)["choices"][0]
            self.assertEqual(choice["finish_reason"], "length")
        self.assertEqual(self.complete(max_tokens=0)["choices"][0]["text"], "")

    def test_unknown_symbols(self):
        error = self.refusal(400, prompt="Call €")
        self.assertEqual((error["code"], error["param"]), ("unknown_symbol", "prompt"))
        self.assertIn("U+20AC", error["message"])
        self.assertIn("5", error["message"])
        for policy, count in (("skip", 5), ("replace", 6)):
            reply = self.complete(prompt="Call €", unknown_symbols=policy, max_tokens=1)
            self.assertEqual(reply["usage"]["prompt_tokens"], count)
        self.assertEqual(self.refusal(400, prompt="€€", unknown_symbols="skip")["param"], "prompt")
        self.assertIn("vocabulary has", self.refusal(400, prompt=[1, 100000])["message"])

    def test_refusals(self):
        self.assertEqual(self.refusal(400, temperature=3)["param"], "temperature")
        error = self.refusal(400, suffix=" the end")
        self.assertEqual((error["code"], error["param"]), ("unsupported_parameter", "suffix"))
        self.complete(suffix="", max_tokens=1)
        self.assertEqual(self.refusal(400, best_of=2, n=3)["param"], "best_of")
        self.assertEqual(self.refusal(400, best_of=2, stream=True)["param"], "best_of")
        self.assertEqual(self.refusal(400, prompt=["a"] * 10, best_of=100)["param"], "best_of")
        self.assertEqual(self.refusal(400, best_of=100, max_tokens=1000)["param"], "best_of")
        self.assertEqual(self.refusal(404, model="nobody")["code"], "model_not_found")
        self.assertEqual(self.refusal(404, model="bard@99")["code"], "version_not_found")
        self.assertEqual(self.refusal(404, model="bard:nolabel")["code"], "label_not_found")
        self.assertEqual(self.refusal(400, prompt=["a"] * 10, n=100)["param"], "n")
        self.assertEqual(self.refusal(400, path="/v1/models/bard/generate")["param"], "/model")
        for body in ("{", "[]", "7", '{"prompt":"a","prompt":"b"}', '{"prompt":"\\ud800"}', b'{"prompt":"\xff"}'):
            status, reply = self.daemon.json("POST", "/v1/completions", body)
            self.assertEqual((status, reply["error"]["code"]), (400, "bad_json"), body)
        error = self.refusal(400, prompt="Call\0me")
        self.assertEqual(error["code"], "bad_json")
        self.assertIn("given as the numbers of its symbols", error["message"])
        for query in ("prompt=%ff", "prompt=%0", "prompt=a&prompt=b", "frobnicate=1", "max_tokens=many", "n=2"):
            status, _, content = self.daemon.request("GET", f"/v1/models/bard/generate?{query}")
            self.assertEqual(status, 400, (query, content))

    def test_large_prompt_goes_through_a_run_thread(self):
        self.assertEqual(self.complete(prompt="Call me " * 40000, max_tokens=1)["usage"]["prompt_tokens"], 320000)
        self.assertEqual(self.refusal(400, prompt="Call me €" + " " * 100000)["code"], "unknown_symbol")
        status, reply = self.daemon.json("POST", "/v1/completions", '{"prompt":"' + "x" * 100000)
        self.assertEqual((status, reply["error"]["code"]), (400, "bad_json"))

    def test_deadline(self):
        choice = self.complete(max_tokens=1000000, deadline_ms=50)["choices"][0]
        self.assertEqual(choice["finish_reason"], "deadline")

    def test_cancel(self):
        connection, reply = self.daemon.open_stream("POST", "/v1/completions", {**ENDLESS, "stream": True},
                                                    {"X-Request-Id": "to-be-cancelled"})
        self.assertEqual(reply.headers["X-Request-Id"], "to-be-cancelled")
        entry = next(entry for entry in self.running() if entry["id"] == "cmpl-to-be-cancelled")
        self.assertEqual((entry["model"], entry["choices"]), ("bard@1", 1))
        status, cancelled = self.daemon.json("DELETE", "/v1/requests/cmpl-to-be-cancelled")
        self.assertEqual((status, cancelled["cancelled"]), (200, True))
        events = reply.read().decode().split("\n\n")
        connection.close()
        self.assertEqual(events[-2:], ["data: [DONE]", ""])
        self.assertEqual(json.loads(events[-3][6:])["choices"][0]["finish_reason"], "cancelled")
        wait_until(lambda: not any(entry["id"] == "cmpl-to-be-cancelled" for entry in self.running()))
        status, reply = self.daemon.json("DELETE", "/v1/requests/to-be-cancelled")
        self.assertEqual((status, reply["error"]["code"]), (404, "request_not_found"))

    def test_clients_that_leave_free_their_rows(self):
        for fields in ({"stream": True}, {"stream": False}, {"stream": True, "n": 4}):
            for linger in (None, struct.pack("ii", 1, 0)):      # a polite end, and a reset
                leaver = self.daemon.raw()
                body = json.dumps({**ENDLESS, **fields}).encode()
                leaver.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: leaver\r\n"
                               b"Content-Length: %d\r\n\r\n" % len(body) + body)
                wait_until(lambda: any(entry["id"] == "cmpl-leaver" for entry in self.running()))
                if fields["stream"]:
                    self.assertIn(b"200 OK", leaver.recv(65536))
                if linger:
                    leaver.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                leaver.close()
                wait_until(lambda: not any(entry["id"] == "cmpl-leaver" for entry in self.running()),
                           f"it still runs: {fields}")

    def test_reader_that_stops_reading_pauses_its_row(self):
        reader = self.daemon.raw()
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.sendall(b"GET /v1/models/bard/generate?max_tokens=1000000 HTTP/1.1\r\nHost: localhost\r\n"
                       b"X-Request-Id: lazy\r\n\r\n")

        def made():
            return next((entry["completion_tokens"] for entry in self.running() if entry["id"] == "cmpl-lazy"), 0)
        seen = [-1, -2]

        def has_paused():
            for _ in range(20):                                # the same number over many turns of the loop
                seen.append(made())
            return len(set(seen[-20:])) == 1 and seen[-1] > 0
        wait_until(has_paused)
        self.assertEqual(len(self.complete(max_tokens=50)["choices"][0]["text"]), 50)
        paused_at = made()
        self.assertLess(paused_at, 1000000)
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)    # through 4 KiB it would take seconds
        count = 0
        while count < paused_at + 10000:                       # it goes on when somebody reads
            count += len(reader.recv(65536))
        reader.close()

    def test_half_closed_client_gets_its_reply(self):
        client = self.daemon.raw()
        body = json.dumps({"model": "bard", "prompt": "I ", "max_tokens": 5}).encode()
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                       b"Content-Length: %d\r\n\r\n" % len(body) + body)
        client.shutdown(socket.SHUT_WR)
        content = b""
        while piece := client.recv(65536):
            content += piece
        client.close()
        self.assertTrue(content.startswith(b"HTTP/1.1 200 OK"))
        self.assertIn(b'"finish_reason":"length"', content)

    def test_half_closed_client_gets_its_stream(self):
        for accept, ending in ((b"text/plain", b"\r\n0\r\n\r\n"),
                               (b"text/event-stream", b"data: [DONE]\n\n\r\n0\r\n\r\n")):
            client = self.daemon.raw()
            client.sendall(b"GET /v1/models/bard/generate?max_tokens=20000 HTTP/1.1\r\nHost: localhost\r\n"
                           b"Connection: close\r\nAccept: " + accept + b"\r\n\r\n")
            client.shutdown(socket.SHUT_WR)
            content = b""
            while piece := client.recv(65536):
                content += piece
            client.close()
            self.assertTrue(content.startswith(b"HTTP/1.1 200 OK"), content[:200])
            self.assertTrue(content.endswith(ending), content[-200:])
            self.assertGreater(len(content), 20000)

    def test_crowd_of_half_closed_clients(self):
        """They come together, and close their side at once or while their text is made."""
        def run(index):
            with self.daemon.raw() as client:
                client.sendall(b"GET /v1/models/bard/generate?max_tokens=300 HTTP/1.1\r\nHost: localhost\r\n"
                               b"Connection: close\r\n\r\n")
                time.sleep(index % 3 * 0.005)
                client.shutdown(socket.SHUT_WR)
                return b"".join(iter(lambda: client.recv(65536), b""))

        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            for content in pool.map(run, range(60)):
                self.assertEqual((content[:15], content[-7:]), (b"HTTP/1.1 200 OK", b"\r\n0\r\n\r\n"))
                self.assertGreater(len(content), 300 + 15)

    def test_text_comes_in_pieces_of_flush_ms(self):
        body = {"model": "bard", "prompt": "Call me", "max_tokens": 1500, "stream": True, "flush_ms": 400}

        def pieces(seed):
            choices = seed % 3 + 1
            began = time.monotonic()
            count = len(self.daemon.events("/v1/completions", {**body, "seed": seed, "n": choices}))
            # of each the first text, the rest, its end; [DONE]; and what there is when another comes or ends
            return count, choices * ((time.monotonic() - began) / 0.4 + 3 + choices - 1) + 1

        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            for count, at_most in pool.map(pieces, range(256)):
                self.assertLessEqual(count, at_most)

    def test_comments_come_before_text_that_is_not_due(self):
        body = {"model": "slow", "prompt": "I ", "max_tokens": 2000, "stream": True, "flush_ms": 60000}
        crowd = [self.daemon.raw() for _ in range(100 if FLAVOUR != "release" else 300)]  # so that texts are slow
        for client in crowd:
            client.sendall(b"GET /v1/models/slow/generate?prompt=I&max_tokens=2000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection, reply = self.daemon.open_stream("POST", "/v1/completions", body)
        self.assertIn(b": ping\n", iter(reply.readline, b""))
        for client in [connection, *crowd]:
            client.close()

    def test_silent_stream_gets_comments(self):
        connection, reply = self.daemon.open_stream(
            "POST", "/v1/completions", {"model": "slow", "prompt": "I " * 60000, "max_tokens": 1000, "stream": True})
        self.assertEqual(reply.readline(), b": ping\n")
        connection.close()

    def test_http_1_0_streams_until_it_closes(self):
        client = self.daemon.raw()
        client.sendall(b"GET /v1/models/bard/generate?max_tokens=20&seed=1 HTTP/1.0\r\n\r\n")
        content = b""
        while piece := client.recv(65536):
            content += piece
        client.close()
        head, _, text = content.partition(b"\r\n\r\n")
        self.assertNotIn(b"chunked", head)
        self.assertEqual(len(text), 20)


class Limits(DaemonTest):
    MODELS = {"bard": {}}
    CONFIG = "generations_max = 2\nchoices_max = 8\nreply_bytes_max = 5001\nbody_bytes_max = 65536\n"

    def test_full_queue_is_429(self):
        streams = [self.daemon.open_stream("POST", "/v1/completions", {**ENDLESS, "stream": True}) for _ in range(2)]
        try:
            status, headers, content = self.daemon.request("POST", "/v1/completions", {"prompt": "I "})
            error = json.loads(content)["error"]
            self.assertEqual((status, error["code"], error["type"]), (429, "queue_full", "rate_limit_error"))
            self.assertEqual(headers["Retry-After"], str(error["retry_after_seconds"]))
            status, _ = self.daemon.json("GET", "/health/ready")
            self.assertEqual(status, 200)
        finally:
            for connection, _ in streams:
                connection.close()
        wait_until(lambda: self.daemon.json("POST", "/v1/completions", {"prompt": "I ", "n": 2})[0] == 200)
        status, reply = self.daemon.json("POST", "/v1/completions", {**ENDLESS, "n": 3})     # never is there room
        self.assertEqual((status, reply["error"]["code"]), (413, "too_many_texts"))
        wait_until(lambda: self.daemon.json("POST", "/v1/completions", {"prompt": "I ", "n": 2})[0] == 200)

    def test_choices_and_reply_bytes(self):
        status, reply = self.daemon.json("POST", "/v1/completions", {"prompt": ["a"] * 9})
        self.assertEqual((status, reply["error"]["param"]), (400, "n"))
        wait_until(lambda: self.daemon.json("GET", "/v1/requests")[1]["data"] == [])
        texts = set()
        for _ in range(4):                      # however it came in pieces
            status, reply = self.daemon.json("POST", "/v1/completions", {"prompt": "I ", "max_tokens": 1000000,
                                                                         "seed": 3})
            self.assertEqual((status, reply["choices"][0]["finish_reason"]), (200, "length"))
            texts.add(reply["choices"][0]["text"])
        self.assertEqual([len(text) for text in texts], [5001])
