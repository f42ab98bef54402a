// SPDX-License-Identifier: PostgreSQL
// The charts: which there are, and one figure for each: its current numbers, and, where dygraphs is there, its lines. Legend and
// marks are ours: those of dygraphs bring style attributes, which the page's policy does not allow.

import {byteRate, bytes, clock, count, duration, NONE, rate, share} from "./format.js";
import {setText, setValue} from "./tables.js";

// series: a row's field, its name, its colour (page.css). log: a logarithmic scale; step: whole numbers, which do not slope.
const CHARTS = [
	{id: "throughput", title: "Throughput", show: rate, series: [["leases_rate", "leases", 1],
		["queries_rate", "queries", 2], ["transactions_rate", "transactions", 3]]},
	{id: "use", title: "Connections", show: count, step: true, series: [["active_max", "leased, at most", 1],
		["total", "open", 2], ["max", "allowed", 4]], fill: true},
	{id: "waiting", title: "Threads waiting", show: count, step: true, fill: true, series: [["waiting_max", "waiting, at most", 4]]},
	{id: "wait", title: "Wait for a lease", show: duration, log: true, series: [["wait_p50", "p50", 1], ["wait_p95", "p95", 2],
		["wait_p99", "p99", 3], ["maxwait", "oldest waiter", 4]]},
	{id: "hold", title: "Length of a lease", show: duration, log: true, series: [["hold_p50", "p50", 1], ["hold_p95", "p95", 2],
		["hold_p99", "p99", 3]]},
	{id: "query", title: "Queries", show: duration, log: true, series: [["query_p50", "p50", 1], ["query_p95", "p95", 2],
		["query_p99", "p99", 3]]},
	{id: "transaction", title: "Transactions", show: duration, log: true, series: [["transaction_p50", "p50", 1],
		["transaction_p95", "p95", 2], ["transaction_p99", "p99", 3]]},
	{id: "cpu", title: "CPU, of one processor", show: share, series: [["server_cpu", "servers", 1],
		["client_cpu", "clients", 2], ["broker_cpu", "broker", 3]]},
	{id: "memory", title: "Memory", show: bytes, series: [["server_memory", "servers", 1],
		["client_memory", "clients", 2], ["broker_memory", "broker", 3]]},
	{id: "disk", title: "Disk, read and written", show: byteRate, series: [["server_disk", "servers", 1],
		["client_disk", "clients", 2], ["broker_disk", "broker", 3]]},
];

const FIELDS = CHARTS.flatMap((what) => what.series.map(([field]) => field));

// Of a step of the history, what is drawn: it has a hundred numbers more. What processes used is told per second.
export function ofStep(step) {
	const row = {...step, broker_cpu: step.cpu, broker_memory: step.memory, broker_disk: step.disk}, taken = {time: step.time};

	for (const field of FIELDS) {
		const value = row[field] ?? null, counts = /_(cpu|disk)$/.test(field);

		taken[field] = !counts ? value : value === null || !(step.covered > 0) ? null : value / step.covered;
	}
	return taken;
}

function library() {
	return window.Dygraph;
}

export function canDraw() {
	return library() !== undefined;
}

