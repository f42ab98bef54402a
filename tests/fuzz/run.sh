#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
# `make fuzz SECONDS=n [FUZZ='startup resets']`: looks for inputs that break a target, for n seconds in all, in a build of its own
# in BUILD/fuzz. Begins with what was found before (BUILD/fuzz/found) and what is kept (tests/fuzz/corpus). What breaks a
# target is left in BUILD/fuzz/crashes; then the status is 1. SECONDS=keep: writes what was found to the source tree.
set -u
seconds=$1
shift
[ -n "$seconds" ] || { echo 'fuzz: say for how long: make fuzz SECONDS=300' >&2; exit 2; }
[ -n "$FUZZ_CC" ] || {
	echo 'fuzz: configure has found no clang that links with -fsanitize=fuzzer: install clang and libclang-rt-dev, and configure again' >&2
	exit 2
}
dir=$PGLEASE_BUILDDIR/fuzz
build=$dir/build
mkdir -p "$build" "$dir/crashes" || exit 2
if [ ! -f "$build/Makefile" ]; then
	echo "fuzz: configuring a build with $FUZZ_CC in $build"
	(cd "$build" && "$PGLEASE_SRCDIR/configure" CC="$FUZZ_CC" CFLAGS='-O1 -g' --enable-fuzzing \
		--with-sanitizers=address,undefined --disable-integration-tests) >"$dir/configure.log" 2>&1 ||
		{ tail -n 20 "$dir/configure.log" >&2; exit 2; }
fi
make -s -C "$build" -j"$(nproc)" "$@" >"$dir/make.log" 2>&1 || { tail -n 30 "$dir/make.log" >&2; exit 2; }

# What targets make for themselves goes away with this, also after a crash.
TMPDIR=$(mktemp -d /tmp/pglease-fuzzing-XXXXXX) || exit 2
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
trap 'exit 130' INT TERM

# unpack TARGET FOLDER: the lines of the file `found`, a file each.
unpack() {
	n=0
	rm -rf "$2"
	mkdir -p "$2"
	[ -f "$PGLEASE_SRCDIR/tests/fuzz/corpus/$1/found" ] || return 0
	while IFS= read -r line; do
		n=$((n + 1))
		printf '%b' "$line" >"$2/$n"
	done <"$PGLEASE_SRCDIR/tests/fuzz/corpus/$1/found"
}

# Nothing is looked for: of what was found, the fewest that reach every edge are written to the files `found`.
if [ "$seconds" = keep ]; then
	for target; do
		name=${target#fuzz_}
		unpack "$name" "$TMPDIR/kept"
		rm -rf "$TMPDIR/out"
		mkdir -p "$dir/found/$name" "$TMPDIR/out"
		find "$PGLEASE_SRCDIR/tests/fuzz/corpus/$name" -type f ! -name found -exec cp {} "$TMPDIR/out" \;
		ls "$TMPDIR/out" >"$TMPDIR/named"
		"$build/$target" -merge=1 -use_counters=0 -max_len=300 -timeout=20 \
			"$TMPDIR/out" "$TMPDIR/kept" "$dir/found/$name" >"$dir/$name.merge.log" 2>&1 || exit 1
		(cd "$TMPDIR/out" && rm -f -- $(cat "$TMPDIR/named") && for f in *; do
			[ -s "$f" ] && od -An -v -to1 "$f" | awk '{ for (i = 1; i <= NF; i++) printf "\\0%s", $i } END { print "" }'
		done) | sort >"$PGLEASE_SRCDIR/tests/fuzz/corpus/$name/found"
		echo "$target: $(wc -l <"$PGLEASE_SRCDIR/tests/fuzz/corpus/$name/found") inputs kept beside the named ones"
	done
	exit 0
fi

each=$((seconds / $#))
[ "$each" -gt 0 ] || each=1
failed=0
for target; do
	name=${target#fuzz_}
	found=$dir/found/$name
	mkdir -p "$found"
	unpack "$name" "$TMPDIR/kept"
	ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 \
		"$build/$target" -max_total_time="$each" -timeout=20 -rss_limit_mb=2048 -max_len=4096 -print_final_stats=1 \
		-use_value_profile=1 -artifact_prefix="$dir/crashes/$name-" \
		"$found" "$TMPDIR/kept" "$PGLEASE_SRCDIR/tests/fuzz/corpus/$name" >"$dir/$name.log" 2>&1
	status=$?
	runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$dir/$name.log")
	cover=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$dir/$name.log" | tail -n 1)
	if [ "$status" -eq 0 ]; then
		echo "$target: ${runs:-0} runs in $each s, ${cover:-?} edges: nothing found"
	else
		echo "$target: BROKEN (its log: $dir/$name.log)"
		grep -m 3 -E 'ERROR: |SUMMARY: |does not hold|runtime error|libFuzzer: ' "$dir/$name.log"
		failed=1
	fi
done
exit $failed
