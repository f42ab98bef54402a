// SPDX-License-Identifier: PostgreSQL
// What the charts draw: steps of a pool's history, as /history.json has them, and what the page itself has seen, for what the
// history does not keep. Bounded: never more than a range's steps, and so many samples.

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

// The steps of a pool's history, kept up to date.
export class History {
	// fields: what is kept of a step.
	constructor(fields) {
		this.fields = fields;
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

			return history.map((row) => Object.fromEntries(this.fields.map((field) => [field, row[field]])));
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
const FINE = {every: 0.5, most: 900, smooth: 5}; // every: at least so many seconds between two; smooth: samples of a rate
const COARSE = {every: 60, most: 1440, smooth: 1};
const RESOURCES = ["cpu", "memory", "disk_read", "disk_written"];

function resources(row, prefix) {
	return Object.fromEntries(RESOURCES.map((name) => [name, row?.[prefix + name] ?? null]));
}

// What the page has seen: a sample for each second of a quarter of an hour, and one for each minute of a day.
export class Seen {
	constructor() {
		this.fine = [];
		this.coarse = [];
	}

	take(data) {
		const pools = {}, time = Number(data.instance.published_at);

		for (const pool of (data.pools ?? []).slice(0, POOLS))
			pools[pool.name] = {
				max: pool.max, total: pool.total, idle: pool.idle, active_max: pool.leased + pool.granted,
				waiting_max: pool.waiting, maxwait: pool.maxwait, leases_rate: pool.leases_rate,
				queries_rate: pool.queries_rate, transactions_rate: pool.transactions_rate,
				server: resources(pool, "server_"),
			};
		const sample = {time, broker: resources(data.instance, ""), client: resources(data.instance, "client_"), pools};

		this.push(this.fine, FINE, sample);
		this.push(this.coarse, COARSE, sample);
	}

	push(list, kind, sample) {
		const last = list.at(-1);

		// The clock was set back.
		if (last !== undefined && sample.time < last.time)
			list.length = 0;
		if (list.length > 0 && sample.time - last.time < kind.every)
			return;
		list.push(sample);
		if (list.length > kind.most)
			list.splice(0, list.length - kind.most);
	}

	// Of a range: rows like the history's, with what each kind of process used, "broker_cpu" and so on, per second where it counts.
	rows(pool, range) {
		const kind = range.seconds <= 900 ? FINE : COARSE, list = kind === FINE ? this.fine : this.coarse;
		const from = (list.at(-1)?.time ?? 0) - range.seconds, rows = [];

		for (let i = 0; i < list.length; i++) {
			const sample = list[i], before = list[Math.max(i - kind.smooth, 0)];

			if (sample.time < from)
				continue;
			const row = {time: sample.time, ...sample.pools[pool]};

			this.addResources(row, "broker", sample.time - before.time, before.broker, sample.broker);
			this.addResources(row, "client", sample.time - before.time, before.client, sample.client);
			this.addResources(row, "server", sample.time - before.time, before.pools[pool]?.server, sample.pools[pool]?.server);
			rows.push(row);
		}
		return rows;
	}

	addResources(row, who, elapsed, before, now) {
		for (const name of RESOURCES) {
			const was = before?.[name] ?? null, is = now?.[name] ?? null;

			if (name === "memory")
				row[`${who}_memory`] = is;
			else
				row[`${who}_${name}`] = was === null || is === null || elapsed <= 0 || is < was ? null : (is - was) / elapsed;
		}
	}
}

// Of the history, for the charts of resources: it has the broker's alone.
export function withBroker(row) {
	return {...row, broker_cpu: row.cpu === null || !row.covered ? null : row.cpu / row.covered, broker_memory: row.memory};
}
