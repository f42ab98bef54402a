# SPDX-License-Identifier: PostgreSQL
# What psql does besides queries: \c, \copy, \conninfo, a script. Ends with 0 if all is as ever.
set -eu
cd "$PGLEASE_WORK"

# same WHAT GOT WANTED
same() {
	[ "$2" = "$3" ] || {
		printf '%s: "%s" instead of "%s"\n' "$1" "$2" "$3"
		exit 1
	}
}

seq 1 1000 >numbers
psql -X -q -v ON_ERROR_STOP=1 -c 'create table n (i int)' -c '\copy n from numbers' -c '\copy (select i from n order by i) to again'
cmp numbers again
same '\c' "$(psql -X -Atq -c 'create temporary table mine (i int)' -c '\c' -c "select to_regclass('mine') is null")" \
	t
same '\conninfo' "$(psql -X -At -c '\conninfo')" \
	"You are connected to database \"postgres\" as user \"postgres\" via socket in \"$PGHOST\" at port \"5432\"."
same '\c to another database' "$(psql -X -Atq -c '\c template1' -c 'select current_database()' 2>&1 | tail -n 1)" template1
printf '%s\n' '\set ON_ERROR_STOP 1' 'begin;' 'delete from n;' 'select 1/0;' >script
! psql -X -q -f script >said 2>&1
grep -q 'division by zero' said
same 'after a script that failed' "$(psql -X -Atc 'select count(*) from n')" 1000
