<?php
// SPDX-License-Identifier: PostgreSQL
// A worker with PHP's pgsql: NAME ROUNDS; each round on a connection of its own.
[, $name, $rounds] = $argv;
for ($n = 0; $n < $rounds; $n++) {
	$conn = pg_connect('', PGSQL_CONNECT_FORCE_NEW) or exit(1);
	$delta = random_int(-5000, 5000);
	pg_query($conn, 'begin') or exit(1);
	pg_prepare($conn, 'pay', 'update account set balance = balance + $1 where id = $2') or exit(1);
	pg_execute($conn, 'pay', [$delta, random_int(1, 10)]) or exit(1);
	pg_query_params($conn, 'insert into history values ($1, $2, $3)', [$name, $n, $delta]) or exit(1);
	pg_query($conn, 'commit') or exit(1);
	pg_close($conn);
}
