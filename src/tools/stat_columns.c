/* SPDX-License-Identifier: PostgreSQL */
/* Which columns a table shows without -o: the usual ones, or those of an aspect (-t, -p, -c, -l). */
#include "history_table.h"
#include "stat_output_priv.h"

/* JSON shows every column, but for aspects. No list: the usual one. */
static const char *const columns[STAT_NASPECTS][STAT_NRESOURCES] = {
    [STAT_USUAL] =
        {
            [STATS_POOLS] = "name,health,state,max,total,idle,leased,granted,busy,waiting,maxwait,wait_count,wait_p50,"
                            "wait_p99,hold_p50,hold_p99,timeouts",
            [STATS_SLOTS] = "pool,slot,state,flags,server_pid,pid,tid,held_for,idle_for,leases,acquired_at",
            [STATS_CLIENTS] = "client,pid,uid,program,attached_since,leases_held,waiting,cpu,memory",
            [STATS_WAITERS] = "pool,row,pid,tid,waiting_for",
            [STATS_INSTANCE] = "health,reasons,uptime,pools,clients,pid,cpu,memory,descriptors,segments,"
                               "stats_segment,history_segments",
            [STATS_HISTOGRAMS] = "pool,time,count,sum",
            [STATS_ALERTS] = "pool,alert,state,state_for,value,threshold,count",
            [STAT_HISTORY] = HISTORY_TABLE_USUAL,
        },
    [STAT_TIMES] =
        {
            [STATS_POOLS] = "name,maxwait,wait_mean,wait_p50,wait_p99,wait_max,hold_mean,hold_p50,hold_p99,hold_max,"
                            "connect_mean,connect_max,query_p50,query_p99,transaction_p50,transaction_p99",
            [STATS_SLOTS] = "pool,slot,state,held_since,held_for,idle_for,cpu",
            [STATS_CLIENTS] = "client,pid,attached_since,cpu",
            [STATS_WAITERS] = "pool,row,waiting_for",
            [STATS_ALERTS] = "pool,alert,state,since,state_for,count",
            [STATS_INSTANCE] = "uptime,cpu,client_cpu",
        },
    [STAT_PIDS] =
        {
            [STATS_POOLS] = "name,total,leased,waiting",
            [STATS_SLOTS] = "pool,slot,state,server_pid,pid,tid",
            [STATS_CLIENTS] = "client,pid,program,leases_held,waiting",
            [STATS_WAITERS] = "pool,row,pid,tid",
            [STATS_INSTANCE] = "pid,threads,clients",
        },
    [STAT_OWNERS] =
        {
            [STATS_POOLS] = "name,database,user",
            [STATS_SLOTS] = "pool,slot,state,flags,client,pid,acquired_at",
            [STATS_CLIENTS] = "client,pid,uid,program",
            [STATS_WAITERS] = "pool,row,client,pid",
            [STATS_INSTANCE] = "pid,pools,clients",
        },
    [STAT_LIMITS] =
        {
            [STATS_POOLS] = "name,min_connections,max,reserve_connections,total,peak,max_leases_per_client,"
                            "acquire_timeout,connect_timeout,reset_timeout,idle_timeout,max_lifetime,leak_threshold,"
                            "lease_limit",
            [STATS_SLOTS] = "pool,slot,generation,leases,held_for,idle_for",
            [STATS_CLIENTS] = "client,pid,leases_held,waiting,memory",
            [STATS_WAITERS] = "pool,row,waiting_for",
            [STATS_ALERTS] = "pool,alert,value,threshold,unit",
            [STATS_INSTANCE] = "clients,clients_max,descriptors,descriptors_max,memory,segments,stats_segment,"
                               "history_segments",
        },
};

const char *
stat_columns(enum stat_aspect aspect, unsigned resource)
{
	const char *list = columns[aspect][resource];

	return list != NULL ? list : columns[STAT_USUAL][resource];
}
