# SPDX-License-Identifier: PostgreSQL
# Completion of pglease's commands for bash. What there is to complete the programs themselves say: their help, and pgleasestat.

# The option's value that names the instance, as given so far.
_pglease_instance()
{
	local i
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		-n | --name) printf '%s' "${COMP_WORDS[i + 1]}" && return ;;
		--name=*) printf '%s' "${COMP_WORDS[i]#--name=}" && return ;;
		esac
	done
	printf '%s' "${PGLEASE_INSTANCE:-main}"
}

_pglease_options()
{
	"$1" --help 2>/dev/null | grep -oE -- '(^|[ ,])--[a-z][a-z-]*' | tr -d ' ,' | sort -u
}

_pglease_verbs()
{
	"$1" --help 2>/dev/null | sed -n '/^Commands:/,/^$/s/^  \([a-z-]*\).*/\1/p'
}

_pglease_instances()
{
	pgleasestat --list --noheadings 2>/dev/null | awk '{ print $1 }'
}

_pglease_pools()
{
	pgleasestat -P --noheadings -o name -n "$(_pglease_instance)" 2>/dev/null
}

# Words that begin as the current one.
_pglease_reply()
{
	mapfile -t COMPREPLY < <(compgen -W "$1" -- "${COMP_WORDS[COMP_CWORD]}")
}

_pglease()
{
	local program=${COMP_WORDS[0]} word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
	local i verb=

	COMPREPLY=()
	case $before in
	-n | --name)
		_pglease_reply "$(_pglease_instances)"
		return
		;;
	-s | --socket-dir)
		mapfile -t COMPREPLY < <(compgen -d -- "$word")
		return
		;;
	-c | --config)
		[ "${program##*/}" = pgleased ] && mapfile -t COMPREPLY < <(compgen -f -- "$word") && return
		;;
	-t | --timeout) [ "${program##*/}" = pgleasectl ] && return ;;
	esac
	if [[ $word == -* ]]; then
		_pglease_reply "$(_pglease_options "$program")"
		return
	fi
	[ "${program##*/}" = pgleasectl ] || return
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		-n | -s | -t | --name | --socket-dir | --timeout) i=$((i + 1)) ;;
		-*) ;;
		*) verb=${COMP_WORDS[i]} && break ;;
		esac
	done
	case $verb in
	'') _pglease_reply "$(_pglease_verbs "$program")" ;;
	show) _pglease_reply "config $(_pglease_pools | sed 's|^|config/|')" ;;
	pause | drain | kill | resume | disable | enable | reconnect | wait-close) _pglease_reply "$(_pglease_pools)" ;;
	revoke) _pglease_reply "$(_pglease_pools | sed 's|$|/|')" ;;
	esac
}

complete -F _pglease pgleasectl pgleasestat pgleased
