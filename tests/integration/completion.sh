#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
# Completion in bash and in zsh, at their own prompts in a terminal multiplexer: verbs, options, pools and instances.

: "${PGLEASE_BUILDDIR:?is not set: run it by make check}"
if [ -z "${PGLEASE_COMPLETION_INSIDE-}" ]; then
	PATH=$PGLEASE_BUILDDIR:$PATH PGLEASE_COMPLETION_INSIDE=yes exec pglease-testenv -p app:1,jobs:1 -- "$0"
fi
# shellcheck source=tests/integration/terminal.sh
. "$PGLEASE_SRCDIR/tests/integration/terminal.sh"

has_line() {
	screen "$shell" | grep -qxF -- "$1"
}

# The screen comes to have this line.
shows() {
	await has_line "$1"
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
		screen "$shell" | sed 's/^/# /'
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
