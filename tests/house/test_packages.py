"""config/packages with apt-get, dpkg-query, id and sudo replaced: what it installs, and its one line when it cannot."""
import os
import shutil
import subprocess
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SYSTEM_TOOLS = ("sh", "cut", "env", "grep", "mktemp", "rm", "tail", "cat")
INSTALLED = subprocess.run([os.path.join(ROOT, "config", "packages"), "--list", "build"], stdout=subprocess.PIPE,
                           text=True, check=True).stdout.split()


class Packages(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.bin = os.path.join(self.folder.name, "bin")
        self.log = os.path.join(self.folder.name, "log")
        os.mkdir(self.bin)
        for tool in SYSTEM_TOOLS:
            os.symlink(shutil.which(tool), os.path.join(self.bin, tool))
        self.tool("id", "echo 0")
        self.tool("apt-get", f'echo "apt-get $*" >> {self.log}')

    def tool(self, name, script):
        path = os.path.join(self.bin, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\n{script}\n")
        os.chmod(path, 0o755)

    def installed(self, names):
        self.tool("dpkg-query", "cat <<END\n" + "".join(f"{name} installed\n" for name in names) + "END\n")

    def packages(self, *groups):
        done = subprocess.run([os.path.join(ROOT, "config", "packages"), *groups], env={"PATH": self.bin},
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              check=False)
        apt = open(self.log, encoding="utf-8").read() if os.path.exists(self.log) else ""
        return done, apt

    def assert_one_line(self, done, *words):
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)

    def test_nothing_is_run_when_all_is_there(self):
        self.installed(INSTALLED)
        done, apt = self.packages("build")
        self.assertEqual((done.returncode, done.stdout, apt), (0, "", ""), done.stderr)

    def test_only_what_is_missing_is_installed(self):
        self.installed(set(INSTALLED) - {"libuv1-dev", "nettle-dev"})
        done, apt = self.packages("build")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("apt-get -q update\n", apt)
        self.assertRegex(apt, r"apt-get -q install .* libuv1-dev nettle-dev\n$")

    def test_a_removed_package_with_configuration_left_counts_as_missing(self):
        self.installed(set(INSTALLED) - {"nettle-dev"})
        with open(os.path.join(self.bin, "dpkg-query"), "a", encoding="utf-8") as file:
            file.write("echo nettle-dev config-files\n")
        _, apt = self.packages("build")
        self.assertRegex(apt, r" nettle-dev\n$")

    def test_a_program_from_elsewhere_counts_as_there(self):
        self.installed({"python3"})
        self.tool("npm", "")
        done, apt = self.packages("demo")
        self.assertEqual((done.returncode, apt), (0, ""), done.stderr)

    def test_no_package_source(self):
        self.installed([])
        self.tool("apt-get", 'case "$*" in *install*) echo "E: Unable to locate package gcc" >&2; exit 100;; esac')
        done, _ = self.packages("build")
        self.assert_one_line(done, "cannot install gcc", "Unable to locate package gcc", "package source")

    def test_no_permission_and_no_sudo(self):
        self.installed([])
        self.tool("id", "echo 1000")
        done, _ = self.packages("build")
        self.assert_one_line(done, "no permission to install gcc", "install sudo")

    def test_sudo_that_refuses(self):
        self.installed([])
        self.tool("id", "echo 1000")
        self.tool("sudo", 'echo "sudo: a password is required" >&2; exit 1')
        done, _ = self.packages("build")
        self.assert_one_line(done, "no permission to install gcc", "sudo refused")

    def test_sudo_is_used_when_not_root(self):
        self.installed([])
        self.tool("id", "echo 1000")
        self.tool("sudo", f'echo "sudo $*" >> {self.log}\nshift\nexec "$@"')
        self.tool("true", "")
        done, log = self.packages("build")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(log, r"(?m)^sudo -n env DEBIAN_FRONTEND=noninteractive apt-get -q install")

    def test_no_debian(self):
        os.unlink(os.path.join(self.bin, "apt-get"))
        done, _ = self.packages("build")
        self.assert_one_line(done, "no Debian", "--list build")

    def test_an_unknown_group(self):
        done, _ = self.packages("everything")
        self.assert_one_line(done, "'everything'")


if __name__ == "__main__":
    unittest.main()
