// SPDX-License-Identifier: PostgreSQL
// The page: what was asked for (pool, range), the last answer, and where its numbers go.

import {bytes, clock, count, duration, NONE, plain, plural, rate, share} from "./format.js";
import {canDraw, Charts, ofStep} from "./charts.js";
import {Events} from "./events.js";
import {getJson, Poller} from "./poll.js";
import {History, RANGES, Seen} from "./series.js";
import {setText, setValue, Table, updateList} from "./tables.js";

const MAP_CELLS = 512;
const STATES = ["leased", "granted", "returned", "broker", "idle", "empty"]; // those who want a look first

const byId = (id) => document.getElementById(id);
const tables = Object.fromEntries(["slots", "waiters", "times", "watch", "pools", "clients"]
	.map((name) => [name, new Table(name)]));
const history = new History(ofStep), seen = new Seen(), events = new Events();
let charts = null, data = null, reasons = {}, awaySince = null, range = RANGES[0], wanted = null;
let looks = 0; // answers that were shown

// --- What was asked for, kept in the address, so that a reload shows the same. ---

function readAddress() {
	const asked = new URLSearchParams(location.hash.slice(1));

	wanted = asked.get("pool");
	range = RANGES.find((r) => String(r.seconds) === asked.get("range")) ?? RANGES[0];
}

function writeAddress() {
	const asked = new URLSearchParams({range: range.seconds});

	if (wanted !== null)
		asked.set("pool", wanted);
	window.history.replaceState(null, "", `#${asked}`);
}

function currentPool() {
	const pools = data?.pools ?? [];

	return pools.find((pool) => pool.name === wanted) ?? pools[0];
}

// --- The head. ---

// Raised alerts, reasons against a pool's health, and leases that look like leaks: a line each, without numbers that
// change from second to second, so that each is read out once.
function attentionItems() {
	const items = [];

	for (const pool of data.pools ?? []) {
		for (const alert of (pool.alerts ?? []).filter((a) => a.raised))
			items.push({kind: "bad", text: `pool ${pool.name}: alert ${alert.name}, since ` +
				`${clock(data.instance.published_at - alert.since_seconds)}: beyond ${inUnit(pool, alert, alert.threshold)}`});
		for (const name of pool.reasons ? pool.reasons.split(",") : [])
			items.push({kind: pool.health === "down" ? "bad" : "warn",
				text: `pool ${pool.name} is ${pool.health}: ${reasons[name] ?? name}`});
	}
	const limits = new Map((data.pools ?? []).map((pool) => [pool.name, pool.leak_threshold]));

	for (const slot of (data.slots ?? []).filter((s) => isOverdue(s, limits.get(s.pool))).slice(0, 10))
		items.push({kind: "bad", text: `pool ${slot.pool}: a leak? slot ${slot.slot} is leased since ${clock(slot.held_since)} by ` +
			`${holderOf(slot)}${slot.acquired_at ? `, acquired at ${slot.acquired_at}` : ""}`});
	return items;
}

// The unit is in a table of its own.
function inUnit(pool, alert, value) {
	const unit = data.alerts?.find((a) => a.pool === pool.name && a.alert === alert.name)?.unit;

	return ({seconds: duration, ratio: share, bytes, count}[unit] ?? plain)(value);
}

function isOverdue(slot, threshold) {
	return slot.held_for !== null && threshold > 0 && slot.held_for >= threshold;
}

function holderOf(row) {
	const client = row.client === null ? undefined : data.clients?.find((c) => c.client === row.client);

	return row.pid === null ? NONE : client === undefined ? String(row.pid) : `${client.program} (${row.pid})`;
}

function showHead() {
	const instance = data.instance, items = attentionItems(), health = instance.health ?? "";

	setText(byId("instance"), instance.name);
	setText(byId("health"), awaySince !== null ? "broker away" : instance.monitoring ? health : "monitoring is off");
	byId("health").className = `badge ${awaySince !== null ? "bad" : {ok: "good", degraded: "warn", down: "bad"}[health] ?? ""}`;
	document.title = `${awaySince !== null || (instance.monitoring && health !== "ok") ? "! " : ""}${instance.name}: pglease`;
	setText(byId("broker"), `${instance.program}, pid ${instance.broker_pid}, ${instance.state}, up ${duration(instance.uptime)}, ` +
		`${plural(instance.clients ?? 0, "client", "clients")} of at most ${count(instance.clients_max)}`);
	updateList(byId("alerts"), items);
	byId("no-alerts").hidden = items.length > 0 || (data.pools ?? []).every((pool) => pool.alerts === undefined);
	byId("attention").hidden = items.length === 0 && byId("no-alerts").hidden;
}

