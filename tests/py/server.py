"""Starts the program for a test."""

import os
import subprocess
import tempfile


class Server:
    """The program on free ports, in memory."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.process = subprocess.Popen(
            [os.environ["LEVERET_BIN"], "serve", "--in-memory"]
            + ["--http", "127.0.0.1:0", "--resp", "127.0.0.1:0"],
            cwd=self.folder.name,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for line in self.process.stdout:
            if "redis://" in line:
                self.url = "redis://" + line.split("redis://")[1].strip()
                return
        raise AssertionError("the server did not say where it listens")

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.folder.cleanup()
