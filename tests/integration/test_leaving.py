"""Clients that leave before their text has begun."""
import json

from harness import DaemonTest, wait_until


class LongPrompt(DaemonTest):
    MODELS = {"slow": {"units": 1024, "layers": 2, "max_steps": 1}}
    CONFIG = "ping_seconds = 3600\nprompt_cache_bytes_max = 0\n"

    def test_a_stream_that_its_client_left_ends_before_its_text(self):
        """Reading this prompt takes minutes."""
        body = json.dumps({"prompt": "I " * 500000, "max_tokens": 1}).encode()
        for kind in (b"text/event-stream", b"text/plain"):
            leaver = self.daemon.raw()
            leaver.sendall(b"POST /v1/models/slow/generate HTTP/1.1\r\nHost: localhost\r\nAccept: " + kind
                           + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            wait_until(lambda: self.expect(200, "GET", "/v1/requests")["data"])
            leaver.close()
            wait_until(lambda: not self.expect(200, "GET", "/v1/requests")["data"], "it still runs")
        content = self.daemon.request("GET", "/metrics")[2].decode()
        self.assertIn('outcome="cancelled"', content)
