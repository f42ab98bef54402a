// SPDX-License-Identifier: PostgreSQL
// The page's tables: which columns they have, and how rows of /stats.json get into them. A table keeps its rows and
// cells and only changes their text; it never has more rows than its limit, and says how many it leaves out.

import {bytes, clock, count, duration, plain, rate, share} from "./format.js";

const text = {left: true, show: plain};
// Each: the field of the row (or a function of it), its title, and how it is shown. The first one names the row.
export const TABLES = {
	slots: {
		caption: "Slots of the pool: held the longest first",
		empty: "No slot has a connection.",
		limit: 128,
		columns: [
			["slot", "Slot", {show: plain}],
			["state", "State", text],
			["holder", "Process", text],
			["tid", "Thread", {show: plain}],
			["held_for", "Held for", {show: duration}],
			["acquired_at", "Acquired at", text],
			["idle_for", "Idle for", {show: duration}],
			["leases", "Leases", {show: count}],
			["server_pid", "Backend", {show: plain}],
			["cpu", "CPU", {show: duration}],
			["memory", "Memory", {show: bytes}],
			["flags", "Flags", text],
		],
	},
	waiters: {
		caption: "Threads that wait: the longest first",
		empty: "Nobody waits.",
		limit: 64,
		columns: [
			["row", "Row", {show: plain}],
			["waiting_for", "Waits for", {show: duration}],
			["holder", "Process", text],
			["tid", "Thread", {show: plain}],
		],
	},
	times: {
		caption: "Since the broker has counted; percentiles within 1.6 %",
		empty: "Nothing was timed.",
		limit: 8,
		columns: [
			["time", "What", text],
			["count", "How many", {show: count}],
			["mean", "Mean", {show: duration}],
			["p50", "p50", {show: duration}],
			["p95", "p95", {show: duration}],
			["p99", "p99", {show: duration}],
			["max", "Longest", {show: duration}],
		],
	},
	watch: {
		caption: "Alerts of the pool: those that are raised first",
		empty: "All of them are off.",
		limit: 32,
		columns: [
			["name", "Alert", text],
			["state", "State", text],
			["value", "Now", {show: plain}],
			["threshold", "Raised from", {show: plain}],
			["since_seconds", "For", {show: duration}],
		],
	},
	pools: {
		caption: "Pools of the instance",
		empty: "There is no pool.",
		limit: 64,
		columns: [
			["name", "Pool", text],
			["health", "Health", text],
			["reasons", "Why", text],
			["leased", "Leased", {show: count}],
			["idle", "Idle", {show: count}],
			["total", "Open", {show: count}],
			["max", "At most", {show: count}],
			["waiting", "Waiting", {show: count}],
			["maxwait", "Longest wait", {show: duration}],
			["leases_rate", "Leases", {show: rate}],
			["queries_rate", "Queries", {show: rate}],
			["transactions_rate", "Transactions", {show: rate}],
			["efficiency", "At once", {show: share}],
			["timeouts", "Timed out", {show: count}],
			["failures", "Failed", {show: count}],
			["leaks", "Leaks", {show: count}],
			["revoked_death", "Died", {show: count}],
			["database", "Database", text],
			["user", "User", text],
		],
	},
	clients: {
		caption: "Attached processes: those with leases first",
		empty: "No process is attached.",
		limit: 128,
		columns: [
			["pid", "PID", {show: plain}],
			["program", "Program", text],
			["uid", "User", {show: plain}],
			["leases_held", "Leases", {show: count}],
			["waiting", "Waiting", {show: count}],
			["attached_since", "Since", {show: clock}],
			["cpu", "CPU", {show: duration}],
			["memory", "Memory", {show: bytes}],
			["disk_read", "Read", {show: bytes}],
			["disk_written", "Written", {show: bytes}],
		],
	},
};

function make(name, parent, attributes = {}) {
	const element = document.createElement(name);

	for (const [key, value] of Object.entries(attributes))
		element.setAttribute(key, value);
	parent.append(element);
	return element;
}

export function setText(element, value) {
	if (element.textContent !== value)
		element.textContent = value;
}

// The number itself stays with its text, for programs that read the page.
export function setValue(element, value, show) {
	const raw = value === null || value === undefined ? "" : String(value);

	if (element.dataset.value !== raw || element.textContent === "") {
		element.dataset.value = raw;
		setText(element, show(value));
	}
}

export class Table {
	constructor(name) {
		const table = document.getElementById(name), what = TABLES[name];

		this.what = what;
		this.caption = make("caption", table, {id: `${name}-caption`});
		this.heads = {};
		const row = make("tr", make("thead", table));

		for (const [field, title, how] of what.columns) {
			const head = make("th", row, {scope: "col"});

			if (how.left)
				head.className = "left";
			head.textContent = title;
			this.heads[field] = head;
		}
		this.body = make("tbody", table);
		this.note = make("td", make("tr", make("tfoot", table)), {colspan: what.columns.length});
		setText(this.caption, what.caption);
	}

	// What the broker says about its columns: shown where the pointer rests.
	explain(helps) {
		for (const [field, head] of Object.entries(this.heads))
			if (helps?.[field])
				head.title = helps[field];
	}

	// `mark`: the class of a row, or "". `total`: rows that there are, where not all were sent.
	update(rows, mark = () => "", total = rows.length) {
		const shown = Math.min(rows.length, this.what.limit), body = this.body;

		while (body.rows.length > shown)
			body.deleteRow(-1);
		while (body.rows.length < shown)
			this.addRow();
		for (let i = 0; i < shown; i++) {
			const tr = body.rows[i], className = mark(rows[i]);

			if (tr.className !== className)
				tr.className = className;
			this.what.columns.forEach(([field, , how], n) => setValue(tr.cells[n], rows[i][field], how.show));
		}
		const note = shown === 0 ? this.what.empty : total > shown ? `and ${count(total - shown)} more` : "";

		setText(this.note, note);
		this.note.parentNode.hidden = note === "";
	}

	addRow() {
		const row = make("tr", this.body);

		this.what.columns.forEach(([, , how], n) => {
			const cell = make(n === 0 ? "th" : "td", row, n === 0 ? {scope: "row"} : {});

			if (how.left)
				cell.className = "left";
		});
	}
}

// A list of texts: each an item of its own, kept as long as its text is there, so that a screen reader hears what is new.
export function updateList(list, items) {
	const wanted = new Map(items.map((item) => [item.text, item]));

	for (const li of [...list.children]) {
		if (wanted.has(li.textContent))
			wanted.delete(li.textContent);
		else
			li.remove();
	}
	for (const item of wanted.values())
		make("li", list, {class: item.kind}).textContent = item.text;
}
