#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
# Runs the example without a framework as a test of ours.
if "$PGLEASE_BUILDDIR/example_sum"; then
	echo 'ok 1 - examples/testkit/test_sum.c'
else
	echo 'not ok 1 - examples/testkit/test_sum.c'
fi
echo '1..1'
