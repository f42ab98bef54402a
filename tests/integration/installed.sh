#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
# What `make install` gives, used as a user would: the header in C and C++, a program built with pkg-config, and that
# program against the installed broker with its own PostgreSQL.

: "${PGLEASE_BUILDDIR:?is not set: run it by make check}"
# Short, for sockets; the PostgreSQL runs as another user where this is root.
dir=$(mktemp -d "${TMPDIR:-/tmp}/pglease-inst-XXXXXX") || exit 1
chmod 755 "$dir"
root=$dir/root
instance=inst-$$
tests=0
# Those of the make that runs this test.
unset MAKEFLAGS MFLAGS MAKELEVEL DESTDIR PGLEASE_INSTANCE
PGLEASE_SOCKET_DIR=$dir/run
export PGLEASE_SOCKET_DIR

finish() {
	if [ -S "$dir/run/control" ]; then
		"$root$bindir/pgleasectl" -n "$instance" -t 0 stop >/dev/null
	fi
	rm -rf "$dir"
}
trap finish EXIT
trap 'exit 1' INT TERM

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

# The value of a variable of the Makefile.
make_variable() {
	# shellcheck disable=SC2016 # make's
	printf 'include Makefile\nprint-it:\n\t@printf "%%s\\n" "$(%s)"\n' "$1" |
		make -s -C "$PGLEASE_BUILDDIR" -f - print-it
}

prefix=$(make_variable prefix)
bindir=$(make_variable bindir)
sbindir=$(make_variable sbindir)
libdir=$(make_variable libdir)
includedir=$(make_variable includedir)
mandir=$(make_variable mandir)
sysconfdir=$(make_variable sysconfdir)

install_tree() {
	make -s -C "$PGLEASE_BUILDDIR" "$1" DESTDIR="$root"
}

is 'make install' install_tree install
for file in "$bindir/pgleasestat" "$bindir/pgleasectl" "$bindir/pglease-run" "$sbindir/pgleased" \
	"$libdir/libpglease.so" "$libdir/libpglease-preload.so" "$mandir/man1/pglease-run.1" \
	"$bindir/pglease-testenv" "$mandir/man1/pglease-testenv.1" "$mandir/man3/pglease_test.3" \
	"$libdir/libpglease-test.so" "$libdir/pkgconfig/pglease-test.pc" "$includedir/pglease_test.h" \
	"$libdir/pkgconfig/libpglease.pc" "$includedir/pglease.h" "$includedir/pglease_errors.h" \
	"$mandir/man1/pgleasectl.1" "$mandir/man1/pgleasestat.1" "$mandir/man3/pglease.3" "$mandir/man5/pgleased.ini.5" \
	"$mandir/man8/pgleased.8" "$sysconfdir/pglease/pgleased.ini"; do
	is "installed: ${file#"$prefix"/}" test -s "$root$file"
done
is 'the configuration is a sound one' "$root$sbindir/pgleased" -t -c "$root$sysconfdir/pglease/pgleased.ini"

# A configuration that somebody changed is left alone, by install and by uninstall.
printf '; mine\n' >>"$root$sysconfdir/pglease/pgleased.ini"
is 'make install again' install_tree install
is 'it leaves the configuration' grep -qx '; mine' "$root$sysconfdir/pglease/pgleased.ini"

# As a system root for pkg-config; libpq is the machine's own.
PKG_CONFIG_PATH=$root$libdir/pkgconfig
PKG_CONFIG_SYSROOT_DIR=$root
export PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR
libpq=$(PKG_CONFIG_SYSROOT_DIR='' pkg-config --variable=includedir libpq)
if [ ! -e "$root$libpq" ]; then
	mkdir -p "$root${libpq%/*}"
	ln -s "$libpq" "$root$libpq"
fi
is 'pkg-config knows it' pkg-config --exists --print-errors libpglease
cflags=$(pkg-config --cflags libpglease)
libs=$(pkg-config --libs libpglease)

