#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
#
# Runs the Spin models and prints TAP, two searches at a time. Each sound configuration must be searched completely and
# without an error; each planted bug must be found. Full state storage only: no bitstate, no hash compaction. What each
# one explores is in README.md. Needs spin and a C compiler, and no files but a temporary folder.
#
# run.sh          what fits in a minute and a half on two cores, and the planted bugs: under 1 GB of memory
# run.sh --all    everything: some twelve minutes, up to 10 GB
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

# The same for one of few states.
small()
{
	job small "$@"
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
	spin -a $switches "$model.pml" >out 2>&1 && $cc $1 -w -DSAFETY -DCOLLAPSE -DMEMLIM=6000 -o pan pan.c >>out 2>&1 ||
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
	case $kind in
	small) flags=-O0 bits=22 ;; # compiled sooner than searched
	holds) flags=-O2 bits=26 ;;
	finds) flags='-O0 -DP_REVERSE' bits=20 ;;
	esac
	search "$flags" "$bits"
	if [ "$kind" != finds ] && grep -q 'errors: 0$' out &&
	    ! grep -qi 'search not completed\|max search depth\|out of memory' out; then
		echo "$i ok $name: holds in all $(states) states"
	elif [ "$kind" = finds ] && grep -q 'assertion violated' out &&
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
	holds lease-all-crash-1 lease '-DHELD=3 -DCRASH=2 -DBCRASH=1 -DRING=8'
	holds lease-all-crash-0 lease '-DHELD=3 -DCRASH=1 -DBCRASH=1 -DRING=8 -DHOLDERS=1'
	holds lease-all-detach lease '-DHELD=3 -DOPENING=2 -DDETACH=2 -DRING=8 -DHOLDERS=1'
	holds lease-all-broker lease '-DHELD=3 -DOPENING=2 -DMAINT=1 -DBROKEN=1 -DHOLDERS=1'
	holds lease-all-crash-1-held lease '-DHELD=3 -DCRASH=2 -DRING=8 -DHOLDERS=1'
	holds lease-all-session lease '-DHELD=3 -DOPENING=2 -DAHEAD=1 -DLATE=1'
	holds lease-all-again lease '-DHELD=3 -DOPENING=2 -DTIMEOUTS=2 -DHOLDERS=1 -DLAPS2=2'
	holds lease-all-wait lease '-DHELD=3 -DOPENING=1'
	holds lease-all-order lease '-DHELD=1 -DOPENING=2 -DLAPS0=3 -DORDER=1'
	holds lease-all-order-two lease '-DHELD=1 -DLAPS0=2 -DORDER=2'
	holds lease-all-drain lease '-DHELD=3 -DOPENING=2 -DDRAIN=1 -DRING=8 -DHOLDERS=1'
	holds lease-all-cancel lease '-DHELD=3 -DOPENING=2 -DCANCELS=2'
	holds lease-all-detach-crash lease '-DSOLO=1 -DHELD=3 -DOPENING=2 -DDETACH=2 -DCRASH=3 -DRING=8'
	holds lease-all-renew lease '-DSOLO=1 -DHELD=3 -DRENEW=1 -DCRASH=2 -DRING=8 -DDRAIN=1 -DHOLDERS=1'
	holds lease-all-keep-crash lease '-DSOLO=1 -DHELD=3 -DOPENING=2 -DKEEPS=2 -DCRASH=3 -DBCRASH=1 -DRING=8 -DHOLDERS=1 -DLAPS2=2'
	holds queue-all-waiters queue ''
	holds queue-all-helpers queue '-DNW=1 -DNG=2 -DROUNDS=4'
fi

