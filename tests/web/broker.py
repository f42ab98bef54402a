# SPDX-License-Identifier: PostgreSQL
"""Brokers for tests of their page, on the PostgreSQL of a pglease-testenv; each has an instance of its own."""

import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.request

from browser import Failure, await_that

BUILD = os.environ["PGLEASE_BUILDDIR"]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def psql(sql, dbname="template1"):
    done = subprocess.run(["psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-d", dbname, "-c", sql], capture_output=True, text=True)
    if done.returncode != 0:
        raise Failure(f"{sql}: {done.stderr}")
    return done.stdout.strip()


class Worker:
    """A psql that holds a lease from its start to its end: a program that knows only libpq."""

    def __init__(self, broker, dbname, waits=False):
        env = os.environ | {"PGLEASE_INSTANCE": broker.instance, "PGLEASE_SOCKET_DIR": broker.sockets}
        self.process = subprocess.Popen([f"{BUILD}/pglease-run", "--", "psql", "-qAtX", "-d", dbname], env=env,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if not waits:
            self.query("select 1")

    @property
    def pid(self):
        return self.process.pid

    def query(self, sql):
        self.process.stdin.write(sql + ";\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        if answer == "":
            raise Failure(f"psql has ended: {self.process.stdout.read()}")
        return answer

    def end(self, how=None):
        if how is not None and self.process.poll() is None:
            self.process.send_signal(how)
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class Broker:
    def __init__(self, pools, lines=(), port=None, name="web"):
        """pools: {name: [line, ...]}; each is of the database of its name."""
        self.folder = tempfile.mkdtemp(prefix="broker-")
        os.chmod(self.folder, 0o755)
        self.instance = f"{name}-{os.getpid()}"
        self.sockets = f"{self.folder}/run"
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.process = None
        self.write(pools, lines)

    def write(self, pools, lines=()):
        with open(f"{self.folder}/pgleased.ini", "w", encoding="utf-8") as file:
            print("[pglease]", f"instance = {self.instance}", f"socket_dir = {self.sockets}", f"data_dir = {self.folder}/data",
                  f"http_listen = 127.0.0.1:{self.port}", *lines, sep="\n", file=file)
            for name, more in pools.items():
                print(f"[pool {name}]", f"conninfo = host={os.environ['PGHOST']} port={os.environ['PGPORT']} "
                      f"user={os.environ['PGUSER']} dbname={name}", *more, sep="\n", file=file)

    def start(self):
        self.log = open(f"{self.folder}/log", "a", encoding="utf-8")
        self.process = subprocess.Popen([f"{BUILD}/pgleased", "-c", f"{self.folder}/pgleased.ini"], stderr=self.log)
        await_that("the broker serves", self.serves)

    def serves(self):
        if self.process.poll() is not None:
            with open(f"{self.folder}/log", encoding="utf-8") as file:
                raise Failure(f"the broker has ended: {file.read()}")
        try:
            return self.get("readyz")[0] in (200, 503)
        except OSError:
            return False

    def get(self, path, method="GET", **headers):
        """Status, headers, body."""
        request = urllib.request.Request(self.url + path, method=method,
                                         headers={name.replace("_", "-"): value for name, value in headers.items()})
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    def stats(self):
        """What the segment has."""
        done = subprocess.run([f"{BUILD}/pgleasestat", "-n", self.instance, "-J", "-PSCWI"], capture_output=True, text=True,
                              check=True)
        return json.loads(done.stdout)

    def pool(self, name):
        return next(pool for pool in self.stats()["pools"] if pool["name"] == name)

    def control(self, *words):
        done = subprocess.run([f"{BUILD}/pgleasectl", "-n", self.instance, "-s", self.sockets, *words], capture_output=True,
                              text=True)
        if done.returncode != 0:
            raise Failure(f"pgleasectl {words}: {done.stderr}")

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.log.close()

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait()
            self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        # A broker that was killed leaves the history of a pool that its next one does not have.
        for left in glob.glob(f"/dev/shm/pglease.{self.instance}.*"):
            os.unlink(left)
