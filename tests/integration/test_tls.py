"""TLS: everything that plain HTTP does, over it; certificates that are renewed, refused and about to expire; clients
that do not finish, or begin, their handshake."""
import hashlib
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import tarfile
import unittest

import test_completions
import test_http
from harness import TIMEOUT_SECONDS, Daemon, DaemonTest, run, wait_until

LONG = True


def make_certificate(folder, name, days=90, key="ec"):
    """`name`.crt and `name`.key in a folder: (certificate, key), signed by itself."""
    certificate, private = (os.path.join(folder, f"{name}.{suffix}") for suffix in ("crt", "key"))
    kind = {"ec": ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"], "rsa": ["rsa:2048"]}[key]
    subprocess.run(["openssl", "req", "-x509", "-nodes", "-newkey", *kind, "-keyout", private, "-out", certificate,
                    "-days", str(days), "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"],
                   check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.chmod(private, 0o600)
    return certificate, private


def read_bytes(path):
    with open(path, "rb") as file:
        return file.read()


def write_bytes(path, content):
    with open(path, "wb") as file:
        file.write(content)


def der(path):
    return ssl.PEM_cert_to_DER_cert(read_bytes(path).decode())


class TlsSocket(ssl.SSLSocket):
    def shutdown(self, how):
        """TCP's, so that the other direction is still understood."""
        socket.socket.shutdown(self, how)


class TlsDaemon(Daemon):
    """A daemon whose clients trust the certificates of a folder."""

    def __init__(self, *arguments, trusted, **options):
        self.trusted = trusted
        super().__init__(*arguments, **options)

    def context(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for name in os.listdir(self.trusted):
            if name.endswith(".crt"):
                context.load_verify_locations(os.path.join(self.trusted, name))
        context.sslsocket_class = TlsSocket
        return context

    def connect(self):
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS, context=self.context())

    def raw(self, context=None):
        client = super().raw()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return (context or self.context()).wrap_socket(client, server_hostname="127.0.0.1")

    def bare(self):
        return super().raw()

    def shown(self):
        """The certificate that a new connection is shown."""
        with self.raw() as client:
            return client.getpeercert(binary_form=True)

    def metric(self, name):
        text = self.request("GET", "/metrics")[2].decode()
        return float(re.search(rf"^{re.escape(name)} (.*)$", text, re.MULTILINE).group(1))


class OverTls:
    """Before a class of tests: the same over TLS."""

    KEY = "ec"

    @classmethod
    def start(cls):
        cls.certificate, cls.key = (os.path.join(cls.folder, name) for name in ("served.pem", "served.pem.key"))
        for made, served in zip(make_certificate(cls.folder, "first", key=cls.KEY), (cls.certificate, cls.key)):
            shutil.copy(made, served)
        config = os.path.join(cls.folder, "lstmd.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f"{cls.CONFIG or ''}tls_certificate = {cls.certificate}\ntls_key = {cls.key}\n")
        return TlsDaemon(cls.models, *cls.ARGUMENTS, config=config, trusted=cls.folder)


class HttpOverTls(OverTls, test_http.Http):
    def send_and_hang_up(self, content):
        try:
            super().send_and_hang_up(content)
        except ssl.SSLEOFError:             # TLS' way to say that the connection was ended
            pass


class CompletionsOverTls(OverTls, test_completions.Completions):
    KEY = "rsa"


class ManyStreamsOverTls(OverTls, test_http.ManyStreams):
    pass


class Tls(OverTls, DaemonTest):
    MODELS = {"bard": {}}
    CONFIG = "connection_timeout_seconds = 100\n"

    def test_what_is_agreed_on(self):
        self.daemon.wait_for_output(r"listens on https://127\.0\.0\.1:\d+")
        context = self.daemon.context()
        context.set_alpn_protocols(["h2", "http/1.1"])
        with self.daemon.raw(context) as client:
            self.assertEqual((client.version(), client.selected_alpn_protocol()), ("TLSv1.3", "http/1.1"))
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with self.daemon.raw(context) as client:
            self.assertEqual(client.version(), "TLSv1.2")
            self.assertRegex(client.cipher()[0], "^ECDHE-")
        context.set_ciphers("AES256-GCM-SHA384:@SECLEVEL=0")    # no forward secrecy
        self.assertRaises(ssl.SSLError, self.daemon.raw, context)
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        self.assertRaises(ssl.SSLError, self.daemon.raw, context)

    def test_replies_that_fill_many_records(self):
        connection = self.daemon.connect()
        self.addCleanup(connection.close)
        for length in (10, 20000, 300000):
            path = f"/v1/models/bard/generate?seed=4&max_tokens={length}"
            connection.request("GET", path)
            text = connection.getresponse().read()
            self.assertEqual(len(text), length)
            body = b'{"text":"%s"}' % text.replace(b"\n", b" ")[:100000]
            connection.request("POST", "/v1/models/bard/score", body)
            reply = connection.getresponse()
            self.assertEqual(reply.status, 200, reply.read() if reply.status != 200 else None)
            reply.read()

    def test_uploads(self):
        text = os.urandom(1500000).hex().encode()
        reply = self.expect(201, "PUT", "/v1/corpora/noise", text)
        self.assertEqual((reply["bytes"], reply["sha256"]), (len(text), hashlib.sha256(text).hexdigest()))
        model = io.BytesIO()
        with tarfile.open(fileobj=model, mode="w") as archive:
            archive.add(os.path.join(self.models, "bard", "1"), "bard")
            padding = tarfile.TarInfo("bard/README")
            padding.size = len(text)
            archive.addfile(padding, io.BytesIO(text))
        self.assertEqual(self.expect(201, "PUT", "/v1/models/copied", model.getvalue())["model"], "copied@1")
        path = "/v1/models/{}/generate?max_tokens=50&seed=2"
        self.assertEqual(self.daemon.request("GET", path.format("copied"))[2],
                         self.daemon.request("GET", path.format("bard"))[2])

    def test_plain_http_is_turned_away(self):
        """It is told why."""
        failed = self.daemon.metric('lstmd_tls_handshakes_total{result="failed"}')
        with self.daemon.bare() as client:
            client.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            with client.makefile("rb") as reply:
                head, _, body = reply.read().partition(b"\r\n\r\n")
            self.assertTrue(head.startswith(b"HTTP/1.1 400 "), head)
            self.assertEqual(json.loads(body)["error"]["code"], "tls_required")
        wait_until(lambda: self.daemon.metric('lstmd_tls_handshakes_total{result="failed"}') == failed + 1)

    def test_clients_that_reset_in_the_handshake(self):
        hello = self.client_hello()
        failed = self.daemon.metric('lstmd_tls_handshakes_total{result="failed"}')
        for count in range(20):
            client = self.daemon.bare()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(hello[:count * len(hello) // 19])
            if count % 2 == 1:
                client.shutdown(socket.SHUT_WR)
            client.close()
        wait_until(lambda: self.daemon.metric('lstmd_tls_handshakes_total{result="failed"}') == failed + 20)

    def client_hello(self):
        outgoing = ssl.MemoryBIO()
        tls = self.daemon.context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="127.0.0.1")
        self.assertRaises(ssl.SSLWantReadError, tls.do_handshake)
        return outgoing.read()

    def test_handshakes_that_stop_cost_little(self):
        """libmicrohttpd tries them again as often as it is asked to. They are ended after 10 seconds; who is through
        with the handshake may be silent for longer."""
        silent = self.daemon.raw()
        hello = self.client_hello()
        clients = [silent, *(self.daemon.bare() for _ in range(40))]
        for number, client in enumerate(clients):
            self.addCleanup(client.close)
            if number > 0:
                client.sendall(hello[:len(hello) // (1 + number % 2)])
        before = self.daemon.cpu_seconds()
        for _ in range(20):
            self.assertEqual(self.daemon.json("GET", "/health/live")[0], 200)
        for client in clients[1:]:
            while client.recv(65536):       # what answers a whole hello, and then the end
                pass
        spent = self.daemon.cpu_seconds() - before
        self.assertLess(spent, 4, "forty clients that say nothing keep it busy")
        silent.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertIn(b"200 OK", silent.recv(65536))


class Renewal(OverTls, DaemonTest):
    MODELS = {"bard": {}}

    def setUp(self):
        self.kept = read_bytes(self.certificate), read_bytes(self.key)
        self.addCleanup(self.reload)
        self.addCleanup(self.replace, *self.kept)

    def replace(self, certificate, key):
        write_bytes(self.certificate, certificate)
        write_bytes(self.key, key)

    def reload(self):
        return self.daemon.json("POST", "/v1/reload")

    def refused(self, *words):
        status, reply = self.reload()
        self.assertEqual((status, reply["error"]["code"]), (422, "bad_configuration"), reply)
        for word in words:
            self.assertIn(word, reply["error"]["message"])
        self.daemon.wait_for_output("certificate_refused .*" + re.escape(words[0]))

    def ask_on(self, connection):
        connection.request("GET", "/v1/models/bard/generate?max_tokens=5")
        self.assertEqual(len(connection.getresponse().read()), 5)

    def test_new_handshakes_get_the_new_one(self):
        first = der(self.certificate)
        open_before = self.daemon.connect()
        self.addCleanup(open_before.close)
        self.ask_on(open_before)
        self.assertEqual(self.daemon.shown(), first)
        for name, key, ask in (("second", "rsa", self.reload),
                               ("third", "ec", lambda: self.daemon.signal(signal.SIGHUP))):
            paths = make_certificate(self.folder, name, key=key)
            self.replace(*map(read_bytes, paths))
            self.assertNotEqual(self.daemon.shown(), der(paths[0]))
            ask()
            wait_until(lambda paths=paths: self.daemon.shown() == der(paths[0]), f"the {name} is not shown")
            self.ask_on(open_before)
        self.assertEqual(open_before.sock.getpeercert(binary_form=True), first)

    def test_a_stream_goes_on(self):
        connection, reply = self.daemon.open_stream("GET", "/v1/models/bard/generate?max_tokens=200000&seed=1")
        self.addCleanup(connection.close)
        begun = reply.read(1000)
        self.replace(*map(read_bytes, make_certificate(self.folder, "renewed")))
        self.assertEqual(self.reload()[0], 200)
        self.assertEqual(len(begun + reply.read()), 200000)

    def test_a_bad_one_changes_nothing(self):
        first, other = der(self.certificate), make_certificate(self.folder, "other")
        self.replace(read_bytes(other[0]), read_bytes(self.key))
        self.refused(self.key, "is not the key of", self.certificate)
        self.replace(b"no certificate", read_bytes(self.key))
        self.refused(self.certificate, "no certificate in PEM form")
        self.replace(*self.kept)
        os.unlink(self.key)
        self.refused(self.key, "No such file")
        self.assertEqual(self.daemon.shown(), first)
        write_bytes(self.key, self.kept[1])
        os.chmod(self.key, 0o644)
        self.refused(self.key, "may be read or written by everybody")
        os.chmod(self.key, 0o600)
        self.daemon.signal(signal.SIGHUP)
        self.assertEqual(self.reload()[0], 200)
        self.assertEqual(self.daemon.shown(), first)

    def test_a_bad_configuration_does_not_keep_it_back(self):
        config = os.path.join(self.folder, "lstmd.conf")
        good = read_bytes(config)
        self.addCleanup(write_bytes, config, good)
        write_bytes(config, good + b"nonsense = 1\n")
        renewed = make_certificate(self.folder, "beside-a-bad-configuration")
        self.replace(*map(read_bytes, renewed))
        status, reply = self.reload()
        self.assertEqual(status, 422)
        self.assertIn("nonsense", reply["error"]["message"])
        self.assertEqual(self.daemon.shown(), der(renewed[0]))

    def test_expiry(self):
        name = "lstmd_certificate_remaining_seconds"
        self.assertTrue(80 * 86400 < self.daemon.metric(name) <= 90 * 86400)
        self.replace(*map(read_bytes, make_certificate(self.folder, "short", days=5)))
        start = len(self.daemon.output)
        self.assertEqual(self.reload()[0], 200)
        self.assertTrue(4 * 86400 < self.daemon.metric(name) <= 5 * 86400)
        self.daemon.wait_for_output(r"warning certificate_read .*served\.pem expires .*, in [45] days", start)


class UnixStaysPlain(OverTls, DaemonTest):
    MODELS = {"bard": {}}

    @classmethod
    def start(cls):
        cls.ARGUMENTS = ("--listen", os.path.join(cls.folder, "lstmd.sock"))
        return super().start()

    def test_both(self):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(self.ARGUMENTS[1])
            client.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            self.assertIn(b"200 OK", client.recv(65536))
        self.assertEqual(self.daemon.json("GET", "/health/live")[0], 200)


class Ending(OverTls, DaemonTest):
    MODELS = {"bard": {}}
    CONFIG = "drain_seconds = 0\n"

    def test_whatever_clients_are_at(self):
        connection, reply = self.daemon.open_stream("GET", "/v1/models/bard/generate?max_tokens=1000000")
        self.addCleanup(connection.close)
        reply.read(100)
        for client in (self.daemon.raw(), self.daemon.bare(), self.daemon.bare()):
            self.addCleanup(client.close)
        client.sendall(b"\x16\x03\x01\x02\x00\x01\x00")         # the beginning of a hello
        self.assertEqual(self.daemon.json("GET", "/health/live")[0], 200)
        self.assertEqual(self.daemon.stop(), 0)


class Refused(DaemonTest):
    """What the start says; the class' own daemon has no TLS."""

    def serve(self, settings, *options):
        config = os.path.join(self.folder, "refused.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(settings)
        return run("serve", "--models", self.models, "--listen", "127.0.0.1:0", "--config", config, *options)

    def test_starts(self):
        certificate, key = make_certificate(self.folder, "good")
        _, other = make_certificate(self.folder, "other")
        encrypted = os.path.join(self.folder, "encrypted.key")
        subprocess.run(["openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:word", "-out", encrypted],
                       check=True)
        missing, folder = os.path.join(self.folder, "missing"), os.path.join(self.folder, "folder")
        os.mkdir(folder)
        open_key = os.path.join(self.folder, "open.key")
        write_bytes(open_key, read_bytes(key))
        os.chmod(open_key, 0o644)
        for given, words in (((certificate, ""), ("tls_certificate is set, tls_key is not",)),
                             (("", key), ("tls_key is set, tls_certificate is not",)),
                             ((missing, key), ("tls_certificate", missing, "No such file")),
                             ((certificate, missing), ("tls_key", missing, "No such file")),
                             ((folder, key), ("tls_certificate", folder, "not a regular file")),
                             ((key, key), ("tls_certificate", key, "no certificate in PEM form")),
                             ((certificate, certificate), ("tls_key", certificate, "everybody")),
                             ((certificate, other), (other, "is not the key of", certificate)),
                             ((certificate, encrypted), (encrypted, "is encrypted")),
                             ((certificate, open_key), (open_key, "chmod"))):
            for options in ((), ("--check",)):
                done = self.serve("tls_certificate = {}\ntls_key = {}\n".format(*given), *options)
                said = done.stdout + done.stderr
                self.assertEqual((done.returncode, said.count("\n")), (1, 1), said)
                for word in words:
                    self.assertIn(word, said, given)

    def test_a_check_tells_of_the_certificate(self):
        certificate, key = make_certificate(self.folder, "checked", days=3)
        done = self.serve(f"tls_certificate = {certificate}\ntls_key = {key}\n", "--check")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(f"{certificate} expires ", done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main()
