"""The HTTP server itself: methods, paths, bodies, connections, who may ask, and what it says of itself."""
import errno
import http.client
import json
import os
import re
import socket

from harness import CORPUS, DaemonTest, Daemon, wait_until

SHORT = True


class Http(DaemonTest):
    MODELS = {"bard": {}}
    CONFIG = ("body_bytes_max = 2000000\nhosts = box.lan\ncors_origins = https://page.example\nlog_requests = yes\n"
              "connection_timeout_seconds = 2\n")

    def exchange(self, *pieces):
        """Everything that comes back for what is sent, to the end of the connection."""
        client = self.daemon.raw()
        for piece in pieces:
            client.sendall(piece)
        content = b""
        while piece := client.recv(65536):
            content += piece
        client.close()
        return content

    def send_and_hang_up(self, content):
        """Reads what comes back until the daemon ends the connection, in whatever way."""
        client = self.daemon.raw()
        try:
            client.sendall(content)
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass
        except OSError as reason:
            if not isinstance(reason, ConnectionError) and reason.errno != errno.ENOTCONN:
                raise
        client.close()

    def test_paths_and_methods(self):
        for path in ("/nope", "/v1/models/", "/v1//models", "/health/live/"):
            status, reply = self.daemon.json("GET", path)
            self.assertEqual((status, reply["error"]["code"]), (404, "no_route"), path)
        for path in ("/v1/models/%ff/generate", "/v1/models/%0/generate", "/v1/models/%00/generate",
                     "/health/live%00", "/v1/models%00x", "/nope%ff", "/v1/models/bard/generate?prompt=%00"):
            self.assertEqual(self.daemon.json("GET", path)[0], 400, path)
        for method in ("DELETE", "PATCH", "FROB"):
            status, headers, content = self.daemon.request(method, "/v1/completions")
            self.assertEqual((status, headers["Allow"]), (405, "POST"), content)
            self.assertEqual(json.loads(content)["error"]["code"], "method_not_allowed")
        status, headers, _ = self.daemon.request("OPTIONS", "/v1/models/bard/generate")
        self.assertEqual((status, headers["Allow"]), (204, "GET, POST"))
        status, headers, content = self.daemon.request("HEAD", "/health/live")
        self.assertEqual((status, content, headers["Content-Type"]), (200, b"", "application/json"))

    def test_foreign_protocols_have_plain_errors(self):
        large = b"x" * 2000001
        for code, method, path, body in ((404, "GET", "/v2/models/none", None),
                                         (400, "POST", "/v2/models/bard/infer", "{"),
                                         (400, "POST", "/v1/models/bard:predict", None),
                                         (413, "POST", "/v1/models/bard:predict", large)):
            status, reply = self.daemon.json(method, path, body)
            self.assertEqual((status, list(reply)), (code, ["error"]), path)
            self.assertIsInstance(reply["error"], str)

    def test_request_ids(self):
        for given, is_kept in (("abc-1.2_X", True), ("a" * 64, True), ("a" * 65, False), ("a b", False), ("é", False)):
            _, headers, _ = self.daemon.request("GET", "/health/live", headers={"X-Request-Id": given.encode("utf-8")})
            self.assertEqual(headers["X-Request-Id"] == given, is_kept, given)
        for path in ("/nope", "/metrics", "/v1/requests"):
            self.assertTrue(self.daemon.request("GET", path)[1]["X-Request-Id"])

    def test_bodies_over_the_maximum(self):
        def check(content):
            self.assertTrue(content.startswith(b"HTTP/1.1 413"), content[:100])
            self.assertIn(b'"body_too_large"', content)
            self.assertIn(b"2000000", content)
        head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        check(self.exchange(head + b"Expect: 100-continue\r\nContent-Length: 3000000\r\n\r\n"))
        check(self.exchange(head + b"Content-Length: 3000000\r\n\r\n", b"x" * 3000000))
        check(self.exchange(head + b"Transfer-Encoding: chunked\r\n\r\n",
                            (b"100000\r\n" + b"x" * 0x100000 + b"\r\n") * 3, b"0\r\n\r\n"))
        status, reply = self.daemon.json("POST", "/v1/completions", b"x" * 2000000)
        self.assertEqual((status, reply["error"]["code"]), (400, "bad_json"))

    def test_connections_are_kept(self):
        connection = self.daemon.connect()
        for number in range(5):
            connection.request("POST", "/v1/completions", json.dumps({"prompt": "I ", "max_tokens": 3}))
            reply = connection.getresponse()
            self.assertEqual(reply.status, 200)
            reply.read()
            connection.request("POST", "/v1/completions", "x" * 3000000)
            try:
                reply = connection.getresponse()
                self.assertEqual(reply.status, 413)
                reply.read()
            except (ConnectionError, http.client.HTTPException):
                self.fail(f"the connection was closed after 413, round {number}")
            connection.request("GET", "/v1/models/bard/generate?max_tokens=5")
            self.assertEqual(len(connection.getresponse().read()), 5)
        connection.close()

    def test_pipelined_and_dribbled_requests(self):
        request = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"
        content = self.exchange(request + b"\r\n" + request + b"\r\n" + request + b"Connection: close\r\n\r\n")
        self.assertEqual(content.count(b"HTTP/1.1 200"), 3)
        body = b'{"prompt":"I ","max_tokens":2}'
        head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        content = self.exchange(*[bytes([byte]) for byte in head % len(body) + body])
        self.assertIn(b"200 OK", content)

    def test_malformed_requests_do_no_harm(self):
        for junk in (b"\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
                     b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
                     b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
                     b"Content-Length: 99999999999999999999\r\n\r\n",
                     b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20000):
            self.send_and_hang_up(junk)
        self.assertEqual(self.daemon.json("GET", "/health/live"), (200, {"status": "live"}))

    def test_ambiguous_requests_are_refused(self):
        for lines in (b"Content-Length: 2\r\nContent-Length: 3", b"Content-Length: 2\r\nTransfer-Encoding: chunked",
                      b"Transfer-Encoding: gzip", b"Host: other"):
            content = self.exchange(b"POST /v1/reload HTTP/1.1\r\nHost: localhost\r\n" + lines + b"\r\n\r\n{}")
            self.assertTrue(content.startswith(b"HTTP/1.1 400 "), (lines, content))
            self.assertIn(b'"code":"bad_framing"', content, lines)

    def test_a_nul_in_the_target_is_refused(self):
        for target in (b"/health/live\0", b"/health/live\0junk", b"/health/live\0HTTP/1.1", b"/v1/models/bard\0/labels",
                       b"/v1/models/bard/generate?max_tokens=3&prompt=I\0x", b"/health/live?\0"):
            content = self.exchange(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            self.assertTrue(content.startswith(b"HTTP/1.1 400 "), (target, content))
            self.assertIn(b"the URL has a NUL", content, target)

    def test_many_query_parameters(self):
        """However many fit the URL; libmicrohttpd has no room for their records, and would leave the client waiting."""
        for count in (500, 1000, 3000, 7000):
            status, reply = self.daemon.json("GET", "/health/live?" + "a=1&" * count)
            self.assertEqual((status, reply), (200, {"status": "live"}), count)
            status, reply = self.daemon.json("GET", "/v1/models/bard/generate?" + "a=1&" * count)
            self.assertEqual((status, "error" in reply), (400, True), count)
        status, _, content = self.daemon.request("GET", "/v1/models/bard/generate?max_tokens=3" + "&" * 20000)
        self.assertEqual((status, len(content)), (200, 3))
        self.assertEqual(self.daemon.request("GET", "/health/live?" + "a=1&" * 9000)[0], 414)

    def test_query_forms(self):
        def text(query):
            status, _, content = self.daemon.request("GET", "/v1/models/bard/generate?seed=1&max_tokens=20" + query)
            self.assertEqual(status, 200, content)
            return content
        self.assertEqual(text("&prompt=I+have"), text("&prompt=I%20have"))
        self.assertEqual(text("&&prompt=I%20have&"), text("&%70rompt=I+have"))
        self.assertEqual(text("&prompt="), text("&prompt"))
        for query, symbol in (("prompt=%2B", "+"), ("prompt=a=b", "=")):     # the model's corpus has neither
            status, reply = self.daemon.json("GET", "/v1/models/bard/generate?" + query)
            self.assertEqual(status, 400)
            self.assertIn(f'"{symbol}"', reply["error"]["message"])

    def test_heads_that_never_end(self):
        for head in (b"GET /health/live?a=1 HTTP/1.1\r\n", b"GET /health/live?a=1 HTTP/1.1\r\nno colon\r\n\r\n",
                     b"GET /health/live?a=1 HTTP/1.1\r\n" + b"a:1\r\n" * 3000 + b"\r\n"):
            self.send_and_hang_up(head)
        self.assertEqual(self.daemon.json("GET", "/health/live"), (200, {"status": "live"}))

    def test_nothing_follows_the_head_of_a_stream(self):
        head = b"HEAD /v1/models/bard/generate?prompt=Call&max_tokens=3 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        content = self.exchange(head)       # to the end: it is closed, so that no next reply is read from a last chunk
        self.assertTrue(content.startswith(b"HTTP/1.1 200 "), content)
        self.assertIn(b"Connection: close", content)
        self.assertEqual(content.partition(b"\r\n\r\n")[2], b"")

    def test_loading_a_model_without_versions_says_so(self):
        self.assertEqual(self.daemon.json("PUT", "/v1/models/empty", {})[0], 201)
        self.addCleanup(self.daemon.json, "DELETE", "/v1/models/empty")
        status, reply = self.daemon.json("POST", "/v1/models/empty/load", {})
        self.assertEqual((status, reply["error"]["message"]),
                         (404, "model empty has no version yet: train or save it first"))

    def test_silent_connections_are_closed(self):
        client = self.daemon.raw()
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        self.assertIn(client.recv(65536)[:12], (b"", b"HTTP/1.1 408"))
        client.close()

    def test_foreign_pages_may_not_ask(self):
        host = f"127.0.0.1:{self.daemon.port}"

        def status(**headers):
            return self.daemon.json("POST", "/v1/completions", {"prompt": "I ", "max_tokens": 1},
                                    {name.replace("_", "-"): value for name, value in headers.items()})[0]
        self.assertEqual(status(Host="evil.example"), 403)
        self.assertEqual(status(Host="box.lan:80"), 200)
        self.assertEqual(status(Origin="https://evil.example"), 403)
        self.assertEqual(status(Origin="null"), 403)
        self.assertEqual(status(Origin=f"http://{host}"), 200)
        self.assertEqual(status(Sec_Fetch_Site="cross-site"), 403)
        self.assertEqual(status(Sec_Fetch_Site="same-origin"), 200)
        self.assertEqual(status(Sec_Fetch_Site="cross-site", Origin="https://page.example"), 200)
        self.assertEqual(status(X_Forwarded_For="10.0.0.1"), 200)
        forwarded = self.daemon.json("POST", "/v1/reload", headers={"X-Forwarded-For": "10.0.0.1"})
        self.assertEqual((forwarded[0], forwarded[1]["error"]["type"]), (403, "permission_error"))
        _, headers, _ = self.daemon.request("OPTIONS", "/v1/completions", headers={"Origin": "https://page.example"})
        self.assertEqual(headers["Access-Control-Allow-Origin"], "https://page.example")
        self.assertEqual(headers["Access-Control-Allow-Methods"], "POST")
        self.assertEqual(headers["Access-Control-Allow-Headers"], "Authorization, *")  # X-Stainless-… of openai's
        _, headers, _ = self.daemon.request("GET", "/v1/requests", headers={"Origin": "https://page.example"})
        self.assertIn("X-Request-Id", headers["Access-Control-Expose-Headers"])

    def test_metrics(self):
        self.daemon.json("POST", "/v1/completions", {"prompt": "I ", "max_tokens": 5})
        status, headers, content = self.daemon.request("GET", "/metrics")
        self.assertEqual(status, 200)
        self.assertTrue(headers["Content-Type"].startswith("text/plain; version=0.0.4"))
        values, helped, typed = {}, set(), {}
        for line in content.decode().splitlines():
            if line.startswith("# HELP "):
                helped.add(line.split()[2])
            elif line.startswith("# TYPE "):
                typed[line.split()[2]] = line.split()[3]
            else:
                name, _, value = line.rpartition(" ")
                values[name] = float(value)
        self.assertEqual(helped, set(typed))
        for name in values:
            bare = name.split("{")[0]
            family = next(f for f in (bare, bare.rsplit("_", 1)[0]) if f in typed)
            self.assertIn(typed[family], ("counter", "gauge", "histogram", "summary"))
        ended = values['lstmd_requests_total{model="bard",outcome="length",key=""}']
        self.assertGreaterEqual(ended, 1)
        self.assertEqual(values['lstmd_model_version{model="bard"}'], 1)
        self.assertGreater(values['lstmd_model_bytes{model="bard",version="1"}'], 1000)
        self.assertGreaterEqual(values['lstmd_symbols_total{kind="made"}'], 5)
        for family in ("lstmd_time_to_first_token_seconds", "lstmd_inter_token_seconds", "lstmd_request_seconds",
                       "lstmd_queue_seconds", "lstmd_loop_turn_seconds"):
            buckets = [value for name, value in values.items() if name.startswith(f"{family}_bucket")]
            self.assertEqual(buckets, sorted(buckets))
            self.assertEqual(buckets[-1], values[f"{family}_count"])
            self.assertGreaterEqual(values[f"{family}_count"], 1)

    def test_metrics_tell_times_below_a_millisecond(self):
        families = ("time_to_first_token", "inter_token", "request", "queue")

        def sums():
            _, _, content = self.daemon.request("GET", "/metrics")
            return [float(re.search(rf"^lstmd_{family}_seconds_sum (.*)$", content.decode(), re.M)[1])
                    for family in families]

        before = sums()
        self.daemon.json("POST", "/v1/completions", {"prompt": "I ", "max_tokens": 501})
        wait_until(lambda: sums()[2] > before[2], "the request was not measured")
        first, between, request, queue = (now - then for now, then in zip(sums(), before))
        for seconds in (first, request, queue):
            self.assertGreater(abs(seconds * 1000 - round(seconds * 1000)), 1e-6)
        self.assertLess(queue, first)
        self.assertGreater(between, 0)                    # of a text that is read as a whole, too
        self.assertLess(500 * between, request)

    def test_every_text_has_a_first_symbol(self):
        """A stream of an echo may be read to its end before anybody hears that a symbol was made."""
        def counts():
            _, _, content = self.daemon.request("GET", "/metrics")
            return [int(re.search(rf"^lstmd_{family}_seconds_count (.*)$", content.decode(), re.M)[1])
                    for family in ("time_to_first_token", "request")]

        before = counts()
        for _ in range(100):
            connection, reply = self.daemon.open_stream("POST", "/v1/completions", {
                "prompt": "I " * 60, "echo": True, "stream": True, "max_tokens": 2})
            reply.read()
            connection.close()
        wait_until(lambda: counts()[1] == before[1] + 100, "the requests were not measured")
        self.assertEqual(counts()[0], before[0] + 100)

    def test_log(self):
        start = len(self.daemon.output)
        self.daemon.request("GET", "/v1/requests?a=secret", headers={"X-Request-Id": "for-the-log"})
        line = self.daemon.wait_for_output(r"id=for-the-log method=GET status=200 ms=\d+", start).string
        self.assertIn('message="/v1/requests"', line)
        self.daemon.request("GET", "/health/live", headers={"X-Request-Id": "quiet-one"})
        self.daemon.request("GET", "/v1/requests", headers={"X-Request-Id": "last-one"})
        self.daemon.wait_for_output("last-one", start)
        self.assertNotIn("quiet-one", self.daemon.text())
        self.assertNotIn("secret", self.daemon.text())
        self.daemon.json("POST", "/v1/completions", {"prompt": "Some years", "max_tokens": 1})
        self.assertNotIn("Some years", self.daemon.text())


    def test_log_of_traces(self):
        trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"

        def line(name, path="/v1/requests", **headers):
            start = len(self.daemon.output)
            _, answered, _ = self.daemon.request("GET", path, headers={"X-Request-Id": name, **headers})
            self.assertNotIn(parent, str(answered))
            return self.daemon.wait_for_output(f"id={name} .*", start).group()

        said = f" trace={trace} parent={parent} "
        self.assertIn(said, line("traced", traceparent=f"00-{trace}-{parent}-01"))
        self.assertIn(said, line("traced-later", Traceparent=f"42-{trace}-{parent}-01-x"))
        self.assertIn(said, line("traced-nowhere", "/nowhere", traceparent=f"00-{trace}-{parent}-00"))
        for number, bad in enumerate((f"ff-{trace}-{parent}-01", f"00-{trace.upper()}-{parent}-01",
                                      f"00-{'0' * 32}-{parent}-01", f"00-{trace}-{parent}-01-x", "status=200 key=x")):
            logged = line(f"untraced-{number}", traceparent=bad)
            self.assertRegex(logged, r'method=GET status=200 ms=\d+ message="/v1/requests"')


class Departures(DaemonTest):
    """Who leaves in the middle of a request is not waited for, neither by the connection's time-out nor at the end."""
    MODELS = {}
    CONFIG = "connection_timeout_seconds = 3600\n"

    def in_flight(self):
        return int(re.search(rb"^lstmd_requests_in_flight (\d+)$", self.daemon.request("GET", "/metrics")[2], re.M)[1])

    def test_in_the_middle_of_a_body(self):
        for lines, part in ((b"Content-Length: 100", b""), (b"Content-Length: 100", b"{"),
                            (b"Transfer-Encoding: chunked", b""), (b"Transfer-Encoding: chunked", b"5\r\n{")):
            with self.daemon.raw() as client:
                client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n" + lines + b"\r\n\r\n" + part)
            wait_until(lambda: self.in_flight() == 1, f"{lines}, {part}")


class OtherMetrics(DaemonTest):
    MODELS = {"bard": {}}

    def test_metrics_of_graphs_and_trainings(self):
        program = {"program": [{"op": "get_variable", "name": "twice", "shape": [2]}]}
        self.assertEqual(self.daemon.json("PUT", "/v1/models/workshop", {})[0], 201)
        self.assertEqual(self.daemon.json("POST", "/v1/models/workshop/graph/build", program)[0], 200)
        status, reply = self.daemon.json("POST", "/v1/models/workshop/graph/build", program)
        self.assertEqual((status, reply["error"]["code"]), (409, "variable_exists"))
        self.assertIn('lstmd_duplicate_variables_total{model="workshop"} 1', self.metrics_text())
        request = {"corpus": {"text": CORPUS}, "max_steps": 3, "batch": 2, "sequence_length": 8}
        self.assertEqual(self.daemon.json("POST", "/v1/models/bard/train", request)[0], 202)
        wait_until(lambda: 'lstmd_train_loss{model="bard"} ' in self.metrics_text())
        self.daemon.json("DELETE", "/v1/models/bard/train")

    def metrics_text(self):
        return self.daemon.request("GET", "/metrics")[2].decode()


class TextInTheLog(DaemonTest):
    MODELS = {"bard": {}}
    CONFIG = "log_text = yes\n"

    def test_prompts(self):
        self.daemon.json("POST", "/v1/completions", {"prompt": "Some\nyears", "max_tokens": 1})
        self.daemon.wait_for_output(r'prompt id=\S+ model=bard@1 message="Some years"')


class UnixSocket(DaemonTest):
    MODELS = {"bard": {}}

    @classmethod
    def start(cls):
        cls.path = os.path.join(cls.folder, "lstmd.sock")
        with open(cls.path, "wb"):
            pass
        os.unlink(cls.path)
        left_over = socket.socket(socket.AF_UNIX)               # as a daemon that was killed leaves it behind
        left_over.bind(cls.path)
        left_over.close()
        return Daemon(cls.models, "--listen", cls.path)

    def ask(self, path, head=b""):
        client = socket.socket(socket.AF_UNIX)
        client.connect(self.path)
        client.sendall(b"GET " + path + b" HTTP/1.1\r\nConnection: close\r\n" + head + b"\r\n")
        content = b""
        while piece := client.recv(65536):
            content += piece
        client.close()
        return content

    def test_both_listeners_serve(self):
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o660)
        self.assertIn(b"200 OK", self.ask(b"/health/ready", b"Host: any.name\r\n"))
        self.assertIn(b"bard@1", self.ask(b"/v1/models/bard/generate?max_tokens=3", b"Host: x\r\n"))
        self.assertEqual(self.daemon.json("GET", "/health/live")[0], 200)


