#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
# The benchmarks start, measure a little, and say it in JSON that bench/render can use. How fast anything is decides nothing.

: "${PGLEASE_BUILDDIR:?is not set: run it by make check}" "${PGLEASE_SRCDIR:?is not set: run it by make check}"
dir=$(mktemp -d "${TMPDIR:-/tmp}/pglease-smoke-XXXXXX") || exit 1
tests=0
render=$PGLEASE_SRCDIR/bench/render
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM

# is WHAT COMMAND...: one line of TAP.
is() {
	what=$1
	shift
	tests=$((tests + 1))
	if "$@" >"$dir/out" 2>&1; then
		echo "ok $tests - $what"
	else
		echo "not ok $tests - $what"
		sed 's/^/# /' "$dir/out"
	fi
}

# Each row has samples in its first column, or a reason why not.
cat >"$dir/whole.py" <<'END'
import json, sys
with open(sys.argv[1]) as file:
    result = json.load(file)
assert result['program'] and result['tables'], 'no tables'
for table in result['tables']:
    assert table['rows'], table['id'] + ': no rows'
    for row in table['rows']:
        assert len(row['cells']) == len(table['columns']), table['id'] + ': cells and columns differ'
        assert row['cells'][0] and row['cells'][0]['samples'] or row['note'], table['id'] + ': ' + row['label'] + ' is empty'
END

for program in $(python3 "$render" programs); do
	case $program in
	preload) only='--only kept,leased-never' ;; # pgbench counts whole seconds
	*) only= ;;
	esac
	# shellcheck disable=SC2086 # two words
	is "$program measures" "$PGLEASE_BUILDDIR/$program" --size smoke $only --json "$dir/$program.json"
	is "$program says it whole" python3 "$dir/whole.py" "$dir/$program.json"
done
is 'results are collected' python3 "$render" collect "$dir" "$PGLEASE_SRCDIR"
is 'the summary is written' python3 "$render" summary "$dir"
cp "$PGLEASE_SRCDIR/doc/performance.md" "$dir/page.md"
is 'the page is filled' python3 "$render" doc "$dir" "$dir/page.md"
is 'with what was measured' grep -qE '^\| acquire \+ release \| [0-9.,]+ \[' "$dir/page.md"
# shellcheck disable=SC2016 # the inner shell's
is 'an unknown argument is an error' sh -c '"$1" --nonsense; test $? -eq 1' sh "$PGLEASE_BUILDDIR/lease"
# shellcheck disable=SC2016
is 'an unknown name is an error' sh -c '"$1" --only nonsense; test $? -eq 1' sh "$PGLEASE_BUILDDIR/saturation"

printf '1..%d\n' "$tests"
