"""Boots a Debian with lstmd installed in it, under its own systemd, and runs tests/systemd/inside.py there.

The system is made by debootstrap in build/systemd (kept for the next time) and booted by systemd-nspawn with a network
of its own. Each test of inside.py is a test here; where such a system cannot be made they are skipped with the reason.
"""
import hashlib
import os
import re
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import inside  # noqa: E402

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROOT = os.path.dirname(TESTS)
LSTMD = os.environ.get("LSTMD", os.path.join(ROOT, "build", "release", "lstmd"))


def packages_of_libraries():
    """The Debian packages of what lstmd itself links or loads, but for libc's files, which dpkg knows below /lib."""
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", subprocess.check_output(["readelf", "-d", LSTMD], text=True))
    places = dict(re.findall(r"^\s*(\S+) => (\S+)", subprocess.check_output(["ldd", LSTMD], text=True), re.MULTILINE))
    files = [os.path.realpath(places[name]) for name in needed if name in places]
    owners = subprocess.run(["dpkg", "-S", *files], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                            check=False)
    return sorted({"libopenblas0-pthread", *(line.split(":")[0] for line in owners.stdout.splitlines())})


PACKAGES = ("systemd", "systemd-sysv", "dbus", "python3", *packages_of_libraries())
# One system for each list: with another one it is made anew.
LIST = hashlib.sha256(" ".join(PACKAGES).encode()).hexdigest()[:8]
SYSTEM = os.path.join(ROOT, "build", "systemd", f"debian-{LIST}")
BOOT_SECONDS_MAX = 600
CHECKS_UNIT = """[Unit]
Description=the tests of lstmd
After=multi-user.target
[Service]
Type=oneshot
Environment=PYTHONDONTWRITEBYTECODE=1
ExecStart=/bin/sh -c '/tests/tap.py /tests/inside.py > /results 2>&1'
ExecStopPost=/bin/systemctl --no-block poweroff
StandardOutput=journal+console
"""


def make_system():
    """A Debian with what lstmd links; once, since it takes minutes. A half-made one is made again."""
    if os.path.exists(SYSTEM):
        return
    making = SYSTEM + ".making"
    shutil.rmtree(making, ignore_errors=True)
    os.makedirs(making)
    done = subprocess.run(["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", "bookworm", making],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False)
    if done.returncode != 0:
        raise unittest.SkipTest(f"debootstrap cannot make a Debian: {done.stdout.strip().splitlines()[-1]}")
    os.rename(making, SYSTEM)


def install():
    """lstmd as a package would install it, and the tests."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    shutil.rmtree(os.path.join(SYSTEM, "var", "lib", "lstmd"), ignore_errors=True)
    subprocess.run(["make", "--no-print-directory", "install", f"DESTDIR={SYSTEM}", "PREFIX=/usr"], cwd=ROOT,
                   env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    os.makedirs(os.path.join(SYSTEM, "tests"), exist_ok=True)
    shutil.copy(os.path.join(TESTS, "tap.py"), os.path.join(SYSTEM, "tests"))
    shutil.copy(inside.__file__, os.path.join(SYSTEM, "tests"))
    units = os.path.join(SYSTEM, "etc", "systemd", "system")
    with open(os.path.join(units, "lstmd-tests.service"), "w", encoding="utf-8") as file:
        file.write(CHECKS_UNIT)
    for target, unit, source in (("multi-user.target", "lstmd-tests.service", units),
                                 ("sockets.target", "lstmd.socket", "/usr/lib/systemd/system"),
                                 ("multi-user.target", "lstmd.service", "/usr/lib/systemd/system")):
        wants = os.path.join(units, f"{target}.wants")
        os.makedirs(wants, exist_ok=True)
        if not os.path.islink(os.path.join(wants, unit)):
            os.symlink(os.path.join(source.removeprefix(SYSTEM), unit), os.path.join(wants, unit))


class Booted(unittest.TestCase):
    results = {}
    output = ""

    @classmethod
    def setUpClass(cls):
        if os.getuid() != 0:
            raise unittest.SkipTest("only root can boot a container")
        for tool in ("debootstrap", "systemd-nspawn"):
            if not shutil.which(tool):
                raise unittest.SkipTest(f"{tool} is not installed")
        make_system()
        install()
        results = os.path.join(SYSTEM, "results")
        if os.path.exists(results):
            os.unlink(results)
        boot = subprocess.run(["systemd-nspawn", "--register=no", "--keep-unit", "--private-network", "--boot",
                               "--console=read-only", f"--directory={SYSTEM}"], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=BOOT_SECONDS_MAX, check=False)
        console = boot.stdout.decode(errors="replace")
        if not os.path.exists(results):
            if "Welcome to" not in console:
                raise unittest.SkipTest(f"systemd-nspawn cannot boot here: {console.strip().splitlines()[-1]}")
            raise AssertionError(f"the booted system ran no tests:\n{console}")
        with open(results, encoding="utf-8", errors="replace") as file:
            cls.output = file.read()
        for verdict, rest in re.findall(r"^(ok|not ok) \d+ (.*)$", cls.output, re.MULTILINE):
            cls.results[rest.split(".")[-1]] = verdict

    def assert_passed(self, name):
        self.assertEqual(self.results.get(name), "ok", self.output)


def add_test(name):
    setattr(Booted, name, lambda self: self.assert_passed(name))


for test_name in unittest.TestLoader().getTestCaseNames(inside.Inside):
    add_test(test_name)


if __name__ == "__main__":
    unittest.main()
