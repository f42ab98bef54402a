<?php
// SPDX-License-Identifier: PostgreSQL
// A worker with PHP's PDO: NAME ROUNDS; each round on a connection of its own.
[, $name, $rounds] = $argv;
for ($n = 0; $n < $rounds; $n++) {
	$pdo = new PDO('pgsql:', null, null, [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
	$delta = random_int(-5000, 5000);
	$pdo->beginTransaction();
	$pdo->prepare('update account set balance = balance + ? where id = ?')->execute([$delta, random_int(1, 10)]);
	$pdo->prepare('insert into history values (?, ?, ?)')->execute([$name, $n, $delta]);
	$pdo->commit();
	unset($pdo);
}
