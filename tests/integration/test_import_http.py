"""PUT /v1/models/{m} with a path or an upload: what is made of it, and that no source harms the daemon."""
import concurrent.futures
import contextlib
import glob
import gzip
import json
import os
import random
import re
import shutil
import socket
import struct
import sys
import tarfile
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import foreign_files as foreign  # noqa: E402
from harness import FLAVOUR, IS_SLOW, ROOT, SEED, Daemon, DaemonTest, wait_until  # noqa: E402

MIB = 1 << 20
UPLOAD_BYTES_MAX = MIB
SLOW_GIB = 32


def slow_archive():
    """A small tar.gz whose one file, which is hidden, takes a while to be passed over."""
    entry = tarfile.TarInfo(".x")
    entry.size = SLOW_GIB << 30
    zeroes = gzip.compress(bytes(64 * MIB), 9, mtime=0)
    return gzip.compress(entry.tobuf(), mtime=0) + zeroes * (SLOW_GIB << 4)


def children(pid):
    """The processes that a process has started and not yet waited for."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                if int(file.read().rsplit(")", 1)[1].split()[1]) == pid:
                    found.append(int(name))
        except OSError:                 # it has ended meanwhile
            pass
    return found


class ImportHttpTest(DaemonTest):
    """A daemon that may import from self.sources, and a small ml5 model in it."""

    MORE = f"import_bytes_max = {UPLOAD_BYTES_MAX}\n"

    @classmethod
    def start(cls):
        cls.sources = os.path.join(cls.folder, "sources")
        cls.outside = os.path.join(cls.folder, "outside")
        cls.tensors = foreign.tensorflow_model(7)
        cls.ml5 = foreign.ml5(os.path.join(cls.sources, "ml5"), cls.tensors)
        cls.files = foreign.files_below(cls.ml5)
        shutil.copytree(cls.ml5, os.path.join(cls.outside, "ml5"))
        cls.CONFIG = f"import_roots = {cls.sources}\n{cls.MORE}"
        return super().start()

    def setUp(self):
        self.addCleanup(self.check_what_is_left)

    def check_what_is_left(self):
        """No half-made model, no process, no upload, and a daemon that answers."""
        self.assertEqual([name for name in os.listdir(self.models) if name.startswith(".")], [])
        wait_until(lambda: children(self.daemon.process.pid) == [], "a process is left")
        self.expect(200, "GET", "/health/live")
        wait_until(lambda: not self.open_uploads(), "an upload is left")

    def open_uploads(self):
        """Files of the models directory that the daemon has open without a name."""
        folder = f"/proc/{self.daemon.process.pid}/fd"
        links = []
        for name in os.listdir(folder):
            try:
                links.append(os.readlink(os.path.join(folder, name)))
            except OSError:
                pass
        return [link for link in links if link.startswith(self.models + "/") and link.endswith(" (deleted)")]

    def check_model(self, name, tensors=None, text=(0, 3, 5, 1, 1, 6)):
        want = foreign.tensorflow_probabilities(tensors or self.tensors, text)
        reply = self.expect(200, "POST", f"/v1/models/{name}/graph/run",
                            {"feeds": {"predict/inputs:0": [list(text)]}, "fetches": ["predict/probabilities:0"]})
        last = reply["results"]["predict/probabilities:0"][0][-1]
        self.assertLess(max(abs(a - b) for a, b in zip(last, want, strict=True)), 1e-6)
        reply = self.expect(200, "POST", "/v1/completions", {"model": name, "prompt": "ab", "max_tokens": 5})
        self.assertEqual(reply["model"], name + "@1")

    def refuse(self, code, name, body, error=None, headers=None):
        """A PUT that is refused and leaves nothing; its message."""
        reply = self.expect(code, "PUT", "/v1/models/" + name, body, headers, error=error)
        self.assertFalse(os.path.exists(os.path.join(self.models, name.partition("?")[0])))
        return reply["error"]["message"]


class Paths(ImportHttpTest):
    def test_folder(self):
        body = {"import": {"path": self.ml5}}
        reply = self.expect(201, "PUT", "/v1/models/folder", body)
        self.assertEqual((reply["model"], reply["format"], reply["definition"]), ("folder@1", "ml5 folder", body))
        self.assertIn({"what": "cell", "value": "lstm"}, [{key: finding[key] for key in ("what", "value")}
                                                          for finding in reply["understood"]])
        self.check_model("folder")
        with open(os.path.join(self.models, "folder", "1", "manifest.json"), encoding="utf-8") as file:
            self.assertEqual(json.load(file)["origin"]["import"]["source"], self.ml5)
        self.assertEqual(self.expect(200, "PUT", "/v1/models/folder", body)["definition"], body)
        self.expect(409, "PUT", "/v1/models/folder", {"import": {"path": self.sources}}, error="model_exists")
        self.expect(409, "PUT", "/v1/models/folder", {}, error="model_exists")
        self.expect(200, "DELETE", "/v1/models/folder")

    def test_archive_file(self):
        path = foreign.write(os.path.join(self.sources, "packed.tar.gz"), foreign.archive(self.files, "tar.gz"))
        self.expect(201, "PUT", "/v1/models/packed", {"import": {"path": path}})
        self.check_model("packed")

    def test_vocabulary_and_settings(self):
        folder = foreign.ml5(os.path.join(self.sources, "bare"), self.tensors, ["x"])
        vocabulary = foreign.write(os.path.join(self.sources, "symbols"), json.dumps(foreign.SYMBOLS))
        self.assertIn("give the file of its 7 symbols", self.refuse(
            422, "bare", {"import": {"path": folder}}, "no_vocabulary"))
        settings = {"forget_bias": 1, "embedding": "embedding"}
        body = {"import": {"path": folder, "vocabulary": vocabulary, "set": settings}}
        self.expect(201, "PUT", "/v1/models/bare", body)
        self.check_model("bare")
        with open(os.path.join(self.models, "bare", "1", "manifest.json"), encoding="utf-8") as file:
            self.assertEqual(json.load(file)["origin"]["import"]["set"], ["forget_bias=1", "embedding=embedding"])

    def test_paths_outside(self):
        os.symlink(self.outside, os.path.join(self.sources, "way-out"))
        self.addCleanup(os.remove, os.path.join(self.sources, "way-out"))
        for path in (os.path.join(self.outside, "ml5"), os.path.join(self.sources, "..", "outside", "ml5"),
                     os.path.join(self.sources, "way-out", "ml5"), "ml5", "/", "", "/etc/passwd", self.sources + "-x",
                     os.path.join(self.sources, "way-out", "prefix"), os.path.join(self.sources, "..", "prefix")):
            self.refuse(400, "outside", {"import": {"path": path}}, "import_path")
        self.refuse(400, "outside", {"import": {"path": self.ml5, "vocabulary": "/etc/passwd"}}, "import_path")
        self.assertIn("no such file, folder or checkpoint prefix", self.refuse(
            422, "outside", {"import": {"path": os.path.join(self.sources, "nothing")}}))

    def test_what_is_no_request(self):
        for body, param in (({"import": 3}, "/import"), ({"import": {}}, "/import/path"),
                            ({"import": {"path": 3}}, "/import/path"), ({"import": {"pat": ""}}, "/import/pat"),
                            ({"import": {"path": "/", "set": []}}, "/import/set"),
                            ({"import": {"path": "/", "set": {"a=b": "c"}}}, "/import/set"),
                            ({"import": {"path": "/", "set": {"a": True}}}, "/import/set")):
            self.assertEqual(self.expect(400, "PUT", "/v1/models/no", body)["error"]["param"], param, body)
        self.assertIn("'cell' is nothing that can be set", self.refuse(
            400, "no", {"import": {"path": self.ml5, "set": {"cell": "gru"}}}))


class Uploads(ImportHttpTest):
    def test_kinds(self):
        for kind in ("tar", "tar.gz", "tar.bz2", "tar.xz", "zip"):
            body = foreign.archive({"ml5/" + path: content for path, content in self.files.items()}, kind)
            name = "up-" + kind
            reply = self.expect(201, "PUT", "/v1/models/" + name, body)
            self.assertRegex(reply["definition"]["import"]["upload"], r"\A[0-9a-f]{64}\Z")
            self.check_model(name)
            self.expect(200, "PUT", "/v1/models/" + name, body)
            self.expect(409, "PUT", f"/v1/models/{name}?forget_bias=0", body, error="model_exists")
            self.expect(409, "PUT", "/v1/models/" + name, foreign.archive(self.files, "zip"), error="model_exists")

    def test_a_model_file_alone(self):
        content = foreign.torch_zip(foreign.torch_model(), {"tokens": tuple(foreign.SYMBOLS)})
        self.assertEqual(self.expect(201, "PUT", "/v1/models/torch", content)["format"], "PyTorch zip")

    def test_many_parts(self):
        """Chunks of all sizes, some far larger than a part, add up to the same file."""
        seed = random.Random(SEED)
        print(f"# TEST_SEED={SEED}")
        filler = {"filler": seed.randbytes(700000)}
        body = foreign.archive({**filler, **self.files})

        def pieces():
            at = 0
            while at < len(body):
                length = seed.choice((1, 100, 4096, 131072, 300000))
                yield body[at:at + length]
                at += length

        self.expect(201, "PUT", "/v1/models/pieces", pieces())
        self.check_model("pieces")
        self.expect(200, "PUT", "/v1/models/pieces", body)

    def test_a_crowd_that_closes_its_side(self):
        def put(body, number):
            with self.daemon.raw() as client:
                client.sendall(b"PUT /v1/models/crowd%d HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                               b"Content-Length: %d\r\n\r\n" % (number, len(body)) + body)
                client.shutdown(socket.SHUT_WR)
                return b"".join(iter(lambda: client.recv(65536), b""))[:12]

        filler = {"filler": random.Random(SEED).randbytes(300000)}
        bodies = [foreign.archive(self.files), foreign.archive({**filler, **self.files})]      # of one part, of many
        with concurrent.futures.ThreadPoolExecutor(10) as pool:
            found = set(pool.map(put, bodies * 20, range(40)))
        self.assertEqual(found - {b"HTTP/1.1 429"}, {b"HTTP/1.1 201"})

    def test_settings_are_the_query(self):
        symbols = json.dumps(foreign.SYMBOLS[::-1]).encode()
        body = foreign.archive({**self.files, "other symbols.json": symbols}, "zip")
        self.refuse(422, "query", body, "ambiguous")
        self.refuse(400, "query?vocabulary=a&vocabulary=b", body)
        self.assertIn("nothing that can be set", self.refuse(400, "query?colour=blue", body))
        self.refuse(422, "query?vocabulary=nowhere", body, "wrong_vocabulary")
        reply = self.expect(201, "PUT", "/v1/models/query?vocabulary=other%20symbols.json&forget_bias=1", body)
        self.assertEqual(reply["definition"]["import"]["set"], {"vocabulary": "other symbols.json", "forget_bias": "1"})
        self.assertIn("other symbols.json; the matrices have as many", [f["why"] for f in reply["understood"]])

    def test_what_is_refused(self):
        many = {str(number): b"" for number in range(513)}
        for code, error, message, content in (
                (415, "bad_archive", "upload: no archive that can be read", b"PK\3\4rest"),
                (415, "bad_archive", "upload: no archive that can be read", b"\x1f\x8brest"),
                (415, "unknown_format", "none of 1 files is of a format", foreign.archive({"x": b"y"})),
                (422, "bad_archive", "the path '../x' in it leads elsewhere", foreign.archive({"../x": b""}, "zip")),
                (422, "bad_archive", "the path '/x' in it leads elsewhere", foreign.archive({"/x": b""})),
                (422, "bad_archive", "'l' in it is a symbolic link", foreign.archive_of_link("l", "/etc/passwd")),
                (413, None, "more than 512 files", foreign.archive(many, "tar.gz")),
                (413, None, f"unpacks to more than {UPLOAD_BYTES_MAX} bytes",
                 foreign.archive({"bomb": bytes(500 * MIB)}, "zip")),
                (413, None, f"unpacks to more than {UPLOAD_BYTES_MAX} bytes", foreign.huge_tar(1 << 62))):
            self.assertIn(message, self.refuse(code, "refused", content, error))
        self.assertIn("unknown_format", self.expect(415, "PUT", "/v1/models/refused", b"x",
                                                    {"Content-Type": "application/x-tar"})["error"]["code"])
        self.refuse(400, "refused", b"neither", "bad_json")
        self.refuse(413, "refused", foreign.archive({"x": bytes(UPLOAD_BYTES_MAX)}), "body_too_large")
        self.refuse(400, ".hidden", foreign.archive(self.files), "invalid_name")

    def test_an_empty_upload(self):
        for kind in ("application/x-tar", "application/zip"):
            self.assertEqual(self.refuse(400, "empty", b"", headers={"Content-Type": kind}), "the upload is empty")

    def test_absurd_models(self):
        def header(entries):
            text = json.dumps(entries).encode()
            return struct.pack("<Q", len(text)) + text
        for shape in ([1 << 40, 1 << 40], [1 << 62, 4], [-1, 4], [4] * 50):
            self.refuse(422, "absurd", header({"rnn.weight_ih_l0": {
                "dtype": "F32", "shape": shape, "data_offsets": [0, 16]}}) + bytes(16))
        self.assertIn("no output layer fits", self.refuse(422, "absurd", foreign.safetensors(
            {"rnn.weight_ih_l0": ((12, 3), [0.5] * 36), "rnn.weight_hh_l0": ((12, 4), [0.5] * 48)})))
        self.refuse(415, "absurd", struct.pack("<Q", 1 << 60) + b'{"x":', headers={"Content-Type": "x/tar"})

    def test_cut_off(self):
        seed = random.Random(SEED)
        print(f"# TEST_SEED={SEED}")
        for kind in ("tar", "tar.gz", "zip"):
            body = foreign.archive(self.files, kind)
            for length in seed.sample(range(600, len(body.rstrip(b"\0")) - 1), 3):
                self.refuse(415 if kind != "tar" else None, "cut", body[:length], headers={"Content-Type": "x/tar"})

    def expect(self, code, *call, error=None):
        """As DaemonTest.expect; a code of None is any refusal of a source."""
        if code is not None:
            return super().expect(code, *call, error=error)
        status, reply = self.daemon.json(*call)
        self.assertIn(status, (415, 422), reply)
        return reply

    @unittest.skipIf(FLAVOUR != "release", "sanitizers keep memory that was freed")
    def test_memory_stays_bounded(self):
        bomb = foreign.archive({"bomb": bytes(200 * MIB)}, "tar.gz")
        self.refuse(413, "bomb", bomb)
        before = self.daemon.rss_bytes()
        for _ in range(5):
            self.refuse(413, "bomb", bomb)
        self.assertLess(self.daemon.rss_bytes(), before + 8 * MIB)


class Places(ImportHttpTest):
    MORE = (f"imports_max = 1\nimport_bytes_max = {64 * MIB}\nimport_seconds_max = 3600\n"
            "connection_timeout_seconds = 3600\n")

    def half_an_upload(self):
        """A connection that has sent the beginning of an upload, which has its place."""
        connection = self.daemon.raw()
        body = foreign.archive({"x": os.urandom(4 * MIB)})
        connection.sendall(b"PUT /v1/models/half HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body))
        connection.sendall(body[:MIB])
        wait_until(self.open_uploads, "no upload has begun")
        return connection

    def test_places_are_given_back(self):
        for leave in (lambda connection: None, lambda connection: connection.shutdown(socket.SHUT_WR)):
            connection = self.half_an_upload()
            reply = self.daemon.request("PUT", "/v1/models/second", foreign.archive(self.files))
            self.assertEqual((reply[0], reply[1]["Retry-After"]), (429, "1"), reply)
            self.assertEqual(json.loads(reply[2])["error"]["code"], "imports_busy")
            self.expect(429, "PUT", "/v1/models/second", {"import": {"path": self.ml5}}, error="imports_busy")
            leave(connection)
            connection.close()
            wait_until(lambda: not self.open_uploads(), "the upload is still there")
        self.expect(201, "PUT", "/v1/models/second", foreign.archive(self.files))
        self.expect(200, "DELETE", "/v1/models/second")

    def test_uploads_that_break_off(self):
        for length in range(MIB, 2 * MIB, MIB // 40):
            with contextlib.closing(self.daemon.raw()) as connection:
                connection.sendall(b"PUT /v1/models/half HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
                                   % (4 * MIB) + bytes(length))
                connection.shutdown(socket.SHUT_WR)
            wait_until(lambda: not self.open_uploads(), "an upload is still there")

    def test_the_loop_goes_on_and_the_client_may_leave(self):
        connection = self.daemon.raw()
        body = slow_archive()
        connection.sendall(b"PUT /v1/models/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body))
        connection.sendall(body)
        wait_until(lambda: children(self.daemon.process.pid), "nothing reads it")
        self.expect(200, "GET", "/health/ready")
        self.expect(404, "GET", "/v1/models/slow", error="model_not_found")
        connection.close()
        reader = children(self.daemon.process.pid)[0]
        os.kill(reader, 9)          # else it would take its time
        wait_until(lambda: not self.open_uploads(), "the upload is still there")


class FuzzInputs(DaemonTest):
    """What the fuzz targets are given, as uploads: each is refused or served, and the daemon goes on."""
    CONFIG = "imports_max = 4\nimport_seconds_max = 20\n"

    def put(self, name, path):
        with open(path, "rb") as file:
            status, _, content = self.daemon.request("PUT", f"/v1/models/{name}", file.read(),
                                                     {"Content-Type": "application/octet-stream"})
        return status, content, path

    def test_all_of_them(self):
        paths = sorted(glob.glob(os.path.join(ROOT, "tests", "fuzz", "corpus", "*", "*")))
        self.assertGreater(len(paths), 400)
        paths = paths if IS_SLOW else random.Random(SEED).sample(paths, 60)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            replies = list(pool.map(self.put, (f"m{number}" for number in range(len(paths))), paths))
        for status, content, path in replies:
            self.assertIn(status, (201, 400, 413, 415, 422), (path, content))
        self.expect(200, "GET", "/health/ready")


class Ends(unittest.TestCase):
    def daemon(self, more):
        folder = tempfile.mkdtemp(prefix="lstmd-import-")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        config = foreign.write(os.path.join(folder, "lstmd.conf"), f"import_bytes_max = {64 * MIB}\n{more}")
        os.mkdir(os.path.join(folder, "models"))
        daemon = Daemon(os.path.join(folder, "models"), config=config)
        self.addCleanup(daemon.kill)
        return daemon

    def test_time_is_bounded(self):
        daemon = self.daemon("import_seconds_max = 1\n")
        status, reply = daemon.json("PUT", "/v1/models/slow", slow_archive())
        self.assertEqual((status, reply["error"]["code"]), (422, "import_too_long"), reply)
        self.assertEqual(reply["error"]["message"], "importing took more than 1 seconds")
        self.assertEqual((children(daemon.process.pid), os.listdir(daemon.models), daemon.stop()), ([], [], 0))

    def test_the_end_of_the_daemon_ends_it(self):
        daemon = self.daemon("import_seconds_max = 3600\ndrain_seconds = 0\n")
        connection = daemon.raw()
        body = slow_archive()
        connection.sendall(b"PUT /v1/models/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body))
        connection.sendall(body)
        wait_until(lambda: children(daemon.process.pid), "nothing reads it")
        reader = children(daemon.process.pid)[0]
        self.assertEqual((daemon.stop(), os.listdir(daemon.models)), (0, []))
        self.assertFalse(os.path.exists(f"/proc/{reader}"))
        self.assertIsNone(re.search("imported|CHECK", daemon.text()))
        connection.close()


if __name__ == "__main__":
    unittest.main()
