"""`make install` into an empty DESTDIR: what it puts where, and whether systemd finds the units sound."""
import os
import re
import shutil
import subprocess
import tempfile
import unittest

from harness import FLAVOUR, ROOT


@unittest.skipUnless(FLAVOUR == "release", "only the release flavour is installed")
class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="lstmd-install-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.make("install")

    @classmethod
    def try_make(cls, *arguments):
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "PREFIX"))}
        return subprocess.run(["make", "--no-print-directory", f"DESTDIR={cls.folder}", *arguments], cwd=ROOT,
                              env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)

    @classmethod
    def make(cls, *arguments):
        done = cls.try_make(*arguments)
        if done.returncode != 0:
            raise AssertionError(done.stdout)

    def path(self, name):
        return os.path.join(self.folder, name)

    def read(self, name):
        with open(self.path(name), encoding="utf-8") as file:
            return file.read()

    def test_the_binary_runs_from_there(self):
        done = subprocess.run([self.path("usr/local/bin/lstmd"), "--version"], stdout=subprocess.PIPE, text=True,
                              check=True)
        self.assertRegex(done.stdout, r"^lstmd \d+\.\d+\.\d+")

    def test_every_file_is_where_systemd_and_people_look(self):
        for name in ("etc/lstmd/lstmd.conf", "usr/local/lib/systemd/system/lstmd.service",
                     "usr/local/lib/systemd/system/lstmd.socket", "usr/local/lib/sysusers.d/lstmd.conf",
                     "usr/local/lib/tmpfiles.d/lstmd.conf", "usr/local/share/lstmd/lstmd.conf",
                     "usr/local/share/lstmd/demo/moby/1/manifest.json"):
            self.assertTrue(os.path.isfile(self.path(name)), name)

    def test_no_placeholder_is_left(self):
        for folder, _, names in os.walk(self.path("usr/local/lib")):
            for name in names:
                text = self.read(os.path.join(folder, name))
                self.assertIsNone(re.search(r"@[A-Z]+@", text), name)
                self.assertNotIn(self.folder, text, "DESTDIR is not part of a path")

    def test_the_installed_configuration_is_accepted(self):
        models = self.path("models")
        os.makedirs(models, exist_ok=True)
        done = subprocess.run([self.path("usr/local/bin/lstmd"), "serve", "--check", "--models", models, "--config",
                               self.path("etc/lstmd/lstmd.conf")], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_what_is_built_is_not_built_again(self):
        """`make run` asks so whether there is anything to build."""
        self.assertEqual(self.try_make("-q", "all").returncode, 0)
        self.assertEqual(self.try_make("-q", "all", "CFLAGS=-DANOTHER").returncode, 1)

    def test_a_changed_configuration_survives_the_next_install(self):
        with open(self.path("etc/lstmd/lstmd.conf"), "a", encoding="utf-8") as file:
            file.write("# ours\n")
        self.make("install")
        self.assertIn("# ours\n", self.read("etc/lstmd/lstmd.conf"))
        self.assertNotIn("# ours\n", self.read("usr/local/share/lstmd/lstmd.conf"))

    def test_the_unit_waits_longer_than_the_drain(self):
        stop = int(re.search(r"^TimeoutStopSec=(\d+)$", self.read("usr/local/lib/systemd/system/lstmd.service"),
                             re.MULTILINE).group(1))
        drain = int(re.search(r"^#drain_seconds\s*=\s*(\d+)$", self.read("etc/lstmd/lstmd.conf"),
                              re.MULTILINE).group(1))
        self.assertGreater(stop, drain)

    @unittest.skipUnless(shutil.which("systemd-analyze"), "systemd-analyze is not installed")
    def test_systemd_finds_the_units_sound(self):
        with tempfile.TemporaryDirectory() as prefix:
            # Verified where its binary is: systemd-analyze looks whether ExecStart can be run.
            self.make("install", "DESTDIR=", f"PREFIX={prefix}", f"SYSCONFDIR={prefix}/etc",
                      f"STATEDIR={prefix}/var")
            units = [f"{prefix}/lib/systemd/system/lstmd.{kind}" for kind in ("service", "socket")]
            done = subprocess.run(["systemd-analyze", "verify", "--recursive-errors=no", *units],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  text=True, check=False)
            about_ours = [line for line in done.stdout.split("\n") if "lstmd" in line]
            self.assertEqual((done.returncode, about_ours), (0, []), done.stdout)

    @unittest.skipUnless(shutil.which("systemd-analyze"), "systemd-analyze is not installed")
    def test_the_service_is_hardened(self):
        unit = self.path("usr/local/lib/systemd/system/lstmd.service")
        done = subprocess.run(["systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=25", unit],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False)
        self.assertEqual(done.returncode, 0, done.stdout)

    @unittest.skipUnless(shutil.which("systemd-sysusers"), "systemd-sysusers is not installed")
    def test_the_user_can_be_made(self):
        root = self.path("root")
        os.makedirs(os.path.join(root, "etc"), exist_ok=True)
        subprocess.run(["systemd-sysusers", f"--root={root}", self.path("usr/local/lib/sysusers.d/lstmd.conf")],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with open(os.path.join(root, "etc", "passwd"), encoding="utf-8") as file:
            self.assertRegex(file.read(), r"(?m)^lstmd:.*:/var/lib/lstmd:")

    def test_uninstall_keeps_configuration(self):
        with tempfile.TemporaryDirectory() as folder:
            self.make("install", f"DESTDIR={folder}")
            self.make("uninstall", f"DESTDIR={folder}")
            left = [os.path.relpath(os.path.join(at, name), folder)
                    for at, _, names in os.walk(folder) for name in names]
            self.assertEqual(left, ["etc/lstmd/lstmd.conf"])


if __name__ == "__main__":
    unittest.main()
