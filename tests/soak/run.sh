#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
# Half a minute of the soak, as a test. Another seed each time; it is printed, and PGLEASE_SOAK_SEED repeats it.
echo 1..1
if "$PGLEASE_BUILDDIR/soak-workers" "${PGLEASE_SOAK_SECONDS-30}" "${PGLEASE_SOAK_SEED-}" 2>&1; then
	echo "ok 1 - soak"
else
	echo "not ok 1 - soak"
	exit 1
fi