printf '#include <pglease.h>\n' | tee "$dir/alone.c" >"$dir/alone.cc"
# shellcheck disable=SC2086 # words
is 'the header compiles alone as C11' \
	cc -std=c11 -pedantic-errors -Wall -Wextra -Werror -fsyntax-only $cflags "$dir/alone.c"
# shellcheck disable=SC2086
is 'the header compiles alone as C++' c++ -Wall -Wextra -Werror -fsyntax-only $cflags "$dir/alone.cc"

printf '#include <pglease_test.h>\n' | tee "$dir/kit.c" >"$dir/kit.cc"
# shellcheck disable=SC2046 # words
is "the test kit's header compiles alone as C11" cc -std=c11 -D_DEFAULT_SOURCE -pedantic-errors -Wall -Wextra -Werror -fsyntax-only \
	$(pkg-config --cflags pglease-test) "$dir/kit.c"
# shellcheck disable=SC2046
is 'and as C++' c++ -Wall -Wextra -Werror -fsyntax-only $(pkg-config --cflags pglease-test) "$dir/kit.cc"
# shellcheck disable=SC2046
is 'a test builds with pkg-config' cc -Wall -Wextra -Werror -o "$dir/sum" "$PGLEASE_SRCDIR/examples/testkit/test_sum.c" \
	$(pkg-config --cflags --libs pglease-test)
is 'and finds the installed broker' env -u PGLEASE_BUILDDIR -u PGLEASE_SOCKET_DIR LD_LIBRARY_PATH="$root$libdir" \
	PGLEASE_TEST_PGLEASED="$root$sbindir/pgleased" "$dir/sum"

cat >"$dir/worker.c" <<'EOF'
#include <pglease.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int
failed(void)
{
	fprintf(stderr, "%s\n", pglease_error_message());
	return 1;
}

int
main(void)
{
	pglease *client;
	pglease_pool *pool;
	pglease_lease lease;
	PGconn *conn;
	PGresult *result;
	int sound;

	if (pglease_attach(NULL, NULL, &client) || pglease_pool_open(client, "app", &pool) ||
	    pglease_acquire(pool, PGLEASE_TIMEOUT_POOL, &lease, &conn))
		return failed();
	result = PQexec(conn, "select 6 * 7");
	sound = PQntuples(result) == 1 && strcmp(PQgetvalue(result, 0, 0), "42") == 0;
	PQclear(result);
	if (!sound || pglease_release(&lease) || pglease_drain(client, "app", 10000))
		return failed();
	if (pglease_acquire(pool, 0, &lease, &conn) != PGLEASE_EDRAINING || pglease_resume(client, NULL))
		return failed();
	pglease_detach(client);
	puts(pglease_version());
	return 0;
}
EOF
# shellcheck disable=SC2086
is 'a program builds with pkg-config' cc -Wall -Wextra -Werror -o "$dir/worker" "$dir/worker.c" $cflags $libs

cat >"$dir/pgleased.ini" <<EOF
[pglease]
instance = $instance
socket_dir = $dir/run
data_dir = $dir/data
[pool app]
embedded = yes
EOF
worker() {
	PGLEASE_INSTANCE=$instance LD_LIBRARY_PATH=$root$libdir "$dir/worker"
}
is 'the installed broker starts' "$root$sbindir/pgleased" -d -c "$dir/pgleased.ini"
is 'the program leases' worker
is 'the installed pgleasestat shows it' "$root$bindir/pgleasestat" -n "$instance" -i app -P
is 'the installed pgleasectl stops it' "$root$bindir/pgleasectl" -n "$instance" stop

is 'make uninstall' install_tree uninstall
left() {
	find "$root" -type f
	[ "$(find "$root" -type f)" = "$root$sysconfdir/pglease/pgleased.ini" ]
}
is 'nothing is left but the changed configuration' left

printf '1..%d\n' "$tests"
