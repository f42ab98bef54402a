# SPDX-License-Identifier: PostgreSQL
# pg_dump into pg_restore, as a stream, and as a folder by several jobs; what arrives is what was sent.
set -eu
cd "$PGLEASE_WORK"
sum="select md5(string_agg(a::text, '|' order by aid)) from pgbench_accounts a"

pgbench -i -q -s 1 >dump.out 2>&1
pgbench -n -t 100 >>dump.out 2>&1
for to in copy1 copy2; do
	psql -X -q -c "create database $to"
done
pg_dump -Fc | pg_restore -d copy1 --exit-on-error
pg_dump -Fd -j 3 -f dump.d
pg_restore -d copy2 -j 2 --exit-on-error dump.d
for to in copy1 copy2; do
	if [ "$(psql -X -Atc "$sum")" != "$(psql -X -At -d $to -c "$sum")" ]; then
		echo "$to differs"
		exit 1
	fi
done
