#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
# pglease-testenv as test suites use it: a shell script, Python's unittest on psycopg2, two at once; what it says of what is
# left behind, and with which status it ends.

: "${PGLEASE_BUILDDIR:?is not set: run it by make check}"
dir=$(mktemp -d "${TMPDIR:-/tmp}/pglease-te-XXXXXX") || exit 1
chmod 755 "$dir"
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM
bindir=${PGLEASE_PG_BINDIR:-$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)}
PATH=$bindir:$PGLEASE_BUILDDIR:$PATH
export PATH
tests=0

# is NAME COMMAND...: one test; what the command said is shown when it fails.
is() {
	tests=$((tests + 1))
	name=$1
	shift
	if "$@" >"$dir/said" 2>&1; then
		printf 'ok %d - %s\n' "$tests" "$name"
	else
		printf 'not ok %d - %s\n' "$tests" "$name"
		tail -n 30 "$dir/said" | sed 's/^/# /'
	fi
}

# ends STATUS ARGUMENT...: pglease-testenv ends so; what it said is in $dir/out and $dir/err.
ends() {
	expected=$1
	shift
	pglease-testenv "$@" >"$dir/out" 2>"$dir/err"
	status=$?
	cat "$dir/out" "$dir/err"
	[ "$status" -eq "$expected" ] || { echo "status $status, not $expected"; return 1; }
}

said() {
	cat "$dir/out" "$dir/err"
	grep -q -e "$1" "$dir/out" "$dir/err"
}

quiet() {
	cat "$dir/err"
	[ ! -s "$dir/err" ]
}

is 'the command finds a server' ends 0 -- psql -Atc 'select 6 * 7'
is 'and talks to it' grep -qx 42 "$dir/out"
is 'nothing is reported when nothing is left' quiet
is 'the status is the command'"'"'s' ends 7 sh -c 'exit 7'
is 'or its signal'"'"'s' ends 137 sh -c 'kill -9 $$'
is 'a signal is passed on' ends 143 sh -c 'kill $PPID; exec sleep 60'
is 'no such command' ends 127 "$dir/nosuch"
is 'one that cannot be run' ends 126 "$dir"
is 'its time is up' ends 124 -t 1 sleep 60
is 'usage: no command' ends 1
is 'usage: no pool' ends 1 -p ':3' true
is 'usage: an unknown letter among others' ends 1 -qxJ true
is 'is named' said 'unknown option -x '
is 'usage: a value too many' ends 1 --json=yes true
is 'is named too' said 'unknown option --json=yes '
is 'pglease-run says so as well' sh -c 'pglease-run -verbose true 2>&1 | grep "unknown option -v "'
is 'and which value it does not take' sh -c 'pglease-run -f foo true 2>&1 | grep "foo.: --fallback takes"'
is 'usage: no such file' ends 1 -s "$dir/nosuch" true
is 'a configuration that is wrong is no environment' ends 125 -l 'nonsense = 1' true
is 'and the broker says why' said nonsense

cat >"$dir/setup.sql" <<'EOF'
create table fruit (name text);
insert into fruit values ('apple'), ('pear');
EOF
is 'every environment begins with what was set up' ends 0 -s "$dir/setup.sql" -- psql -Atc "insert into fruit values ('plum')" -c 'select count(*) from fruit'
is 'the first time' grep -qx 3 "$dir/out"
is 'every environment' ends 0 -s "$dir/setup.sql" -- psql -Atc "insert into fruit values ('plum')" -c 'select count(*) from fruit'
is 'and the second' grep -qx 3 "$dir/out"

is 'pools' ends 0 -p one:3:2,two -P 'acquire_timeout = 3s' -- pgleasestat --noheadings -o name,max,acquire_timeout -P
is 'as they were asked for' said 'one  *3  *3'

# The environment's own processes may end before the command.
is 'a broker that the command ends' ends 0 -t 60 sh -c 'pgleasectl stop && while pgleasectl status; do sleep 0.1; done; true'
is 'is told' said 'not looked at: leases: the broker'

# What is left.
is 'a process' ends 121 sh -c 'sleep 300 & '
is 'is told' said 'leak: process: child process [0-9]* (sleep)'
# shellcheck disable=SC2016 # the inner shells'
is 'a process that has one of its own' ends 121 sh -c \
	'sh -c "sleep 300 & echo \$! >$0; wait" & until [ -s "$0" ]; do sleep 0.05; done' "$dir/pid"
