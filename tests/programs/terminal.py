# SPDX-License-Identifier: PostgreSQL
"""psql at a terminal: Ctrl-C on a running query, and on; \c; \q."""
import os
import pty
import select
import subprocess

pid, fd = pty.fork()
if pid == 0:
    os.environ["TERM"] = "dumb"
    os.environ["PAGER"] = "cat"
    os.execvp("psql", ["psql", "-X", "-n"])
said = b""


def hear(text):
    """Reads on until psql has said that; nothing before it counts any more."""
    global said
    while text not in said:
        assert select.select([fd], [], [], 30)[0], "%r does not come: %r" % (text, said)
        said += os.read(fd, 4096)
    said = said[said.index(text) + len(text):]


def say(line):
    os.write(fd, line.encode() + b"\n")


def sleeps():
    """Whether it does, says the server, without the pool."""
    sql = "select count(*) from pg_stat_activity where application_name = 'psql' and wait_event = 'PgSleep'"
    env = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    return subprocess.run(["psql", "-X", "-Atc", sql], env=env, capture_output=True, check=True).stdout == b"1\n"


hear(b"postgres=#")
say("select pg_sleep(1000);")
while not sleeps():
    pass
os.write(fd, b"\x03")
hear(b"canceling statement due to user request")
hear(b"postgres=#")
say("select 'goes' || ' on';")
hear(b"goes on")
say("begin;")
hear(b"postgres=*#")
say("\\c")
hear(b'You are now connected to database "postgres" as user "postgres".')
hear(b"postgres=#")
say("\\q")
assert os.waitpid(pid, 0)[1] == 0
