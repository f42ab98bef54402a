# SPDX-License-Identifier: PostgreSQL
"""psycopg2 in threads, more than the pool has connections; and asynchronously in one thread, more still."""
import select
import threading

import psycopg2
from psycopg2 import extensions

failed = []


def work(name):
    try:
        for n in range(20):
            conn = psycopg2.connect("", application_name="%s-%d" % (name, n))
            cursor = conn.cursor()
            cursor.execute("select current_setting('application_name'), %s", (n,))
            assert cursor.fetchone() == ("%s-%d" % (name, n), n)
            conn.close()
    except Exception as e:
        failed.append(e)


threads = [threading.Thread(target=work, args=("t%d" % i,)) for i in range(8)]
for t in threads:
    t.start()
for t in threads:
    t.join()
assert not failed, failed


class Each:
    def __init__(self, name):
        self.name, self.cursor, self.over = name, None, False
        self.conn = psycopg2.connect("", application_name=name, async_=1)

    def advance(self):
        """What it waits for; None when it is over."""
        state = self.conn.poll()
        if state == extensions.POLL_OK and self.cursor is None:
            self.cursor = self.conn.cursor()
            self.cursor.execute("select current_setting('application_name')")
            state = self.conn.poll()
        if state == extensions.POLL_OK:
            assert self.cursor.fetchone() == (self.name,)
            self.conn.close()
            return None
        return state


live = [Each("a%d" % i) for i in range(40)]
while live:
    readers, writers = [], []
    for each in list(live):
        state = each.advance()
        if state is None:
            live.remove(each)
        elif state == extensions.POLL_READ:
            readers.append(each.conn)
        else:
            writers.append(each.conn)
    # One that is over may have given its connection to one that was looked at before.
    assert not live or select.select(readers, writers, [], 30) != ([], [], []), "nothing happens"
