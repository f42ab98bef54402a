#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
# pgleasectl and pgleased at the command line: a broker whose server is not there, so that no PostgreSQL is needed.

: "${PGLEASE_BUILDDIR:?is not set: run it by make check}"
dir=$(mktemp -d "${TMPDIR:-/tmp}/pgleasectl-XXXXXX") || exit 1
chmod 755 "$dir"
instance=ctl-$$
tests=0
unset PGLEASE_INSTANCE
PGLEASE_SOCKET_DIR=$dir/run
export PGLEASE_SOCKET_DIR

ctl() {
	"$PGLEASE_BUILDDIR/pgleasectl" -n "$instance" "$@" >"$dir/out" 2>"$dir/err"
}

broker() {
	"$PGLEASE_BUILDDIR/pgleased" "$@" >"$dir/out" 2>"$dir/err"
}

finish() {
	if [ -S "$dir/run/control" ]; then
		ctl -t 0 stop
	fi
	rm -rf "$dir"
}
trap finish EXIT
trap 'exit 1' INT TERM

# config NAME LINE...: a configuration with these lines in [pglease].
config() {
	file=$dir/$1.ini
	shift
	{
		printf '[pglease]\ninstance = %s\nsocket_dir = %s/run\ndata_dir = %s/data\n' "$instance" "$dir" "$dir"
		printf '%s\n' "$@"
		printf "[pool app]\nconninfo = host='%s/nowhere' user=nobody password=s3cret\nconnect_timeout = 1s\n" "$dir"
		printf '[pool two]\nconninfo = host=%s/nowhere user=nobody\nmin_connections = 0\n' "$dir"
	} >"$file"
}

# is NAME COMMAND...: one test; what was said is shown when it fails.
is() {
	tests=$((tests + 1))
	name=$1
	shift
	if "$@"; then
		printf 'ok %d - %s\n' "$tests" "$name"
	else
		printf 'not ok %d - %s\n' "$tests" "$name"
		sed 's/^/# out: /' "$dir/out"
		sed 's/^/# err: /' "$dir/err"
	fi
}

# status N COMMAND...: it ends with this status, and when that is not 0, with one line on stderr that begins with the
# program's name.
status() {
	wanted=$1
	shift
	"$@"
	got=$?
	[ "$got" -eq "$wanted" ] || { printf '# status %d\n' "$got"; return 1; }
	[ "$wanted" -eq 0 ] || { [ "$(wc -l <"$dir/err")" -eq 1 ] && grep -q '^pgleas[a-z]*: ' "$dir/err"; }
}

# refused WORD COMMAND...: status 1 and one line that has this word.
refused() {
	word=$1
	shift
	status 1 "$@" && grep -qF -- "$word" "$dir/err"
}

says() {
	grep -qE -- "$1" "$dir/out"
}

# What pgleased refuses to start with, in the foreground and with -d: the reason on one line, status 1.
for d in '' -d; do
	is "no such file $d" refused 'no-such-file' broker $d -c "$dir/no-such-file"
	config bad 'nonsense = 1'
	is "bad configuration $d" refused 'nonsense' broker $d -c "$dir/bad.ini"
	config long "; a comment"
	is "bad name $d" refused 'bad name' broker $d -c "$dir/long.ini" -n 'a b'
	printf 'my diary\n' >"$dir/diary"
	config diary "pid_file = $dir/diary"
	is "a pid file that is none $d" refused 'no pid file' broker $d -c "$dir/diary.ini"
	config nodir "pid_file = $dir/no/pid"
	is "a pid file that cannot be made $d" refused 'cannot make' broker $d -c "$dir/nodir.ini"
	config link "pid_file = $dir/link"
	ln -sf "$dir/diary" "$dir/link"
	is "a pid file that is a link $d" refused 'cannot make' broker $d -c "$dir/link.ini"
done
is 'the diary is untouched' grep -qx 'my diary' "$dir/diary"
is 'nothing is left of those' test ! -e "$dir/run"
is 'unknown option' refused "'-x'" broker -x
is 'a value too many' refused "'--json=x'" ctl --json=x status
is 'unknown long option' refused "'--nonsense'" broker --nonsense
is 'option without its value' refused "'-c' needs" broker -c
is 'unexpected argument' status 1 broker main
is 'help' status 0 broker -h
is 'help goes to stdout' says '^Usage: pgleased'
is 'version' status 0 broker -V
is 'version says which' says '^pgleased .*[0-9]'

# Without a broker.
is 'no instance' status 2 ctl status
is 'the message says where it looked' grep -qF "$dir/run" "$dir/err"
for wrong in '' 'nonsense' 'kill' 'disable' 'enable a/b' 'pause app two' '-J pause' 'show' 'status app' 'drain app two' '-t -1 drain' '-t x drain' '-J drain' '-x' '-n' "drain a/b"; do
	# shellcheck disable=SC2086 # words
	is "usage: '$wrong'" status 1 ctl $wrong
done
is 'no instance has such a name' status 1 ctl -n 'a b' status
is 'help' status 0 ctl -h
for verb in status show pause drain kill resume disable enable reconnect wait-close revoke set reload restart stop; do
	is "help names $verb" says "^  $verb "
done
is 'version' status 0 ctl -V

