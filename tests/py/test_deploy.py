"""Holds the files of deploy/ against the schemas of who reads them, and against the program's own settings.

No container engine and no cluster runs here, so what they would do with the files is not seen.
"""

import os
import re
import subprocess
import sys
import tempfile
import tomllib
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
TOOLS = Path(sys.executable).parent
KUBERNETES = DEPLOY / "kubernetes"
# Of 10; systemd calls what is below 2 "OK".
EXPOSURE_MAX = 1.5


def passes(test, *command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    test.assertEqual(done.returncode, 0, done.stdout + done.stderr)
    return done.stdout + done.stderr


class Deploy(unittest.TestCase):
    def test_every_setting_is_one_of_the_program(self):
        text = passes(self, os.environ["LEVERET_BIN"], "serve", "--help")
        known = {f"LEVERET_{flag[2:].upper().replace('-', '_')}" for flag in re.findall(r"--[a-z-]+", text)}
        named = {}
        for file in sorted(path for path in DEPLOY.rglob("*") if path.is_file()):
            for name in re.findall(r"LEVERET_[A-Z_]+", file.read_text()):
                named.setdefault(name, file.name)
        self.assertIn("LEVERET_JWT_SECRET", named)
        self.assertEqual({name: file for name, file in named.items() if name not in known}, {})

    def test_the_image_is_built_from_the_lock_file_and_runs_without_rights(self):
        passes(self, TOOLS / "hadolint", DEPLOY / "Dockerfile")
        text = (DEPLOY / "Dockerfile").read_text()
        self.assertRegex(text, r"cargo build --release --locked")
        self.assertRegex(text.split("\nFROM ")[-1], r"\nUSER [1-9][0-9]*:[1-9]")
        built_with = re.search(r"FROM rust:([0-9.]+)", text)[1]
        package = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]
        self.assertEqual(built_with, package["rust-version"])

    def test_the_image_gets_every_file_that_the_build_reads(self):
        kept = re.findall(r"^!(.+)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.M)
        for name in kept:
            self.assertTrue((ROOT / name).exists(), name)
        manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
        targets = [target.get("path") for kind in ("bench", "example", "bin") for target in manifest.get(kind, [])]
        named = ["Cargo.lock", "src/main.rs", "src/lib.rs", "benches", *filter(None, targets)]
        for path in named:
            self.assertTrue(any(path == name or path.startswith(f"{name}/") for name in kept), path)

    def test_compose_reads_its_file(self):
        passes(self, TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "docker-compose.yml")

    def test_nginx_reads_its_configuration(self):
        with tempfile.TemporaryDirectory() as folder:
            configuration = Path(folder) / "nginx.conf"
            text = (DEPLOY / "nginx.conf").read_text()
            # The name of the nodes is known to Compose alone.
            text = text.replace("node:3001", "127.0.0.1:3001")
            configuration.write_text(f"pid {folder}/pid;\nerror_log {folder}/log;\n{text}")
            passes(self, "/usr/sbin/nginx", "-t", "-c", configuration)

    def test_kubernetes_takes_the_manifests(self):
        files = re.findall(r"^  - (\S+)$", (KUBERNETES / "kustomization.yaml").read_text(), re.M)
        others = {path.name for path in KUBERNETES.iterdir()} - {"kustomization.yaml"}
        self.assertEqual(set(files), others)
        for file in files:
            passes(self, TOOLS / "kubernetes-validate", "--strict", "-k", "1.32", KUBERNETES / file)

    def test_systemd_takes_the_unit_and_finds_little_exposed(self):
        with tempfile.TemporaryDirectory() as folder:
            unit = Path(folder) / "leveret.service"
            text = (DEPLOY / "leveret.service").read_text()
            # The program need not be installed for its unit to be verified.
            unit.write_text(text.replace("/usr/local/bin/leveret", os.environ["LEVERET_BIN"]))
            self.assertEqual(passes(self, "systemd-analyze", "verify", unit), "")
            found = passes(self, "systemd-analyze", "security", "--offline=true", unit)
        exposure = float(re.search(r"Overall exposure level for .*: ([0-9.]+)", found)[1])
        self.assertLessEqual(exposure, EXPOSURE_MAX)


if __name__ == "__main__":
    unittest.main()