# The quick ones.
small lease-start lease '-DTIMEOUTS=2 -DHOLDERS=1'
small lease-wait lease '-DHELD=3 -DOPENING=2 -DTIMEOUTS=1'
small lease-cancel lease '-DSOLO=1 -DHELD=3 -DOPENING=2 -DCANCELS=2 -DLAPS0=2 -DAHEAD=1'
small lease-session lease '-DSOLO=1 -DHELD=3 -DOPENING=2 -DMAINT=1 -DLATE=1 -DUNUSED=1 -DAHEAD=1 -DCLEAN=1'
small lease-doubt lease '-DSOLO=1 -DHELD=3 -DOPENING=2 -DCANCELS=1 -DLATE=1 -DAHEAD=1 -DBROKEN=1'
small lease-broker lease '-DSOLO=1 -DHELD=3 -DMAINT=1 -DBROKEN=1 -DHOLDERS=1 -DTIMEOUTS=1'
small lease-crash lease '-DSOLO=1 -DHELD=3 -DOPENING=2 -DCRASH=3 -DBCRASH=1 -DRING=8 -DHOLDERS=1 -DAHEAD=1'
small lease-crash-broker lease '-DHELD=3 -DOPENING=2 -DBCRASH=1 -DRING=8 -DHOLDERS=1'
small lease-crash-taken lease '-DSOLO=1 -DHELD=3 -DOPENING=2 -DCRASH=2 -DMAINT=1 -DRING=8 -DHOLDERS=1'
small lease-rebirth lease '-DSOLO=1 -DHELD=3 -DOPENING=2 -DCRASH=3 -DRING=8 -DREBIRTH -DHOLDERS=1 -DCLEAN=1'
small lease-goodbye lease '-DSOLO=1 -DHELD=3 -DGOODBYE=1 -DRING=8 -DREBIRTH -DHOLDERS=1 -DLAPS0=2 -DTIMEOUTS=1'
small lease-detach lease '-DSOLO=1 -DHELD=3 -DOPENING=2 -DDETACH=2 -DTIMEOUTS=1 -DLAPS0=2 -DRING=8'
small lease-drain lease '-DSOLO=1 -DHELD=3 -DCRASH=3 -DDRAIN=1 -DRING=8 -DHOLDERS=1'
small lease-pause lease '-DSOLO=1 -DHELD=3 -DDRAIN=1 -DPAUSE=1 -DRING=8 -DTIMEOUTS=1'
small lease-pause-crash lease '-DSOLO=1 -DHELD=3 -DCRASH=3 -DDRAIN=1 -DPAUSE=1 -DRING=8 -DHOLDERS=1'
small lease-renew lease '-DSOLO=1 -DHELD=3 -DOPENING=2 -DRENEW=2 -DMAINT=1 -DCANCELS=1'
small lease-unpooled lease '-DSOLO=1 -DHELD=3 -DUNPOOLED=1 -DTIMEOUTS=1 -DHOLDERS=1 -DLAPS0=2'
small lease-order lease '-DSOLO=1 -DHELD=1 -DOPENING=2 -DLAPS0=4 -DORDER=1'
small lease-keep lease '-DHELD=3 -DOPENING=2 -DKEEPS=1 -DTIMEOUTS=1'
small lease-keep-crash lease '-DSOLO=1 -DHELD=3 -DOPENING=2 -DKEEPS=1 -DCRASH=3 -DRING=8 -DHOLDERS=1'
small watch watch ''
small counters counters ''
small queue-waiters queue '-DTURNS=2'
small queue-helpers queue '-DNW=1 -DNG=2 -DROUNDS=3 -DTURNS=2'

