# SPDX-License-Identifier: PostgreSQL
"""load.py SOCKET CLIENTS SECONDS: requests to the application, by so many clients at a time. Prints a line of numbers:
requests per second, milliseconds at the median and at the 99th percentile, failed requests."""
import socket
import sys
import threading
import time

path, clients, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
times, failed = [[] for _ in range(clients)], [0] * clients
end = time.monotonic() + seconds


def request():
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        s.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
        answer = b""
        while chunk := s.recv(4096):
            answer += chunk
    return answer.split(b"\r\n", 1)[0].split()[1:2] == [b"200"]


def client(i):
    while (begin := time.monotonic()) < end:
        try:
            good = request()
        except OSError:
            good = False
        if good:
            times[i].append(time.monotonic() - begin)
        else:
            failed[i] += 1


threads = [threading.Thread(target=client, args=(i,)) for i in range(clients)]
for t in threads:
    t.start()
for t in threads:
    t.join()
every = sorted(sum(times, []))
if not every:
    sys.exit("no request was answered")
print("%.0f %.1f %.1f %d" % (len(every) / seconds, 1e3 * every[len(every) // 2], 1e3 * every[len(every) * 99 // 100], sum(failed)))