# shellcheck disable=SC2016
is 'both are ended' sh -c '! kill -0 "$(cat "$0")"' "$dir/pid"
is 'a file' ends 121 sh -c 'touch "$TMPDIR/forgotten"'
is 'is told by name' said 'leak: file: .*/tmp/forgotten'
is 'in JSON' ends 121 -J -o "$dir/report" sh -c 'touch "$TMPDIR/forgotten"'
is 'which a program can read' python3 -c '
import json, sys
report = json.load(open(sys.argv[1]))
assert [leak["kind"] for leak in report["leaks"]] == ["file"], report
' "$dir/report"
is 'a report that cannot be written' ends 125 -J -o /dev/full true
is 'is told by its file' said '/dev/full: No space'
is 'where it cannot be' ends 125 -o "$dir/nosuch/report" touch "$dir/ran"
is 'neither' said "$dir/nosuch/report: No such file"
is 'and the command has not begun' test ! -e "$dir/ran"
is 'nothing is said when nobody wants it' ends 121 -q sh -c 'touch "$TMPDIR/forgotten"'
is 'indeed' quiet
is 'a failed command keeps its status' ends 5 sh -c 'touch "$TMPDIR/forgotten"; exit 5'

# A test suite that knows only libpq, leasing from the pool.
cat >"$dir/test_suite.py" <<'EOF'
import os, signal, unittest
import psycopg2

class Fruit(unittest.TestCase):
    def setUp(self):
        self.conn = psycopg2.connect("")
    def tearDown(self):
        self.conn.close()
    def test_sum(self):
        with self.conn.cursor() as cursor:
            cursor.execute("select sum(i) from generate_series(1, 10) i")
            self.assertEqual(cursor.fetchone()[0], 55)
    def test_leased(self):
        with self.conn.cursor() as cursor:
            cursor.execute("select count(*) from pg_stat_activity where backend_type = 'client backend'")
            self.assertEqual(cursor.fetchone()[0], 1)
    @unittest.skipUnless("FORGET" in os.environ, "only where it is wanted")
    def test_forgotten(self):
        conn = psycopg2.connect("")
        os.kill(os.getpid(), signal.SIGKILL)

unittest.main()
EOF
is 'unittest' ends 0 -p app:2:1 -- pglease-run /usr/bin/python3 "$dir/test_suite.py"
is 'its connections were leases' said 'OK'
is 'and nothing was left' sh -c "! grep -q '^leak' '$dir/err'"
is 'one that dies with a lease' ends 137 -p app:2:1 -- env FORGET=1 pglease-run /usr/bin/python3 "$dir/test_suite.py"
is 'has leaked it' said 'leak: lease: '
is 'in JSON' ends 137 -J -o "$dir/report" -p app:2:1 -- env FORGET=1 pglease-run /usr/bin/python3 "$dir/test_suite.py"
is 'as well' python3 -c '
import json, sys
report = json.load(open(sys.argv[1]))
assert {leak["kind"] for leak in report["leaks"]} == {"lease"}, report
' "$dir/report"
# shellcheck disable=SC2016 # the inner shell's
is 'one that died with a lease, and one that has another' ends 121 -p app:3:1 -- sh -c '
leased() { pgleasestat --noheadings -o leased | grep -qx " *$1"; }
pglease-run psql -qc "select pg_sleep(300)" &
pglease-run psql -qc "select pg_sleep(300)" &
until leased 2; do sleep 0.05; done
kill -9 $!
until leased 1; do sleep 0.05; done'
is 'are told once each' test "$(grep -c '^leak: lease: .*ended with it' "$dir/err") $(grep -c '^leak: lease: .*: leased for' "$dir/err")" = '1 1'

# Side by side.
(ends 0 -- psql -Atc 'create table mine ()' -c 'select pg_sleep(0.2)' >"$dir/one" 2>&1; echo $? >"$dir/first") &
pglease-testenv -- psql -Atc 'create table mine ()' >"$dir/two" 2>&1
second=$?
wait
is 'two at once do not meet' test "$(cat "$dir/first")$second" = 00

printf '1..%d\n' "$tests"