function showPools() {
	const select = byId("pool"), names = (data.pools ?? []).map((pool) => pool.name), pool = currentPool();

	if (names.join("\n") !== [...select.options].map((option) => option.value).join("\n"))
		select.replaceChildren(...names.map((name) => new Option(name, name)));
	if (pool !== undefined && select.value !== pool.name)
		select.value = pool.name;
	for (const element of document.querySelectorAll(".pool-name"))
		setText(element, pool?.name ?? "");
}

// --- The pool. ---

const TILES = [
	["leased", "Leased", count, (pool) => `of ${count(pool.max)}, peak ${count(pool.peak)}`],
	["waiting", "Waiting", count, (pool) => `oldest ${duration(pool.maxwait)}`],
	["leases_rate", "Leases", rate, (pool) => `${share(pool.efficiency)} at once`],
	["queries_rate", "Queries", rate, (pool) => `${rate(pool.transactions_rate)} transactions`],
	["wait_p99", "Wait p99", duration, (pool) => `median ${duration(pool.wait_p50)}`],
	["hold_p99", "Lease p99", duration, (pool) => `median ${duration(pool.hold_p50)}`],
	["timeouts", "Timed out", count, (pool) => `${count(pool.failures)} failed besides`],
	["server_memory", "Servers", bytes, (pool) => `${count(pool.total)} open, ${count(pool.idle)} idle`],
];

function makeTiles() {
	for (const [field, title] of TILES) {
		const tile = document.createElement("div"), term = document.createElement("dt"), value = document.createElement("dd"),
			more = document.createElement("dd");

		term.textContent = title;
		value.className = "big";
		value.dataset.field = field;
		more.className = "quiet";
		tile.append(term, value, more);
		byId("tiles").append(tile);
	}
}

function showTiles(pool) {
	TILES.forEach(([field, , show, more], i) => {
		const [, value, under] = byId("tiles").children[i].children;

		setValue(value, pool[field], show);
		setText(under, more(pool));
	});
}

function showSlots(pool) {
	const slots = (data.slots ?? []).filter((slot) => slot.pool === pool.name);
	const order = (slot) => STATES.indexOf(slot.state);
	const sorted = slots.map((slot) => ({...slot, holder: holderOf(slot), overdue: isOverdue(slot, pool.leak_threshold)}))
		.sort((a, b) => order(a) - order(b) || (b.held_for ?? 0) - (a.held_for ?? 0) || a.slot - b.slot);

	tables.slots.update(sorted, (slot) => (slot.overdue ? "bad" : slot.state));
	const map = byId("map"), shown = slots.slice(0, MAP_CELLS);

	while (map.children.length > shown.length)
		map.lastChild.remove();
	while (map.children.length < shown.length)
		map.append(document.createElement("span"));
	shown.forEach((slot, i) => {
		const className = `cell ${slot.state}${isOverdue(slot, pool.leak_threshold) ? " bad" : ""}`;

		if (map.children[i].className !== className)
			map.children[i].className = className;
	});
}

function showTimes(pool) {
	const what = {wait: "wait for a lease", hold: "length of a lease", connect: "connect to the server", query: "query",
		transaction: "transaction"};

	tables.times.update(Object.entries(what).filter(([name]) => pool[`${name}_count`] !== undefined).map(([name, time]) => ({time,
		...Object.fromEntries(["count", "mean", "p50", "p95", "p99", "max"].map((field) => [field, pool[`${name}_${field}`]]))})));
}

function showWatch(pool) {
	const alerts = pool.alerts ?? [];

	byId("watched").hidden = pool.alerts === undefined;
	tables.watch.update([...alerts].sort((a, b) => b.raised - a.raised).map((alert) => ({...alert,
		state: alert.raised ? "raised" : "ok", value: inUnit(pool, alert, alert.value),
		threshold: inUnit(pool, alert, alert.threshold)})), (alert) => (alert.raised ? "bad" : ""));
}

function showTables(pool) {
	const waiters = (data.waiters ?? []).filter((waiter) => waiter.pool === pool.name)
		.map((waiter) => ({...waiter, holder: holderOf(waiter)})).sort((a, b) => b.waiting_for - a.waiting_for);
	const colour = (row) => ({degraded: "warn", down: "bad"}[row.health] ?? "");

	tables.waiters.update(waiters, () => "", Math.max(waiters.length, pool.waiting));
	tables.pools.update((data.pools ?? []).map((p) => ({...p, reasons: p.reasons.replaceAll(",", ", ")})), colour);
	tables.clients.update([...data.clients ?? []].sort((a, b) => b.leases_held - a.leases_held || b.waiting - a.waiting ||
		a.client - b.client));
}

