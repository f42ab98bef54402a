# shellcheck shell=sh
# SPDX-License-Identifier: PostgreSQL
# For tests that drive programs in a terminal multiplexer of their own. Sets dir (a folder) and tests (how many there were).

dir=$(mktemp -d "${TMPDIR:-/tmp}/pglease-terminal-XXXXXX") || exit 1
LC_ALL=C.UTF-8
export LC_ALL
# shellcheck disable=SC2034
tests=0

tmux() {
	command tmux -S "$dir/tmux" -f /dev/null "$@"
}

# Its server is gone when this returns: the environment reports what is left.
terminal_end() {
	server=$(tmux display-message -p '#{pid}' 2>/dev/null)
	tmux kill-server 2>/dev/null
	while [ -n "$server" ] && kill -0 "$server" 2>/dev/null; do
		sleep 0.05
	done
	rm -rf "$dir"
}
trap terminal_end EXIT
trap 'exit 1' INT TERM

# screen SESSION: what it shows.
screen() {
	tmux capture-pane -p -t "$1" | sed 's/ *$//'
}

# await COMMAND...: until it succeeds; a minute ends a failure.
await() {
	late=$(($(date +%s) + 60))
	until "$@"; do
		[ "$(date +%s)" -lt "$late" ] || return 1
		sleep 0.1
	done
}
