#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
# `make fuzz SECONDS=n [FUZZ='startup resets']`: looks for inputs that break a target, for n seconds in all, in a build of its own
# in BUILD/fuzz. Begins with what was found before (BUILD/fuzz/found) and what is kept (tests/fuzz/corpus). What breaks a
# target is left in BUILD/fuzz/crashes; then the status is 1.
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

each=$((seconds / $#))
[ "$each" -gt 0 ] || each=1
failed=0
for target; do
	name=${target#fuzz_}
	found=$dir/found/$name
	mkdir -p "$found"
	ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 \
		"$build/$target" -max_total_time="$each" -timeout=20 -rss_limit_mb=2048 -max_len=4096 -print_final_stats=1 \
		-use_value_profile=1 -artifact_prefix="$dir/crashes/$name-" \
		"$found" "$PGLEASE_SRCDIR/tests/fuzz/corpus/$name" >"$dir/$name.log" 2>&1
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