function css(name) {
	return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function make(name, parent, className) {
	const element = document.createElement(name);

	if (className)
		element.className = className;
	parent.append(element);
	return element;
}

class Chart {
	constructor(what, parent) {
		this.what = what;
		this.points = [];
		this.at = null; // the point under the pointer
		this.figure = make("figure", parent, "chart");
		this.figure.id = `chart-${what.id}`;
		const caption = make("figcaption", this.figure);

		make("h3", caption).textContent = what.title;
		const legend = make("dl", caption, "legend");

		this.when = make("span", caption, "when quiet");
		this.values = what.series.map(([field, name, colour]) => {
			const pair = make("div", legend, `colour-${colour}`), term = make("dt", pair), value = make("dd", pair);

			term.textContent = name;
			value.dataset.field = field;
			return value;
		});
		this.area = make("div", this.figure, "area");
		this.area.setAttribute("role", "img");
		this.area.hidden = true;
	}

	labels() {
		return ["time", ...this.what.series.map(([, name]) => name)];
	}

	colours() {
		return this.what.series.map(([, , colour]) => css(`--line-${colour}`));
	}

	// Rows in the order of time, `gap` seconds apart; a longer pause is a gap in the lines.
	setRows(rows, gap) {
		const points = [], none = this.what.series.map(() => null);
		let last = null;

		for (const row of rows) {
			if (last !== null && row.time - last > 2.5 * gap)
				points.push([new Date((last + gap) * 1000), ...none]);
			points.push([new Date(row.time * 1000), ...this.what.series.map(([field]) => this.valueOf(row[field]))]);
			last = row.time;
		}
		this.points = points;
		this.newest = rows.at(-1);
	}

	// A logarithm of 0 there is not.
	valueOf(value) {
		return value === null || value === undefined || (this.what.log && !(value > 0)) ? null : value;
	}

	showNumbers(row) {
		this.values.forEach((value, i) => setValue(value, row?.[this.what.series[i][0]] ?? null, this.what.show));
	}

	describe(rangeName) {
		const most = this.what.series.map(([, name], i) => {
			const values = this.points.map((point) => point[i + 1]).filter((value) => value !== null);

			return `${name} ${values.length > 0 ? this.what.show(values.reduce((a, b) => Math.max(a, b))) : NONE}`;
		});

		return `${this.what.title}, last ${rangeName}. Highest: ${most.join(", ")}.`;
	}

	draw(range, from, to) {
		const text = this.describe(range.name);

		this.look(this.at);
		if (this.area.getAttribute("aria-label") !== text)
			this.area.setAttribute("aria-label", text);
		const empty = this.points.every((point) => point.slice(1).every((value) => value === null));

		this.area.classList.toggle("empty", empty);
		if (!canDraw())
			return;
		this.area.hidden = false;
		const file = this.points.length > 0 ? this.points : [[new Date(to), ...this.what.series.map(() => null)]];
		const options = {file, dateWindow: [from, to], valueRange: this.valueRange(empty), drawGrid: !empty};

		if (this.graph === undefined)
			this.graph = this.create(options);
		else
			this.graph.updateOptions(options);
	}

	// From 0 up; of a logarithm, what is there; where there is nothing, something.
	valueRange(empty) {
		if (empty)
			return this.what.log ? [1e-6, 1] : [0, 1];
		if (this.what.log)
			return null;
		let most = 0;

		for (const point of this.points)
			for (const value of point.slice(1))
				most = Math.max(most, value ?? 0);
		return [0, most > 0 ? most * 1.1 : 1];
	}

	create(options) {
		const Dygraph = library(), label = (value) => this.what.show(value);

		return new Dygraph(this.area, options.file, {
			...options,
			...this.theme(),
			labels: this.labels(),
			legend: "never",
			interactionModel: {}, // a finger on a chart scrolls the page
			logscale: Boolean(this.what.log),
			stepPlot: Boolean(this.what.step),
			strokeWidth: 1.75,
			connectSeparatedPoints: false,
			highlightCircleSize: 3,
			axisLabelFontSize: 12,
			animatedZooms: false,
			rightGap: 8,
			series: this.what.fill ? {[this.what.series[0][1]]: {fillGraph: true}} : {},
			axes: {
				x: {axisLabelWidth: 60, pixelsPerLabel: 70, axisLabelFormatter: (date) => clock(date / 1000).slice(0, 5)},
				y: {axisLabelWidth: 58, pixelsPerLabel: 28, axisLabelFormatter: label, ...this.integers()},
			},
			highlightCallback: (event, x) => this.look(x),
			unhighlightCallback: () => this.look(null),
		});
	}

	integers() {
		if (this.what.show !== count)
			return {};
		const Dygraph = library();

		// Whole numbers only.
		return {ticker: (a, b, pixels, opts, graph, values) =>
			Dygraph.numericTicks(a, b, pixels, opts, graph, values).filter((tick) => tick.v === Math.round(tick.v))};
	}

	// The numbers under the pointer, in the place of the newest; they stay when newer ones come, as long as their point is there.
	look(x) {
		this.at = x;
		const point = x === null ? undefined : this.points.find((p) => p[0].getTime() === x);

		if (point === undefined) {
			setText(this.when, "");
			this.showNumbers(this.newest);
			return;
		}
		setText(this.when, `at ${clock(x / 1000)}`);
		this.values.forEach((value, i) => setValue(value, point[i + 1], this.what.show));
	}

	theme() {
		return {colors: this.colours(), gridLineColor: css("--line"), axisLineColor: css("--line"), fillAlpha: 0.18};
	}

	recolour() {
		this.graph?.updateOptions(this.theme());
	}
}

export class Charts {
	constructor(parent) {
		const Dygraph = library();

		// Legends and titles come with style attributes.
		if (Dygraph !== undefined)
			Dygraph.PLUGINS = Dygraph.PLUGINS.filter((plugin) => plugin === Dygraph.Plugins.Axes || plugin === Dygraph.Plugins.Grid);
		this.charts = CHARTS.map((what) => new Chart(what, parent));
		matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
			for (const chart of this.charts)
				chart.recolour();
		});
	}

	// `rows`: in the order of time, `gap` seconds apart.
	update(rows, range, gap) {
		const to = (rows.at(-1)?.time ?? Date.now() / 1000) * 1000, from = to - range.seconds * 1000;

		for (const chart of this.charts) {
			chart.setRows(rows, gap);
			chart.draw(range, from, to);
		}
	}
}