# With one. A pid file of a killed broker is replaced, that of a living one is not.
printf '999999999\n' >"$dir/pid"
config good "pid_file = $dir/pid"
is 'a broker starts in the background' status 0 broker -d -c "$dir/good.ini"
is 'it said nothing' test ! -s "$dir/err"
pid=$(cat "$dir/pid")
is 'its pid file says who it is' kill -0 "$pid"
sed "s/^instance = .*/instance = other-$$/; s|^socket_dir = .*|socket_dir = $dir/other|" "$dir/good.ini" >"$dir/other.ini"
is 'another one may not have the pid file' refused "process $pid, which runs" broker -d -c "$dir/other.ini"
is 'nor the sockets' refused "pid $pid" broker -d -c "$dir/good.ini"
is 'the pid file is as it was' grep -qx "$pid" "$dir/pid"

is 'status' status 0 ctl status
is 'status of a pool that is down' says '^pool app: down, 0 of 5 connections open, .*the server refuses'
is 'status of a pool that wants nothing' says '^pool two: open, 0 of 5 connections open'
is 'status of the instance' says "^instance $instance: open, pid $pid, "
is 'status as JSON' status 0 ctl -J status
is 'JSON has the pid' says "\"pid\": $pid,"
is 'JSON has the pools' says '"pool": "two"'
is 'JSON has the error' says '"upstream_error": ".*nowhere'
is 'and none where there is none' says '"upstream_error": null'
PGLEASE_SOCKET_DIR=/nonexistent
is 'not found by the environment' status 2 ctl status
is 'found by its folder' status 0 ctl -s "$dir/run" status
PGLEASE_SOCKET_DIR=$dir/run
is 'no such folder' status 2 ctl -s "$dir/nowhere" status

is 'drain of a pool' status 0 ctl drain two
is 'it says so' says '^pool two: drained$'
is 'drain of a drained pool' status 0 ctl drain two
ctl status
is 'status shows it' says '^pool two: drained, 0 of 5'
is 'the other is as it was' says '^pool app: down'
is 'resume' status 0 ctl resume two
is 'it says so' says '^pool two: resumed$'
is 'resume of what does not drain' status 0 ctl resume two
is 'it says so' says '^pool two: nothing was paused or draining$'
is 'pause' status 0 ctl pause two
is 'it says so' says '^pool two: paused$'
ctl status
is 'status shows it' says '^pool two: paused, 0 of 5'
is 'resume of a pause' status 0 ctl resume two
is 'kill' status 0 ctl kill two
is 'it is paused then' says '^pool two: paused$'
is 'resume of a kill' status 0 ctl resume two
is 'disable' status 0 ctl disable two
is 'it says so' says '^pool two: disabled, 0 leases are out$'
ctl status
is 'status shows it' says '^pool two: disabled, 0 of 5'
is 'enable' status 0 ctl enable two
is 'it says so' says '^pool two: enabled$'
is 'enable again' status 0 ctl enable two
is 'it says so' says '^pool two: it was not disabled$'
is 'reconnect' status 0 ctl reconnect
is 'it says so' says '^all pools: 0 connections are replaced as they come back$'
is 'wait-close' status 0 ctl wait-close
is 'it says so' says '^all pools: all connections are new$'
is 'show config' status 0 ctl show config
is 'it has what was set' says "^pid_file = $dir/pid\$"
is 'and what was not' says '^drain_timeout = 30s$'
is 'show config of a pool' status 0 ctl show config/app
is 'it has what was set' says '^connect_timeout = 1s$'
is 'words are words' says '^broker_down = wait$'
is 'the conninfo is shown' says "^conninfo = .*user='nobody'"
is 'without its password' says "password='\*\*\*'"
is 'which is nowhere' sh -c '! grep -q s3cret "$1"' sh "$dir/out"
is 'show config as JSON' status 0 ctl -J show config/app
is 'JSON has the pool' says '"pool": "app"'
is 'JSON has settings' says '"setting": "max_connections"'
is 'without the password, too' sh -c '! grep -q s3cret "$1"' sh "$dir/out"
is 'show of an unknown pool' status 3 ctl show config/nope
is 'show of something else' status 3 ctl show tables
is 'unknown pool' status 3 ctl drain nope
is 'the message names it' grep -qF '"nope"' "$dir/err"
is 'drain of all' status 0 ctl drain
is 'it says so' says '^all pools: drained$'
is 'resume of all' status 0 ctl resume

is 'restart' status 0 ctl restart
is 'it says so' says "^instance $instance: restarted as pgleased .*, pid $pid, with 0 connections and 0 clients"
is 'the pid file is as it was' grep -qx "$pid" "$dir/pid"
is 'status after it' status 0 ctl status
is 'restart as JSON' status 0 ctl -J restart
is 'JSON counts them' says '"restarts": 2,'
is 'a limit of no time' status 0 ctl -t 0 restart
printf 'nonsense = 1\n' >>"$dir/good.ini"
is 'restart with a bad configuration' status 3 ctl restart
is 'the message says where' grep -q "good.ini:.*nonsense" "$dir/err"
is 'it serves on' status 0 ctl status

is 'stop' status 0 ctl stop
is 'it says so' says "^instance $instance: stopped$"
is 'the pid file is gone' test ! -e "$dir/pid"
is 'the sockets are gone' test ! -e "$dir/run"
is 'the statistics are gone' test ! -e "/dev/shm/pglease.$instance"
is 'stop again' status 2 ctl stop

# A full disk is noticed.
# shellcheck disable=SC2016 # the inner shell's
is 'help to a full disk' sh -c '"$1" -h >/dev/full 2>/dev/null; test $? -eq 1' sh "$PGLEASE_BUILDDIR/pgleasectl"

printf '1..%d\n' "$tests"
