# SPDX-License-Identifier: PostgreSQL
# A worker with psql: NAME ROUNDS; each round by a psql of its own.
n=0
while [ "$n" -lt "$2" ]; do
	psql -X -q -v ON_ERROR_STOP=1 -v name="$1" -v n="$n" <<-'END' || exit 1
		select random() * 10000 - 5000 as delta, 1 + (random() * 9)::int as id \gset
		begin;
		update account set balance = balance + (:delta)::int where id = :id;
		insert into history values (:'name', :n, (:delta)::int);
		commit;
	END
	n=$((n + 1))
done
