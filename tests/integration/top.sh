#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
# pgleasestat --top in a real terminal multiplexer: what it shows, its keys, other sizes, and the terminal that it leaves.

: "${PGLEASE_BUILDDIR:?is not set: run it by make check}"
if [ -z "${PGLEASE_TOP_INSIDE-}" ]; then
	# Inside an environment with two pools; the file is read again there.
	PATH=$PGLEASE_BUILDDIR:$PATH PGLEASE_TOP_INSIDE=yes exec pglease-testenv -p app:3,jobs:2 -- "$0"
fi
# shellcheck source=tests/integration/terminal.sh
. "$PGLEASE_SRCDIR/tests/integration/terminal.sh"

has() {
	screen top | grep -q -e "$1"
}

has_not() {
	! has "$1"
}

# The screen comes to have this (a regular expression), or to have it no more.
shows() {
	await has "$1"
}

lacks() {
	await has_not "$1"
}

is() {
	tests=$((tests + 1))
	name=$1
	shift
	if "$@"; then
		printf 'ok %d - %s\n' "$tests" "$name"
	else
		printf 'not ok %d - %s\n' "$tests" "$name"
		screen top | sed 's/^/# /'
	fi
}

press() {
	tmux send-keys -t top "$@"
}

# The first column of the first row.
first() {
	screen top | sed -n '6s/ .*//p'
}

is_first() {
	[ "$(first)" = "$1" ]
}

first_is() {
	await is_first "$1"
}

width_is() {
	screen top | awk -v most="$1" 'length($0) > most { exit 1 }'
}

tmux new-session -d -s top -x 80 -y 24 'sh -c "stty -g >'"$dir"'/before; echo READY; exec sh"'
shows READY || { echo 'Bail out! no shell in tmux'; exit 1; }
press 'pgleasestat --top -w 0.2' Enter
is 'the instance and its health' shows '^pglease .*up .*: ok'
is 'both pools' shows '^jobs '
is 'what is open, of what may be' shows ' of .* leased, at most 5; 0 waiting'
first_is app
press '>' '>' '>' '>' '>'
is 'sorted by another column' shows '^Pools by MAX'
is "the largest first" first_is app
press r
is 'and the other way round' first_is jobs
press S
is 'slots' shows '^Slots by HELD'
press /
press j o b
is 'filtered' shows 'with "job_'
press Enter
is 'nothing else is shown' lacks '^app '
press Escape
is 'and again all of it' shows '^app '

# Somebody leases, from a place of his own.
mkfifo "$dir/say"
pglease-run -- psql -qAt "$(printenv PGLEASE_TEST_CONNINFO)" <"$dir/say" >"$dir/psql" 2>&1 &
leasing=$!
exec 9>"$dir/say"
is 'a lease, as soon as it is there' shows 'leased .*[0-9]'
press C
is 'and its process among the clients' shows 'psql'
exec 9>&-
wait "$leasing"
is 'when it has ended it is gone' lacks 'psql'

# Leases all the time: a character of several bytes for each interval.
yes '\c' >"$dir/say" &
saying=$!
pglease-run -- psql -qX <"$dir/say" >"$dir/psql" 2>&1 &
leasing=$!
press P
is 'a column for each interval' shows '[▁▂▃▄▅▆▇█]\{9\}$'
kill "$saying"
wait "$saying" 2>"$dir/said"
wait "$leasing"

press P
press Space
is 'paused' shows 'paused; h: help'
press Space
is 'and not' shows 'every 200ms; h: help'
press +
is 'slower' shows 'every 400ms'
press h
is 'help has every key' shows 'Escape drops it'
press h
is 'and goes' shows '^Pools by'
tmux resize-window -t top -x 50 -y 12
is 'a small window: the columns that fit' shows '^app .*ok'
is 'and no more' width_is 50
# The first line is longer than that.
is 'nothing is written over the beginning of a line' shows '^pglease '
tmux resize-window -t top -x 200 -y 50
is 'a large one has more of them' shows 'QUERY99'
press q
press 'stty -g >'"$dir"'/after; echo ENDED' Enter
is 'the key ends it' shows '^ENDED'
is 'the terminal is as it was' cmp "$dir/before" "$dir/after"

for signal in TERM HUP INT QUIT; do
	press clear Enter
	press "pgleasestat --top" Enter
	shows '^Pools by'
	pid=$(pgrep -P "$(tmux display-message -p -t top '#{pane_pid}')" pgleasestat)
	kill "-$signal" "$pid"
	press "stty -g >$dir/after; echo AFTER-$signal" Enter
	shows "^AFTER-$signal"
	is "SIG$signal ends it, and the terminal is as it was" cmp "$dir/before" "$dir/after"
done

# Without a terminal.
pgleasestat --top </dev/null >"$dir/out" 2>"$dir/err"
is 'without a terminal it says so' grep -q 'needs a terminal' "$dir/err"
pgleasestat --top -J >"$dir/out" 2>"$dir/err"
is 'what does not go with it is named' grep -q 'of its own' "$dir/err"
echo "1..$tests"
