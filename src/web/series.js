// SPDX-License-Identifier: PostgreSQL
// What the charts draw: steps of a pool's history, as /history.json has them; or, where none is kept, what the page itself has
// seen. Bounded: never more than a range's steps, or so many samples.

import {getJson} from "./poll.js";

// seconds: of the range; step: of a point; every: how often the newest steps are asked for.
export const RANGES = [
	{name: "5 min", seconds: 300, step: 2, every: 2},
	{name: "15 min", seconds: 900, step: 5, every: 5},
	{name: "1 h", seconds: 3600, step: 15, every: 15},
	{name: "6 h", seconds: 21600, step: 120, every: 60},
	{name: "1 day", seconds: 86400, step: 600, every: 60},
];

const TAIL = 5; // steps that are asked for again: the newest one was not over
const TOO_MUCH = 400;
const AGAIN_S = 2;

// The steps of a pool's history, kept up to date.
export class History {
	// take(row): what is kept of a step.
	constructor(take) {
		this.take = take;
		this.forget();
	}

	forget() {
		this.pool = null;
		this.range = null;
		this.rows = [];
		this.askedAt = 0;
		this.kept = true; // false: the broker keeps no history
		this.asking = false;
		this.token = {}; // an answer to what nobody wants any more is dropped
	}

	// Whether there is something new; `now`: seconds.
	async refresh(pool, range, now) {
		if (pool !== this.pool || range !== this.range) {
			this.forget();
			this.pool = pool;
			this.range = range;
		}
		const since = now - this.askedAt;

		if (this.asking || !this.kept || (since >= 0 && since < range.every))
			return false;
		const newest = this.rows.at(-1)?.time, token = this.token, step = range.step;
		const tail = newest !== undefined && now - newest < TAIL * step;
		const to = Math.ceil(now / step) * step, from = tail ? to - 2 * TAIL * step : to - range.seconds;

		this.asking = true;
		this.askedAt = now;
		try {
			const rows = await this.load(pool, from, to, step);

			if (token !== this.token)
				return false;
			const old = rows.length === 0 ? this.rows : this.rows.filter((row) => row.time < rows[0].time);

			this.rows = old.concat(rows).filter((row) => row.time >= to - range.seconds - step);
		} catch (error) {
			if (token !== this.token)
				return false;
			this.kept = error.status !== 404;
			if (this.kept) // what there is stays, and it is asked for again in a moment
				this.askedAt = now - range.every + Math.min(range.every, AGAIN_S);
			else
				this.rows = [];
		} finally {
			if (token === this.token)
				this.asking = false;
		}
		return true;
	}

	// The broker answers so much at a time: where it keeps seconds for long, a long range is asked for in halves.
	async load(pool, from, to, step) {
		const query = new URLSearchParams({pool, since: new Date(from * 1000).toISOString(),
			until: new Date(to * 1000).toISOString(), step: `${step}s`});

		try {
			const {history} = await getJson(`history.json?${query}`);

			return history.map(this.take);
		} catch (error) {
			const steps = Math.round((to - from) / step);

			if (error.status !== TOO_MUCH || steps < 2)
				throw error;
			const middle = from + Math.floor(steps / 2) * step;
			const first = await this.load(pool, from, middle, step);

			return first.concat(await this.load(pool, middle, to, step));
		}
	}
}

const POOLS = 16; // whose numbers are kept
const SAMPLES = 900;

// What the page itself has seen, a sample a second for a quarter of an hour: for a broker that keeps no history.
export class Seen {
	constructor() {
		this.samples = [];
	}

	take(data) {
		const pools = {}, time = Number(data.instance.published_at), list = this.samples;

		// The clock was set back.
		if (list.length > 0 && time < list.at(-1).time)
			list.length = 0;
		for (const pool of (data.pools ?? []).slice(0, POOLS))
			pools[pool.name] = {
				time, max: pool.max, total: pool.total, active_max: pool.leased + pool.granted,
				waiting_max: pool.waiting, maxwait: pool.maxwait, leases_rate: pool.leases_rate,
				queries_rate: pool.queries_rate, transactions_rate: pool.transactions_rate,
				broker_memory: data.instance.memory, client_memory: data.instance.client_memory, server_memory: pool.server_memory,
			};
		list.push({time, pools});
		if (list.length > SAMPLES)
			list.splice(0, list.length - SAMPLES);
	}

	// Rows like the history's.
	rows(pool) {
		return this.samples.map((sample) => sample.pools[pool]).filter((row) => row !== undefined);
	}
}
