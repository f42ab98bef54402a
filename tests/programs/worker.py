# SPDX-License-Identifier: PostgreSQL
"""A worker with psycopg2: NAME ROUNDS; each round on a connection of its own."""
import random
import sys

import psycopg2

name, rounds = sys.argv[1], int(sys.argv[2])
for n in range(rounds):
    conn = psycopg2.connect("")
    with conn, conn.cursor() as cursor:
        delta = random.randint(-5000, 5000)
        cursor.execute("prepare pay (bigint, int) as update account set balance = balance + $1 where id = $2")
        cursor.execute("execute pay (%s, %s)", (delta, random.randint(1, 10)))
        cursor.execute("insert into history values (%s, %s, %s)", (name, n, delta))
    conn.close()
