# SPDX-License-Identifier: PostgreSQL
# A worker with Ruby's pg: NAME ROUNDS; each round on a connection of its own.
require 'pg'

name, rounds = ARGV[0], ARGV[1].to_i
rounds.times do |n|
  conn = PG.connect
  delta = rand(-5000..5000)
  conn.transaction do
    conn.prepare('pay', 'update account set balance = balance + $1 where id = $2')
    conn.exec_prepared('pay', [delta, rand(1..10)])
    conn.exec_params('insert into history values ($1, $2, $3)', [name, n, delta])
  end
  conn.close
end
