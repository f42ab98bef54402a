#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
# etc/pglease-alerts.yml: promtool reads it, it rings for what it should, every alert of the table has a rule, and every metric in it is exported.

: "${PGLEASE_SRCDIR:?is not set: run it by make check}" "${PROMTOOL:?is not set}"
cd "$PGLEASE_SRCDIR" || exit 1
rules=etc/pglease-alerts.yml
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

fails() {
	! "$@"
}

# Each alert, in the words of the rules: connection_time is PgleaseConnectionTime.
every_alert_has_a_rule() {
	sed -nE 's/^	X\([A-Z0-9_]+, ([a-z0-9_]+), .*/\1/p' src/shm/alert.h >"$dir/alerts"
	[ "$(wc -l <"$dir/alerts")" -ge 9 ] || return 1
	while read -r alert; do
		rule=Pglease$(echo "$alert" | sed -E 's/(^|_)([a-z])/\U\2/g')
		grep -q "alert: $rule\$" $rules && grep -q "alert=\"$alert\"" $rules || { echo "no rule $rule for $alert"; return 1; }
	done <"$dir/alerts"
}

every_metric_is_exported() {
	grep -oE '\b(pglease|db_client)_[a-z_]+' $rules | grep -vE '^(pglease_instance|db_client_connection_pool_name)$' | sort -u |
		sed -E 's/_(total|bucket)$//; s/_seconds_count$/_seconds/' | sort -u >"$dir/metrics"
	[ "$(wc -l <"$dir/metrics")" -ge 10 ] || return 1
	while read -r metric; do
		grep -q "\"$metric\"" src/export/families.c src/export/metrics.c || { echo "no metric $metric"; return 1; }
	done <"$dir/metrics"
}

sed "s|RULES|$PWD/$rules|" tests/unit/alert_rules_test.yml >"$dir/test.yml"
is 'promtool check rules' "$PROMTOOL" check rules $rules
is 'promtool test rules' "$PROMTOOL" test rules "$dir/test.yml"
# Also the test can fail: with a threshold that is never reached it does.
sed "s|$PWD/$rules|$dir/other.yml|" "$dir/test.yml" >"$dir/other-test.yml"
sed 's/>= ignoring (alert) pglease_alert_threshold{alert="maxwait"}/>= ignoring (alert) (100 * pglease_alert_threshold{alert="maxwait"})/' $rules >"$dir/other.yml"
is 'and would say if not' fails "$PROMTOOL" test rules "$dir/other-test.yml"
is 'every alert has a rule' every_alert_has_a_rule
is 'every metric is exported' every_metric_is_exported
printf '1..%d\n' "$tests"
