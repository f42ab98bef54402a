# SPDX-License-Identifier: PostgreSQL
# shellcheck shell=bash
# What quickstart and check share: installing what is missing, and building out of tree. Sourced, not run.

PGLEASE_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() {
	printf '== %s\n' "$*"
}

die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# Runs a command as root; nothing is ever asked.
as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	else
		sudo -n "$@"
	fi
}

have_server() {
	compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null
}

# The newest installed server's programs.
server_bindir() {
	local dir
	dir=$(printf '%s\n' /usr/lib/postgresql/*/bin/initdb | sort -V | tail -n 1)
	printf '%s\n' "${dir%/initdb}"
}

is_installed() {
	[ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Files that exist only while packages are installed.
PGLEASE_DROPIN=/etc/postgresql-common/createcluster.d/pglease-none.conf
PGLEASE_POLICY=/usr/sbin/policy-rc.d
pglease_dropin_made=
pglease_policy_made=

# Debian's server package makes a cluster of its own and starts it, and would start others that are there. Not for us.
keep_clusters_away() {
	as_root mkdir -p "${PGLEASE_DROPIN%/*}"
	pglease_dropin_made=yes
	printf '%s\n' 'create_main_cluster = false' | as_root tee "$PGLEASE_DROPIN" >/dev/null
	if [ ! -e "$PGLEASE_POLICY" ]; then
		pglease_policy_made=yes
		printf '%s\n' '#!/bin/sh' 'exit 101' | as_root tee "$PGLEASE_POLICY" >/dev/null
		as_root chmod 755 "$PGLEASE_POLICY"
	fi
}

# To be called from the EXIT trap too: an interrupted installation must not leave them.
let_clusters_be() {
	[ -z "$pglease_dropin_made" ] || as_root rm -f "$PGLEASE_DROPIN"
	[ -z "$pglease_policy_made" ] || as_root rm -f "$PGLEASE_POLICY"
	pglease_dropin_made=
	pglease_policy_made=
}

# leave_off PACKAGE...: the servers among those that were installed for us alone do not start with the machine either.
leave_off() {
	local package

	for package in "$@"; do
		case $package in
		pgbouncer | pgpool2 | prometheus)
			as_root systemctl --quiet disable "$package.service" 2>/dev/null ||
				as_root update-rc.d "$package" disable >/dev/null 2>&1 ||
				say "$package will start with the machine: it could not be switched off"
			;;
		esac
	done
}

# Installs those of the packages that are missing; `postgresql-15` stands for any PostgreSQL server.
install_missing() {
	local package missing=()

	for package in "$@"; do
		if [ "$package" = postgresql-15 ] && have_server; then
			continue
		fi
		is_installed "$package" || missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	say "Installing ${missing[*]}"
	if [ "$(id -u)" -ne 0 ] && ! sudo -n true 2>/dev/null; then
		die "needs root to install packages; run as root: apt-get install ${missing[*]}"
	fi
	keep_clusters_away
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y update >/dev/null ||
		die "apt-get update failed (above)"
	as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l \
		apt-get -q -y install --no-install-recommends "${missing[@]}" >/dev/null ||
		die "apt-get install ${missing[*]} failed (above)"
	let_clusters_be
	leave_off "${missing[@]}"
}

# shellcheck disable=SC2034 # used by those who source this
BUILD_PACKAGES=(gcc make libc6-dev autoconf automake autoconf-archive libtool pkg-config libpq-dev libevent-dev
	libinih-dev libsmartcols-dev libjansson-dev libncurses-dev libxxhash-dev libsystemd-dev libjs-dygraphs postgresql-15)
# shellcheck disable=SC2034
TEST_PACKAGES=(check spin valgrind strace g++ mandoc prometheus pgbouncer iproute2 systemd tmux zsh chromium chromium-driver python3
	python3-psycopg2 php-cli php-pgsql ruby-pg libdbd-pg-perl)

# What `make fuzz` needs beside BUILD_PACKAGES; the kept inputs are replayed without.
# shellcheck disable=SC2034
FUZZ_PACKAGES=(clang libclang-rt-dev)

# What `make bench` compares with, and draws with.
# shellcheck disable=SC2034
BENCH_PACKAGES=(pgbouncer pgpool2 gnuplot-nox python3)

# build FOLDER CONFIGURE-OPTION...: configures (once for these options) and makes everything. Quiet unless it fails.
build() {
	local dir=$1 log=$1/build.log
	shift
	mkdir -p "$dir"
	if [ ! -x "$PGLEASE_ROOT/configure" ] || [ "$PGLEASE_ROOT/configure.ac" -nt "$PGLEASE_ROOT/configure" ]; then
		"$PGLEASE_ROOT/autogen.sh" >"$log" 2>&1 || { cat "$log" >&2; die "autogen.sh failed (above)"; }
	fi
	if [ ! -f "$dir/Makefile" ] || [ "$(cat "$dir/options" 2>/dev/null)" != "$*" ]; then
		(cd "$dir" && "$PGLEASE_ROOT/configure" "$@") >"$log" 2>&1 ||
			{ tail -n 30 "$log" >&2; die "configure failed (above; all of it is in $log)"; }
		printf '%s' "$*" >"$dir/options"
	fi
	make -C "$dir" -j"$(nproc)" >"$log" 2>&1 ||
		{ grep -E 'error|warning|Error' "$log" >&2 || tail -n 30 "$log" >&2
			die "the build failed (above; all of it is in $log)"; }
}
