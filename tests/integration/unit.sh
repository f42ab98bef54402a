#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
# What systemd says of the unit, without one that runs: that it is sound, and how much it could do (0 nothing, 100 everything).

: "${PGLEASE_BUILDDIR:?is not set: run it by make check}"
dir=$(mktemp -d "${TMPDIR:-/tmp}/pglease-unit-XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT
tests=0

is() {
	tests=$((tests + 1))
	name=$1
	shift
	if "$@" >"$dir/out" 2>&1; then
		printf 'ok %d - %s\n' "$tests" "$name"
	else
		printf 'not ok %d - %s\n' "$tests" "$name"
		sed 's/^/# /' "$dir/out"
	fi
}

# The programs as they were built: systemd looks whether they are there.
unit=$dir/pgleased@main.service
is 'the unit is made' sed -e "s|=[^ ]*/pgleased |=$PGLEASE_BUILDDIR/pgleased |" -e "s|=[^ ]*/pgleasectl |=$PGLEASE_BUILDDIR/pgleasectl |" \
	"$PGLEASE_BUILDDIR/etc/systemd/pgleased@.service"
cp "$dir/out" "$unit"
# shellcheck disable=SC2016 # the inner shell's
is 'systemd finds nothing wrong with it' sh -c 'systemd-analyze verify --man=no "$1" 2>&1 | (! grep -F pgleased)' sh "$unit"
# And the socket's, beside it.
cp "$PGLEASE_SRCDIR/etc/systemd/pgleased@.socket" "$dir/pgleased@main.socket"
# shellcheck disable=SC2016
is 'systemd finds nothing wrong with the socket' \
	sh -c 'cd "$1" && systemd-analyze verify --man=no ./pgleased@main.socket 2>&1 | (! grep -F pgleased)' sh "$dir"
is 'its exposure is below 2 of 10' systemd-analyze security --offline=true --threshold=20 "$unit"
# monitor_group is a fchown, and @chown is part of @privileged: what is allowed last counts.
# shellcheck disable=SC2016
is 'what is published can be given to a group' sh -c 'grep ^SystemCallFilter= "$1" | tail -n 1 | grep -qw @chown && systemd-analyze syscall-filter @chown | grep -qw fchown' sh "$unit"
is 'nothing is left to be filled in' sh -c '! grep "@[a-z]*@" "$1"' sh "$unit"
is 'sysusers.d is read without a complaint' systemd-sysusers --dry-run "$PGLEASE_SRCDIR/etc/systemd/pglease.sysusers"
printf '1..%d\n' "$tests"
