#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
#
# Every participant killed at every instruction (README.md), as TAP.
#
# run.sh          a sample of every scenario, some seconds
# run.sh --all    every instruction, the broker's steps sampled, then the planted bugs, each of which must be found

: "${PGLEASE_BUILDDIR:?is not set: run it by make check or make check-kill}" "${PGLEASE_SRCDIR:?is not set}"
killer=$PGLEASE_BUILDDIR/killer
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

n=0
failed=0

# add NAME: its lines, numbered anew; one that ends early is a failure of its own
add()
{
	out=$work/$1
	plan=$(sed -n 's/^1\.\.//p' "$out")
	found=$(grep -c '^\(not \)\{0,1\}ok ' "$out")
	sed '/^1\.\./d' "$out" | awk -v n="$n" '/^(not )?ok [0-9]+ / { sub(/ok [0-9]+/, "ok " ++n) } { print; fflush() }'
	n=$((n + found))
	status=$(cat "$out.status")
	if [ "$status" -ne 0 ]; then
		failed=1
		if [ "${plan:-none}" != "$found" ] || ! grep -q '^not ok ' "$out"; then
			n=$((n + 1))
			echo "not ok $n - $1: killer ended with status $status"
		fi
	fi
}

# run NAME ARGUMENTS...: killer; what it says goes to NAME
run()
{
	out=$work/$1
	shift
	"$killer" "$@" >"$out" 2>&1
	echo $? >"$out.status"
}

# What configure has found.
configured()
{
	sed -n "s|^$1 = *||p" "$PGLEASE_BUILDDIR/Makefile"
}

# build_library FOLDER: libpglease.so.0 of the sources in FOLDER
build_library()
{
	# shellcheck disable=SC2046,SC2086 # lists of flags
	${CC:-cc} -shared -fPIC -fvisibility=hidden -std=gnu11 -O1 -g -w -D_GNU_SOURCE -I"$PGLEASE_BUILDDIR" \
		-I"$1/shm" -I"$1/export" -I"$1/client" $(configured LIBPQ_CFLAGS) $(configured XXHASH_CFLAGS) \
		-Wl,-soname,libpglease.so.0 -o "$1/libpglease.so.0" "$1"/shm/*.c "$1"/export/*.c "$1"/client/*.c \
		$(configured LIBPQ_LIBS) -lm -pthread
}

# build_broker FOLDER: pgleased of the sources in FOLDER
build_broker()
{
	# shellcheck disable=SC2046,SC2086 # lists of flags
	${CC:-cc} -std=gnu11 -O1 -g -w -D_GNU_SOURCE -I"$PGLEASE_BUILDDIR" -I"$1/shm" -I"$1/export" -I"$1/broker" \
		"-DWEB_SOURCE=\"$PGLEASE_SRCDIR/src/web\"" "-DHTTP_CHARTS_FOLDER=\"$(configured DYGRAPHS)\"" \
		$(configured LIBPQ_CFLAGS) $(configured LIBEVENT_CFLAGS) $(configured INIH_CFLAGS) $(configured SYSTEMD_CFLAGS) \
		-o "$1/pgleased" "$1"/shm/*.c "$1"/export/*.c "$1"/broker/*.c $(configured LIBPQ_LIBS) $(configured LIBEVENT_LIBS) \
		$(configured INIH_LIBS) $(configured SYSTEMD_LIBS) -lm -pthread
}

# planted WHAT NAME FILES SED PART SCENARIO WORDS: the bug that SED makes in FILES of the library or the broker is
# found in that scenario, which says WORDS
planted()
{
	src=$work/planted
	rm -rf "$src"
	mkdir "$src"
	cp -r "$PGLEASE_SRCDIR/src/shm" "$PGLEASE_SRCDIR/src/export" "$PGLEASE_SRCDIR/src/client" "$PGLEASE_SRCDIR/src/broker" "$src/"
	chmod -R u+w,a+rX "$work"
	changed=true
	for file in $3; do
		sed -e "$4" "$PGLEASE_SRCDIR/src/$file" >"$src/$file"
		! cmp -s "$PGLEASE_SRCDIR/src/$file" "$src/$file" || changed=false
	done
	n=$((n + 1))
	if ! $changed; then
		failed=1
		echo "not ok $n - planted: $2: the line to change is not in $3 any more"
	elif ! "build_$1" "$src" >"$work/out" 2>&1; then
		failed=1
		echo "not ok $n - planted: $2: it does not compile"
		sed 's/^/# /' "$work/out"
	else
		case $1 in
		library) LD_PRELOAD=$src/libpglease.so.0 "$killer" "$5" 0 "$6" >"$work/out" 2>&1 ;;
		broker) PGLEASE_BUILDDIR=$src "$killer" "$5" 0 "$6" >"$work/out" 2>&1 ;;
		esac
		if grep -q '^not ok 1 ' "$work/out" && grep -q "$7" "$work/out"; then
			echo "ok $n - planted: $2: found: $(sed -n '/^not ok 1 /{n;s/^# //p;}' "$work/out")"
		else
			failed=1
			echo "not ok $n - planted: $2: not found"
			sed 's/^/# /' "$work/out"
		fi
	fi
}

if [ "${1-}" != --all ]; then
	run sample sweep 12 pairs 8 stand 8 broker 2
	add sample
	echo "1..$n"
	exit $failed
fi

# Two at a time: each has a PostgreSQL and a broker of its own.
run others pairs 0 stand 0 broker 80 &
run sweep sweep 0
wait
add sweep
add others

planted broker 'a dead lessee whose row still waits is forgotten' broker/revoke.c \
	's/^		if (word_state(w) != SLOT_LEASED || pool_word_client/		if (word_who(w) < p->seg.nrows \&\& word_state(row_load(\&p->seg, word_who(w))) == ROW_WAITING)\n			return false;\n&/' \
	sweep 'wait, woken' 'as that of one that lives'
planted broker 'the rows of the dead are free before their leases are revoked' broker/clients.c \
	's/^	leases = revoke_leases(c->pools/	if (dead)\n		revoke_rows(c->pools, c->npools, client);\n&/' \
	sweep 'release, broken' 'as that of one that lives'
planted broker 'a grant to the dead is left' shm/handoff.c \
	's/^	if (word_state(w) != SLOT_GRANTED || slot_load(seg, slot) != w)/	if (row >= seg->nrows || word_state(w) != SLOT_GRANTED || word_state(row_load(seg, row)) == ROW_FREE)/' \
	sweep 'wait, granted' 'is forgotten'
planted broker 'an idle slot goes on naming a dead client (F3)' broker/revoke.c \
	's/^				if (slot_forget_client(.*/				if (true)/' \
	sweep 'release, left dirty' 'its word names'
planted broker 'a revoked session is passed on' broker/revoke.c \
	's/^	server_end(s, cause);/	server_lend(s);/' \
	sweep 'release, rolled back' 'the next lessee'
planted library "another's session is not reset" client/lease.c \
	's/^	needs_reset = owed || .*/	needs_reset = owed;/' \
	sweep 'release, left dirty' "another's session"
planted library 'a release passes on a slot whose cancel is in flight' 'shm/slots.h shm/slots.c shm/handoff.c' \
	's/(SLOT_CANCELLING | SLOT_RETIRE)/SLOT_RETIRE/' \
	pairs 'release || cancel that' 'while a cancel is in flight'
echo "1..$n"
exit $failed
