# SPDX-License-Identifier: PostgreSQL
# A worker with Perl's DBD::Pg: NAME ROUNDS; each round on a connection of its own.
use strict;
use warnings;
use DBI;

my ($name, $rounds) = @ARGV;
for my $n (0 .. $rounds - 1) {
	my $db = DBI->connect('dbi:Pg:', '', '', {RaiseError => 1, PrintError => 0, AutoCommit => 0, pg_server_prepare => 1,
		pg_switch_prepared => 1});
	my $delta = int(rand(10001)) - 5000;
	$db->prepare('update account set balance = balance + ? where id = ?')->execute($delta, 1 + int(rand(10)));
	$db->prepare('insert into history values (?, ?, ?)')->execute($name, $n, $delta);
	$db->commit;
	$db->disconnect;
}
