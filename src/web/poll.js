// SPDX-License-Identifier: PostgreSQL
// Asks the broker once a second, while somebody can see the page; less often while it does not answer. One request at a time.

const EVERY_MS = 1000;
const SLOWEST_MS = 4000;
const PATIENCE_MS = 5000;

export async function getJson(path) {
	const answer = await fetch(path, {cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS)});

	if (!answer.ok) {
		const error = new Error((await answer.text()).trim());

		error.status = answer.status;
		throw error;
	}
	return answer.json();
}

export class Poller {
	// onData(data), onAway(error): each may be called any number of times.
	constructor(path, onData, onAway) {
		this.path = path;
		this.onData = onData;
		this.onAway = onAway;
		this.pause = EVERY_MS;
		this.timer = null;
		this.asking = false;
		this.paused = false;
		// The latest round and the slowest answer so far, milliseconds: whoever measures this page subtracts them.
		this.latest = 0;
		this.slowest = 0;
		this.due = 0;
		document.addEventListener("visibilitychange", () => this.now());
	}

	setPaused(paused) {
		this.paused = paused;
		this.now();
	}

	now() {
		clearTimeout(this.timer);
		this.timer = null;
		this.due = 0;
		if (!document.hidden && !this.paused)
			this.round();
	}

	async round() {
		if (this.asking)
			return; // it goes on by itself
		this.asking = true;
		if (this.due !== 0)
			this.latest = Math.max(this.latest, performance.now() - this.due);
		const began = performance.now();
		let data = null, failure = null;

		try {
			data = await getJson(this.path);
			this.pause = EVERY_MS;
			this.slowest = Math.max(this.slowest, performance.now() - began);
		} catch (error) {
			failure = error;
			this.pause = Math.min(2 * this.pause, SLOWEST_MS);
		}
		this.asking = false;
		this.schedule(began);
		if (data !== null)
			this.onData(data);
		else
			this.onAway(failure);
	}

	schedule(began) {
		if (document.hidden || this.paused)
			return;
		const wait = Math.max(this.pause - (performance.now() - began), 100);

		this.due = performance.now() + wait;
		this.timer = setTimeout(() => this.round(), wait);
	}
}
