# SPDX-License-Identifier: PostgreSQL
# pgbench in its ways, on a pool that is smaller than its clients where it connects anew, and the sums of TPC-B afterwards.
set -eu
total=0

# run TRANSACTIONS OPTION...: a client does so many.
run() {
	t=$1
	shift
	pgbench -n -j 4 -c 4 -t "$t" "$@" >"$PGLEASE_WORK/pgbench.out" 2>&1 || {
		cat "$PGLEASE_WORK/pgbench.out"
		exit 1
	}
	total=$((total + 4 * t))
}

pgbench -i -q -s 1 >"$PGLEASE_WORK/pgbench.out" 2>&1
for mode in simple extended prepared; do
	run 50 -M $mode -C
	run 100 -M $mode
done
psql -X -Atc "select sum(abalance) - (select sum(tbalance) from pgbench_tellers), sum(abalance) -
	(select sum(bbalance) from pgbench_branches), sum(abalance) - (select sum(delta) from pgbench_history),
	(select count(*) from pgbench_history) - $total from pgbench_accounts" >"$PGLEASE_WORK/sums"
[ "$(cat "$PGLEASE_WORK/sums")" = '0|0|0|0' ] || {
	echo "the sums differ: $(cat "$PGLEASE_WORK/sums") after $total transactions"
	exit 1
}
