// SPDX-License-Identifier: PostgreSQL
// What has happened between two looks: told in words, the newest first, the last 50. Nothing here knows the page.

import {plural} from "./format.js";

const MOST = 50;
const TOGETHER_S = 10; // more of the same within this is one event

// Counters of a pool whose increases are worth a line: kind, one, many.
const COUNTERS = {
	revoked_death: ["bad", "lease was taken back: its process died", "leases were taken back: their processes died"],
	revoked_detach: ["warn", "lease was taken back: its process detached", "leases were taken back: their processes detached"],
	revoked_limit: ["bad", "lease was taken back: held for longer than lease_limit",
		"leases were taken back: held for longer than lease_limit"],
	revoked_admin: ["warn", "lease was taken back by command", "leases were taken back by command"],
	leaks: ["bad", "lease is held for longer than leak_threshold", "leases are held for longer than leak_threshold"],
	timeouts: ["warn", "acquire timed out", "acquires timed out"],
	failures: ["warn", "acquire failed", "acquires failed"],
	open_failed: ["bad", "connect to the server failed", "connects to the server failed"],
	closed_upstream: ["warn", "connection was closed by the server", "connections were closed by the server"],
	closed_broken: ["warn", "connection was replaced: returned broken or in doubt",
		"connections were replaced: returned broken or in doubt"],
};

// Who held those slots of a pool whose connection has been replaced since, or is about to be: "psql, pid 812".
function losers(pool, before, now) {
	const slots = new Map((now.slots ?? []).filter((slot) => slot.pool === pool).map((slot) => [slot.slot, slot]));

	return (before.slots ?? []).filter((slot) => slot.pool === pool && slot.state === "leased" && slot.pid !== null).filter((slot) => {
		const is = slots.get(slot.slot);

		return is === undefined || is.generation !== slot.generation || is.state === "broker" || is.state === "empty";
	}).map((slot) => {
		const client = before.clients?.find((c) => c.client === slot.client);

		return `${client !== undefined ? `${client.program}, ` : ""}pid ${slot.pid}`;
	});
}

export class Events {
	constructor() {
		this.list = []; // {time, key, n, text, kind}
		this.before = null;
	}

	// Another broker, or a gap: there is nothing to compare with.
	forget() {
		this.before = null;
	}

	add(time, kind, key, tell, n = 1) {
		const last = this.list.find((event) => event.key === key);

		if (last !== undefined && Math.abs(time - last.time) < TOGETHER_S) {
			last.n += n;
			last.time = time;
			last.text = tell(last.n);
			this.list.splice(this.list.indexOf(last), 1);
			this.list.unshift(last);
			return;
		}
		this.list.unshift({time, kind, key, n, text: tell(n)});
		this.list.length = Math.min(this.list.length, MOST);
	}

	look(data) {
		const time = Number(data.instance.published_at), before = this.before;

		this.before = data;
		if (before === null)
			return;
		for (const pool of data.pools ?? []) {
			const was = before.pools?.find((p) => p.name === pool.name);

			if (was !== undefined)
				this.lookAtPool(time, was, pool, () => losers(pool.name, before, data));
		}
	}

	// who(): of leases that were taken back.
	lookAtPool(time, was, pool, who) {
		const name = `pool ${pool.name}`;

		for (const [counter, [kind, one, many]] of Object.entries(COUNTERS)) {
			const more = pool[counter] - was[counter];

			if (!(more > 0))
				continue;
			const names = counter.startsWith("revoked_") ? who().slice(0, 3).join("; ") : "", by = names ? ` (${names})` : "";

			this.add(time, kind, `${name} ${counter}${by}`, (n) => `${name}: ${plural(n, one, many)}${by}`, more);
		}
		if (was.health !== pool.health || was.reasons !== pool.reasons) {
			const why = pool.reasons ? ` (${pool.reasons.replaceAll(",", ", ")})` : "";

			this.add(time, pool.health === "ok" ? "good" : pool.health === "down" ? "bad" : "warn",
				`${name} health ${pool.health} ${pool.reasons}`, () => `${name} is ${pool.health}${why}`);
		}
		for (const alert of pool.alerts ?? []) {
			const old = was.alerts?.find((a) => a.name === alert.name);

			if (Boolean(old?.raised) !== alert.raised)
				this.add(time, alert.raised ? "bad" : "good", `${name} alert ${alert.name} ${alert.raised}`,
					() => `${name}: alert ${alert.name} ${alert.raised ? "raised" : "cleared"}`);
		}
	}
}
