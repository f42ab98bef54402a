#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
#
# Runs the Spin models and prints TAP, two searches at a time. Each sound configuration must be searched completely and
# without an error; each planted bug must be found. Full state storage only: no bitstate, no hash compaction. What each
# one explores is in README.md. Needs spin and a C compiler, and no files but a temporary folder.
#
# run.sh          what fits in a minute and a half on two cores, and the planted bugs: under 1 GB of memory
# run.sh --all    everything: up to 6 GB
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
lanes=
# shellcheck disable=SC2086 # a list of pids
trap 'kill $lanes 2>/dev/null; wait; rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
cd "$work" || exit 1
mkfifo results || exit 1
jobs=0

# job KIND NAME MODEL SWITCHES [DEPTH]: queued, if it is wanted
job()
{
	[ -z "$only" ] || [ "$only" = --all ] || [ "$only" = "$2" ] || return 0
	jobs=$((jobs + 1))
	mkdir "$jobs" || exit 1
	printf '%s\n' "$1" "$2" "$3" "$4" "${5:-50000}" >"$jobs/job"
}

# NAME MODEL SWITCHES: no error in any reachable state
holds()
{
	job holds "$@"
}

# NAME MODEL SWITCHES [DEPTH]: a planted bug is reported. Processes are tried in reverse order because that happens to
# meet these bugs early; a depth limit only makes the search miss more.
finds()
{
	job finds "$@"
}

# search CFLAGS: in the job's folder; the verifier's report is in `out`. The lane waits for it so that it can be stopped.
search()
{
	cp "$dir"/*.pml . || return 1
	# shellcheck disable=SC2086 # lists of switches
	spin -a $switches "$model.pml" >out 2>&1 && $cc $1 -w -DSAFETY -DCOLLAPSE -DMEMLIM=2900 -o pan pan.c >>out 2>&1 ||
		return 1
	./pan -E "-m$depth" "-w$2" >out 2>&1 &
	searching=$!
	wait "$searching"
}

states()
{
	sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' out
}

# the job in this folder: a line with its number to `results`
run()
{
	{ read -r kind && read -r name && read -r model && read -r switches && read -r depth; } <job
	if [ "$kind" = holds ] && search -O2 24 && grep -q 'errors: 0$' out &&
	    ! grep -qi 'search not completed\|max search depth\|out of memory' out; then
		echo "$i ok $name: holds in all $(states) states"
	elif [ "$kind" = finds ] && search '-O0 -DP_REVERSE' 20 && grep -q 'assertion violated' out &&
	    grep -q 'errors: 1$' out; then
		echo "$i ok $name: found after $(states) states"
	else
		echo "$i not ok $name: $kind"
	fi >&3
	rm -f pan pan.* ./*.pml ./*.trail
}

# Takes jobs that nobody has taken, until there is none.
lane()
{
	searching=
	trap 'kill $searching 2>/dev/null; exit 1' TERM
	i=1
	while [ "$i" -le "$jobs" ]; do
		if mkdir "$i/taken" 2>/dev/null; then
			cd "$i" || exit 1
			run
			cd "$work" || exit 1
		fi
		i=$((i + 1))
	done
}

# The long ones, the longest first.
if [ -n "$only" ]; then
@LONG@
fi

# The quick ones.
@QUICK@

# The planted bugs: the protocol with one rule broken.
@BUGS@

if [ "$jobs" = 0 ]; then
	echo "run.sh: no model of that name: $only" >&2
	exit 2
fi
(lane) 3>results &
lanes=$!
(lane) 3>results &
lanes="$lanes $!"
n=0
failed=0
while read -r i verdict; do
	n=$((n + 1))
	case $verdict in
	not*)
		failed=1
		echo "not ok $n -${verdict#not ok}"
		sed 's/^/# /' "$i/out"
		;;
	*)
		echo "ok $n -${verdict#ok}"
		;;
	esac
done <results
lanes=
[ "$n" = "$jobs" ] || failed=1
echo "1..$jobs"
exit $failed
