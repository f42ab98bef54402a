#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
# Completion in bash and in zsh, at their own prompts in a terminal multiplexer: verbs, options, pools and instances.

: "${PGLEASE_BUILDDIR:?is not set: run it by make check}"
if [ -z "${PGLEASE_COMPLETION_INSIDE-}" ]; then
	PATH=$PGLEASE_BUILDDIR:$PATH PGLEASE_COMPLETION_INSIDE=yes exec pglease-testenv -p app:1,jobs:1 -- "$0"
fi
dir=$(mktemp -d "${TMPDIR:-/tmp}/pglease-completion-XXXXXX") || exit 1
socket=$dir/tmux
tmux() {
	command tmux -S "$socket" -f /dev/null "$@"
}
# Its server is gone when this returns: the environment reports what is left.
end() {
	server=$(tmux display-message -p '#{pid}' 2>/dev/null)
	tmux kill-server 2>/dev/null
	while [ -n "$server" ] && kill -0 "$server" 2>/dev/null; do
		sleep 0.05
	done
	rm -rf "$dir"
}
trap end EXIT
trap 'exit 1' INT TERM
LC_ALL=C.UTF-8
export LC_ALL
tests=0

# The screen comes to have this line (fixed words at its beginning); half a minute ends a failure.
shows() {
	tries=300
	while tmux has-session -t "$shell" 2>/dev/null && ! tmux capture-pane -p -t "$shell" | sed 's/ *$//' | grep -qxF -- "$1"; do
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] || return 1
		sleep 0.1
	done
	tmux has-session -t "$shell" 2>/dev/null
}

# completes KEYS LINE: typed, with a tab, it becomes this line; which is given up then.
completes() {
	tests=$((tests + 1))
	tmux send-keys -t "$shell" -l "$1"
	tmux send-keys -t "$shell" Tab
	if shows "> $2"; then
		printf 'ok %d - %s: %s\n' "$tests" "$shell" "$2"
	else
		printf 'not ok %d - %s: %s\n' "$tests" "$shell" "$2"
		tmux capture-pane -p -t "$shell" | sed 's/^/# /'
	fi
	tmux send-keys -t "$shell" C-u
	tmux send-keys -t "$shell" 'clear' Enter
	shows '>'
}

# The prompt is the test's own, and is waited for: what is typed before it may be lost.
start() {
	shell=$1
	tmux new-session -d -x 110 -y 20 -s "$shell" "$2"
	tmux send-keys -t "$shell" -l "PS1='> '; $3; clear"
	tmux send-keys -t "$shell" Enter
	shows '>'
}

for shell in bash zsh; do
	case $shell in
	bash) start bash 'bash --norc --noprofile -i' ". '$PGLEASE_SRCDIR/etc/completion/pglease.bash'" ;;
	zsh) start zsh 'zsh -f -i' "fpath=('$PGLEASE_SRCDIR/etc/completion' \$fpath); autoload -Uz compinit; compinit -D -u" ;;
	esac
	completes 'pgleasectl paus' 'pgleasectl pause'
	completes 'pgleasectl wai' 'pgleasectl wait-close'
	completes 'pgleasectl pause a' 'pgleasectl pause app'
	completes 'pgleasectl -t 3 drain jo' 'pgleasectl -t 3 drain jobs'
	completes 'pgleasectl show config/j' 'pgleasectl show config/jobs'
	completes 'pgleasectl --tim' 'pgleasectl --timeout'
	completes "pgleasestat -n ${PGLEASE_INSTANCE%?}" "pgleasestat -n $PGLEASE_INSTANCE"
	completes 'pgleasestat --prom' 'pgleasestat --prometheus'
	completes 'pgleased --help-co' 'pgleased --help-config'
done
printf '1..%d\n' "$tests"
