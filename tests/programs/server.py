# SPDX-License-Identifier: PostgreSQL
"""A prefork server with psycopg2, under load from this very process, while its workers are killed and replaced.

Each request connects, as many applications do; the answers must be those of their requests."""
import os
import random
import signal
import socket
import threading

import psycopg2

WORKERS, CLIENTS, REQUESTS, KILLS = 6, 8, 60, 10

listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen(64)
address = listener.getsockname()


def serve():
    while True:
        peer, _ = listener.accept()
        with peer:
            number = peer.recv(32).decode()
            conn = psycopg2.connect("")
            cursor = conn.cursor()
            cursor.execute("prepare s (int) as select $1 * 2; execute s (%s)", (int(number),))
            peer.sendall(str(cursor.fetchone()[0]).encode())
            conn.close()


def start():
    pid = os.fork()
    if pid == 0:
        serve()
        os._exit(0)
    return pid


# A connection before the fork: the workers are children of a process that has leased.
psycopg2.connect("").close()
workers = [start() for _ in range(WORKERS)]
answered, wrong = [0], []
lock = threading.Lock()


def load():
    for _ in range(REQUESTS):
        number = random.randint(0, 10**9)
        while True:
            # A worker that is killed takes its request with it: the client asks again.
            try:
                with socket.create_connection(address, 30) as s:
                    s.sendall(str(number).encode())
                    answer = s.recv(32).decode()
            except ConnectionError:
                continue
            if answer:
                break
        with lock:
            answered[0] += 1
            if int(answer) != number * 2:
                wrong.append((number, answer))


clients = [threading.Thread(target=load) for _ in range(CLIENTS)]
for c in clients:
    c.start()
for kill in range(KILLS):
    # Spread over the run by what has been answered, not by time.
    while answered[0] < kill * CLIENTS * REQUESTS // (KILLS + 2) and any(c.is_alive() for c in clients):
        clients[0].join(0.001)
    victim = random.randrange(WORKERS)
    os.kill(workers[victim], signal.SIGKILL)
    os.waitpid(workers[victim], 0)
    workers[victim] = start()
for c in clients:
    c.join()
for pid in workers:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
assert not wrong, wrong
assert answered[0] == CLIENTS * REQUESTS, answered
