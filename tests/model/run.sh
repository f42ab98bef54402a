#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
#
# Runs the Spin models and prints TAP. Each sound configuration must be searched completely and without an error; each
# planted bug must be found. Full state storage only: no bitstate, no hash compaction. What each one explores is in
# README.md. Needs spin and a C compiler, under 3 GB of memory, and no files but a temporary folder.
#
# run.sh          what fits in two minutes, and the planted bugs
# run.sh --all    everything
# run.sh NAME     one of them

only=${1-}
dir=${PGLEASE_SRCDIR:+$PGLEASE_SRCDIR/tests/model}
: "${dir:=$(cd "$(dirname "$0")" && pwd)}"
cc=${CC:-cc}

if ! command -v spin >/dev/null 2>&1; then
	echo "1..0 # SKIP spin is not installed"
	exit 0
fi
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
cp "$dir"/lease.pml "$dir"/broker.pml "$dir"/queue.pml "$work"/ || exit 1
cd "$work" || exit 1

n=0
failed=0

# result OK? TEXT
result()
{
	n=$((n + 1))
	if "$1"; then
		echo "ok $n - $2"
	else
		failed=1
		echo "not ok $n - $2"
		sed 's/^/# /' out
	fi
}

# build MODEL SWITCHES CFLAGS: the verifier, as ./pan
build()
{
	rm -f pan pan.*
	# shellcheck disable=SC2086 # lists of switches
	spin -a $2 "$1.pml" >out 2>&1 && $cc $3 -w -DSAFETY -DCOLLAPSE -DMEMLIM=2900 -o pan pan.c >>out 2>&1
}

wanted()
{
	[ -z "$only" ] || [ "$only" = --all ] || [ "$only" = "$1" ]
}

# holds NAME MODEL SWITCHES: no error in any reachable state
holds()
{
	wanted "$1" || return 0
	if build "$2" "$3" -O2 && ./pan -E -m50000 -w25 >out 2>&1 && grep -q 'errors: 0$' out &&
	    ! grep -qi 'search not completed\|max search depth\|out of memory' out; then
		result true "$1: holds in all $(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' out) states"
	else
		result false "$1"
	fi
}

# finds NAME MODEL SWITCHES [DEPTH]: a planted bug is reported. Processes are tried in reverse order because that
# happens to meet these bugs early; a depth limit only makes the search miss more.
finds()
{
	wanted "$1" || return 0
	if build "$2" "$3" '-O0 -DP_REVERSE' && ./pan -E "-m${4:-50000}" -w22 >out 2>&1 &&
	    grep -q 'assertion violated' out && grep -q 'errors: 1$' out; then
		result true "$1: found after $(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' out) states"
	else
		result false "$1: not found"
	fi
}

# The quick ones.
holds lease-start lease '-DTIMEOUTS=2 -DHOLDERS=1'
holds lease-wait lease '-DHELD=3 -DOPENING=1'
holds lease-cancel lease '-DHELD=3 -DCANCELS=2'
holds lease-crash lease '-DSOLO=1 -DHELD=3 -DOPENING=2 -DCRASH=3 -DRING=8 -DTIMEOUTS=1 -DHOLDERS=1'
holds lease-rebirth lease '-DSOLO=1 -DHELD=3 -DOPENING=2 -DCRASH=3 -DRING=8 -DREBIRTH -DHOLDERS=1'
holds lease-broker lease '-DSOLO=1 -DHELD=3 -DMAINT=2 -DBROKEN=1 -DHOLDERS=1 -DTIMEOUTS=1'
holds queue-waiters queue '-DTURNS=2'
holds queue-helpers queue '-DNW=1 -DNG=2 -DROUNDS=3 -DTURNS=2'

# The long ones.
if [ -n "$only" ]; then
	holds lease-all-wait lease '-DHELD=3 -DOPENING=1 -DHOLDERS=1 -DTIMEOUTS=1'
	holds lease-all-again lease '-DHELD=3 -DOPENING=2 -DTIMEOUTS=2 -DHOLDERS=1 -DAGAIN=2'
	holds lease-all-broker lease '-DHELD=3 -DOPENING=2 -DMAINT=1 -DBROKEN=1 -DHOLDERS=1'
	holds lease-all-crash-0 lease '-DHELD=3 -DCRASH=1 -DRING=8 -DHOLDERS=1'
	holds lease-all-crash-1 lease '-DHELD=3 -DCRASH=2 -DRING=8 -DHOLDERS=1'
	holds queue-all-waiters queue ''
	holds queue-all-helpers queue '-DNW=1 -DNG=2 -DROUNDS=4'
fi

# The planted bugs: the protocol with one rule broken.
finds bug-grant-to-process lease '-DHELD=3 -DOPENING=1 -DTIMEOUTS=1 -DBUG_A'
finds bug-release-without-sequence lease '-DDOUBLE -DBUG_B'
finds bug-no-wake-by-broker lease '-DHELD=3 -DOPENING=1 -DHOLDERS=1 -DBUG_C'
finds bug-row-freed-before-sweep lease '-DSOLO=1 -DHELD=3 -DCRASH=3 -DRING=8 -DBUG_D'
finds bug-rescan-before-enqueue lease '-DBUG_E'
finds bug-cancel-flag-without-check lease '-DCANCELS=1 -DBUG_F'
# The first draft of the protocol, one rule each that it lacked.
finds draft-leaver-passes-nothing-on lease '-DHELD=3 -DOPENING=1 -DHOLDERS=1 -DOLD_LEAVE'
finds draft-second-grant-left lease '-DOLD_SECOND_GRANT'
finds draft-death-order lease '-DHELD=3 -DCRASH=1 -DRING=8 -DOLD_DEATH_ORDER'
finds draft-no-second-post lease '-DHELD=3 -DCRASH=2 -DRING=8 -DHOLDERS=1 -DOLD_REPOST'
finds draft-client-not-forgotten lease '-DCRASH=1 -DRING=8 -DREBIRTH -DOLD_FORGET'
finds draft-dirty-lost-by-broker lease '-DHELD=1 -DOPENING=2 -DCRASH=1 -DRING=8 -DOLD_DIRTY' 110
finds draft-newer-ticket-is-hole queue '-DNW=1 -DNG=2 -DROUNDS=4 -DOLD_HOLE'
finds draft-passer-chases queue '-DOLD_TAIL'

if [ "$n" = 0 ]; then
	echo "run.sh: no model of that name: $only" >&2
	exit 2
fi
echo "1..$n"
exit $failed