function showEvents() {
	const list = byId("events"), all = events.list;

	byId("no-events").hidden = all.length > 0;
	while (list.children.length > all.length)
		list.lastChild.remove();
	while (list.children.length < all.length) {
		const item = document.createElement("li");

		item.append(document.createElement("time"), " ", document.createElement("span"));
		list.append(item);
	}
	all.forEach((event, i) => {
		const item = list.children[i];

		setText(item.firstChild, clock(event.time));
		setText(item.lastChild, event.text);
		if (item.className !== event.kind)
			item.className = event.kind;
	});
}

// --- Charts. ---

async function showCharts(again) {
	const pool = currentPool();

	if (pool === undefined || charts === null)
		return;
	const asked = range, fresh = await history.refresh(pool.name, asked, Number(data.instance.published_at));

	if (asked !== range || pool.name !== currentPool()?.name || !(fresh || again || !history.kept))
		return;
	charts.update(history.kept ? history.rows : seen.rows(pool.name), range, history.kept ? range.step : 2);
	const note = [canDraw() ? "" : "No lines: the broker's host has no dygraphs (Debian: libjs-dygraphs). The numbers are there.",
		history.kept ? "" : "The broker keeps no history (history = no): the charts begin when the page was opened."].join(" ").trim();

	setText(byId("charts-note"), note);
	byId("charts-note").hidden = note === "";
}

// --- Answers. ---

async function learn() {
	try {
		const words = await getJson("web/words.json");

		reasons = words.reasons;
		for (const [name, table] of Object.entries(tables))
			table.explain(words.columns[name]);
	} catch {
		// Their names will do.
	}
}

function show() {
	const pool = currentPool();

	showHead();
	showPools();
	if (pool !== undefined) {
		showTiles(pool);
		showSlots(pool);
		showTimes(pool);
		showWatch(pool);
		showTables(pool);
	}
	showEvents();
}

function onData(answer) {
	const same = data === null || data.instance.started_at === answer.instance.started_at &&
		data.instance.broker_pid === answer.instance.broker_pid;

	// The page of another version comes with its broker; and of one that monitors nothing any more nothing of before may stay.
	if (data !== null &&
		(data.instance.program !== answer.instance.program || data.instance.monitoring !== answer.instance.monitoring)) {
		location.reload();
		return;
	}
	if (!same) {
		const pid = answer.instance.broker_pid;

		events.forget();
		events.add(Number(answer.instance.published_at), "warn", `broker ${answer.instance.started_at}`,
			() => `another broker has taken over, pid ${pid}`);
		learn();
	}
	if (awaySince !== null || !same)
		history.forget();
	awaySince = null;
	byId("away").hidden = true;
	data = answer;
	events.look(data);
	if (data.pools !== undefined)
		seen.take(data);
	show();
	looks++;
	showCharts(false);
}

function onAway() {
	if (awaySince === null) {
		awaySince = Date.now() / 1000;
		setText(byId("away"), `The broker is away since ${clock(awaySince)}: what is below was so then. ` +
			"Leases go on without it; this page comes back by itself.");
		byId("away").hidden = false;
		events.add(awaySince, "bad", "away", () => "the broker does not answer");
		events.forget();
	}
	if (data !== null)
		showHead();
	else
		setText(byId("health"), "broker away");
	showEvents();
}

// --- The start. ---

function makeRanges() {
	for (const r of RANGES) {
		const label = document.createElement("label"), input = document.createElement("input");

		input.type = "radio";
		input.name = "range";
		input.value = r.seconds;
		input.checked = r === range;
		input.addEventListener("change", () => choose(wanted, r));
		label.append(input, document.createElement("span"));
		label.lastChild.textContent = r.name;
		byId("ranges").append(label);
	}
}

function choose(pool, newRange) {
	wanted = pool;
	range = newRange;
	writeAddress();
	if (data !== null) {
		show();
		showCharts(true);
	}
}

readAddress();
makeRanges();
makeTiles();
charts = new Charts(byId("charts"));
learn();

const poller = new Poller("stats.json", onData, onAway);

byId("pool").addEventListener("change", (event) => choose(event.target.value, range));
byId("controls").addEventListener("submit", (event) => event.preventDefault());
byId("pause").addEventListener("click", (event) => {
	poller.setPaused(!poller.paused);
	event.target.setAttribute("aria-pressed", String(poller.paused));
});
// For whoever tests this page.
window.pglease = {poller, history, seen, events, get data() { return data; }, get looks() { return looks; }};
poller.now();
