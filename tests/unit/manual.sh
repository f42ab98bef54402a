#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
# The manual says what the programs and the header say: tables, options, commands, functions; and mandoc has no complaint.

: "${PGLEASE_BUILDDIR:?is not set: run it by make check}" "${PGLEASE_SRCDIR:?is not set}"
cd "$PGLEASE_SRCDIR" || exit 1
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
tests=0

# is NAME COMMAND...
is() {
	tests=$((tests + 1))
	name=$1
	shift
	if "$@" >"$dir/said" 2>&1; then
		printf 'ok %d - %s\n' "$tests" "$name"
	else
		printf 'not ok %d - %s\n' "$tests" "$name"
		sed 's/^/# /' "$dir/said"
	fi
}

# same NAME: the lists given as two files are equal, and are lists.
same() {
	[ -s "$dir/wanted" ] && diff "$dir/wanted" "$dir/found"
}

clean() {
	mandoc -T lint -W warning "$1"
}

for page in doc/*.[1-9]; do
	is "mandoc: $page" clean "$page"
done

is 'generated tables' sh scripts/manual-tables --check "$PGLEASE_BUILDDIR"

# Options: "-x, --long" or "-x" at the start of a help line; ".It Fl x , -long" or ".It Fl x" in the manual.
for program in pgleased pgleasectl pgleasestat pglease-run pglease-testenv; do
	page=$(echo doc/$program.[18])
	"$PGLEASE_BUILDDIR/$program" -h |
		sed -nE 's/^ +(-[^ ,])(, (--[a-z-]+))?( .*)?$/\1 \3/p; s/^ +(--[a-z-]+).*$/\1/p' | sed 's/ *$//' | sort >"$dir/wanted"
	sed -nE 's/^\.It Fl (.*)$/\1/p' "$page" | sed -E 's/ (Ar|Ns|Op).*//; s/ , / -/; s/^/-/' | sort >"$dir/found"
	is "options of $program" same
done

"$PGLEASE_BUILDDIR/pgleasectl" -h | sed -nE '/^Commands:/,/^$/s/^  ([a-z-]+)( [^ ]+)?  +.*/\1\2/p' >"$dir/wanted"
sed -nE '/^The commands are:/,/^\.El/s/^\.It Cm //p' doc/pgleasectl.1 | sed 's/ Op Ar pool/ [POOL]/; s/ Ar / /' >"$dir/found"
is 'commands of pgleasectl' same

# Functions of the header, and the macros that stand for some; all of them, and nothing else, in the synopsis.
{
	sed -nE 's/^PGLEASE_API .*[ *](pglease_[a-z_]+)\(.*/\1/p' src/client/pglease.h
	sed -nE 's/^#define (pglease_[a-z_]+)\(.*/\1/p' src/client/pglease.h
} | sort -u >"$dir/wanted"
sed -nE '/^\.Sh SYNOPSIS/,/^\.Sh DESCRIPTION/s/^\.F[no] (pglease_[a-z_]+).*/\1/p' doc/pglease.3 | sort >"$dir/found"
is 'functions of the library' same

# Each of them is also spoken of.
described() {
	while read -r function; do
		sed '1,/^\.Sh DESCRIPTION/d' doc/pglease.3 | grep -q "^\.Fn $function" || echo "$function"
	done <"$dir/wanted" >"$dir/missing"
	cat "$dir/missing"
	[ ! -s "$dir/missing" ]
}
is 'and what they do' described

# The test kit's, likewise.
sed -nE 's/^PGLEASE_API .*[ *](pglease_[a-z_]+)\(.*/\1/p' src/testkit/pglease_test.h | sort >"$dir/wanted"
sed -nE '/^\.Sh SYNOPSIS/,/^\.Sh DESCRIPTION/s/^\.F[no] (pglease_[a-z_]+).*/\1/p' doc/pglease_test.3 | sort >"$dir/found"
is 'functions of the test kit' same
not_told() {
	while read -r function; do
		sed '1,/^\.Sh DESCRIPTION/d' doc/pglease_test.3 | grep -q "Fn $function" || echo "$function"
	done <"$dir/wanted" >"$dir/missing"
	cat "$dir/missing"
	[ ! -s "$dir/missing" ]
}
is 'and what they do' not_told
nm -D --defined-only "$PGLEASE_BUILDDIR/.libs/libpglease-test.so" | sed -nE 's/.* T (.*)/\1/p' | sed 's/@.*//' | sort >"$dir/found"
is 'it exports what its header declares' same

# What the library exports is what the header declares.
nm -D --defined-only "$PGLEASE_BUILDDIR/.libs/libpglease.so" | sed -nE 's/.* T (.*)/\1/p' | sed 's/@.*//' | sort >"$dir/found"
sed -nE 's/^PGLEASE_API .*[ *](pglease_[a-z_]+)\(.*/\1/p' src/client/pglease.h | sort >"$dir/wanted"
is 'the library exports what the header declares' same

printf '1..%d\n' "$tests"
