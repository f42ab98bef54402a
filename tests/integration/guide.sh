#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
# doc/guide.md and its kin, checked by guide.py in an environment of their own.

: "${PGLEASE_BUILDDIR:?is not set: run it by make check}"
PATH=$PGLEASE_BUILDDIR:$PATH exec pglease-testenv -p app:2 -- python3 "$PGLEASE_SRCDIR/tests/integration/guide.py"