class Ends(DaemonTest):
    """Clients that close their sending side behind their last request, and connections that may stay open for long."""
    MODELS = {"bard": {}}
    CONFIG = "connection_timeout_seconds = 3600\n"

    def test_the_connection_ends_behind_the_last_reply(self):
        live = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
        text = b"GET /v1/models/bard/generate?max_tokens=3 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        nothing = live.replace(b"live", b"nothing")
        for requests in ([live], [nothing], [live] * 3, [text], [text, live], [live, text, text]):
            for _ in range(10):
                with self.daemon.raw() as client:
                    client.sendall(b"".join(requests))
                    client.shutdown(socket.SHUT_WR)
                    content = b"".join(iter(lambda: client.recv(65536), b""))
                self.assertEqual(len(re.findall(rb"HTTP/1\.1 (200|404) ", content)), len(requests), content)


class ManyStreams(DaemonTest):
    """More sleeping connections than are woken in one turn of the loop."""

    MODELS = {"bard": {}}
    COUNT = 300

    def test_all_are_served(self):
        clients = [self.daemon.raw() for _ in range(self.COUNT)]
        for number, client in enumerate(clients):
            client.sendall(b"GET /v1/models/bard/generate?max_tokens=300&seed=%d HTTP/1.0\r\n\r\n" % (number % 3))
        texts = {}
        for number, client in enumerate(clients):
            content = b""
            while piece := client.recv(65536):
                content += piece
            client.close()
            texts.setdefault(number % 3, set()).add(content.partition(b"\r\n\r\n")[2])
        self.assertEqual([len(texts[seed]) for seed in range(3)], [1, 1, 1])
        self.assertEqual({len(next(iter(texts[seed]))) for seed in range(3)}, {300})
        wait_until(lambda: self.daemon.json("GET", "/v1/requests")[1]["data"] == [])
