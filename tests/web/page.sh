#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
# The broker's page in a headless Chromium, on a PostgreSQL of its own. PGLEASE_WEB_SECONDS: how long it is watched for growth.

: "${PGLEASE_BUILDDIR:?is not set: run it by make check}"
dir=$(cd "$(dirname "$0")" && pwd)
# The environment's own broker is idle: the page's brokers come and go.
PYTHONDONTWRITEBYTECODE=yes exec "$PGLEASE_BUILDDIR/pglease-testenv" -p spare:1 -- python3 "$dir/page.py"
