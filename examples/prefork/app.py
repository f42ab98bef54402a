# SPDX-License-Identifier: PostgreSQL
"""A web application as there are many: each request connects, does a transaction, and closes. It knows nothing of pools.

Where its PostgreSQL is, PGHOST and the like say."""
import json
import os
import random

import psycopg2


def application(environ, start_response):
    conn = psycopg2.connect("")
    try:
        with conn, conn.cursor() as cursor:
            delta = random.randint(-5000, 5000)
            cursor.execute(
                "update account set balance = balance + %s where id = %s returning balance",
                (delta, random.randint(1, 1000)),
            )
            balance = cursor.fetchone()[0]
            cursor.execute("insert into history (delta, worker) values (%s, %s)", (delta, os.getpid()))
    finally:
        conn.close()
    body = json.dumps({"balance": balance}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