# The planted bugs: the protocol with one rule broken.
finds bug-grant-to-process lease '-DHELD=3 -DOPENING=2 -DTIMEOUTS=1 -DBUG_A'
finds bug-release-without-sequence lease '-DDOUBLE -DBUG_B'
finds bug-no-wake-by-broker lease '-DHELD=3 -DOPENING=1 -DHOLDERS=1 -DBUG_C'
finds bug-row-freed-before-sweep lease '-DSOLO=1 -DHELD=3 -DCRASH=3 -DRING=8 -DBUG_D'
finds bug-rescan-before-enqueue lease '-DBUG_E'
finds bug-cancel-checked-before-flag lease '-DCANCELS=1 -DBUG_F'
finds bug-s10-forgets-owed lease '-DSOLO=1 -DHELD=3 -DOPENING=2 -DAHEAD=1 -DMAINT=1 -DBUG_S10'
finds bug-s11-forgets-owed lease '-DSOLO=1 -DHELD=3 -DOPENING=2 -DAHEAD=1 -DTIMEOUTS=1 -DBUG_S11'
finds bug-reset-sent-after-s9 lease '-DSOLO=1 -DHELD=3 -DOPENING=2 -DAHEAD=1 -DBUG_AHEAD'
finds bug-half-an-answer-owed lease '-DSOLO=1 -DHELD=3 -DOPENING=2 -DAHEAD=1 -DLATE=1 -DBUG_PART'
finds bug-fenced-once lease '-DSOLO=1 -DHELD=3 -DDETACH=3 -DHOLDERS=1 -DRING=8 -DBUG_FENCE'
finds bug-misnamed-grant-left lease '-DSOLO=1 -DHELD=3 -DOPENING=2 -DDETACH=2 -DTIMEOUTS=1 -DLAPS0=2 -DRING=8 -DBUG_TICK'
finds bug-waits-for-a-dead-broker lease '-DSOLO=1 -DHELD=3 -DOPENING=2 -DBCRASH=1 -DHOLDERS=1 -DRING=8 -DBUG_CUTOFF'
finds bug-drain-posts-nobody lease '-DSOLO=1 -DHELD=3 -DOPENING=2 -DDRAIN=1 -DHOLDERS=1 -DRING=8 -DBUG_DRAIN'
finds bug-resume-opens-nothing lease '-DSOLO=1 -DHELD=3 -DDRAIN=1 -DPAUSE=1 -DRING=8 -DBUG_RESUME'
finds bug-never-granted lease '-DSOLO=1 -DHELD=1 -DOPENING=2 -DLAPS0=4 -DORDER=1 -DBUG_ORDER'
finds bug-kept-unwatched lease '-DHELD=3 -DOPENING=2 -DKEEPS=1 -DBUG_KEEP'
finds bug-watcher-sought-before-s8 lease '-DHELD=3 -DOPENING=2 -DKEEPS=1 -DTIMEOUTS=1 -DBUG_WATCH'
finds bug-broker-looks-then-stores watch -DBUG_LOOK
finds bug-lessee-looks-before-s8 watch -DBUG_EARLY
finds bug-block-stays counters -DBUG_BLOCK
# The protocol and the code as they were, one rule each that they lacked.
finds draft-leaver-passes-nothing-on lease '-DHELD=3 -DOPENING=1 -DHOLDERS=1 -DOLD_LEAVE' 110
finds draft-second-grant-left lease '-DOLD_SECOND_GRANT'
finds draft-death-order lease '-DSOLO=1 -DHELD=3 -DOPENING=2 -DCRASH=1 -DRING=8 -DOLD_DEATH_ORDER'
finds draft-no-second-post lease '-DHELD=3 -DCRASH=2 -DRING=8 -DHOLDERS=1 -DOLD_REPOST'
finds draft-granted-not-posted lease '-DSOLO=1 -DHELD=3 -DOPENING=2 -DCRASH=2 -DMAINT=1 -DRING=8 -DHOLDERS=1 -DOLD_REPOST_GRANTED'
finds draft-client-not-forgotten lease '-DCRASH=1 -DRING=8 -DREBIRTH -DOLD_FORGET'
finds draft-own-traces-lost-by-s11 lease '-DHELD=1 -DOPENING=2 -DTIMEOUTS=1 -DOLD_DIRTY' 110
finds draft-doubt-not-told lease '-DSOLO=1 -DHELD=3 -DOPENING=2 -DAHEAD=1 -DLATE=1 -DCANCELS=1 -DOLD_DOUBT'
finds draft-newer-ticket-is-hole queue '-DNW=1 -DNG=2 -DROUNDS=4 -DOLD_HOLE'
finds draft-passer-chases queue '-DOLD_TAIL'
finds draft-dirty-given-on-untold watch -DOLD_UNTOLD
finds draft-block-of-the-next counters -DOLD_BLOCK

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
