"""Packages of npm for tests: into the build folder, once, without running what they bring for their installation."""
import os
import shutil
import subprocess
import tempfile

INSTALL_SECONDS = 300


def install(folder, *packages):
    """(path of the first package's module, None); (None, the reason) where it cannot be had.

    Packages are "name@version"; all that go into one folder are given at once.
    """
    if not shutil.which("node") or not shutil.which("npm"):
        return None, "node and npm are not on this machine"
    module = os.path.join(folder, "node_modules", packages[0].rpartition("@")[0])
    names = " ".join(packages)
    if not os.path.isdir(module):
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            try:
                done = subprocess.run(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-save",
                                       "--fetch-retries=1", "--fetch-timeout=30000", "--prefix", fresh, *packages],
                                      cwd=fresh, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, timeout=INSTALL_SECONDS, text=True, check=False)
            except subprocess.TimeoutExpired:
                return None, f"npm did not bring {names} within {INSTALL_SECONDS} s"
            if done.returncode != 0:
                return None, f"npm cannot install {names}: {done.stdout.strip().splitlines()[-1:]}"
            os.replace(os.path.join(fresh, "node_modules"), os.path.join(folder, "node_modules"))
    return module, None
