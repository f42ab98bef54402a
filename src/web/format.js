// SPDX-License-Identifier: PostgreSQL
// Numbers as people read them: in, what /stats.json has (seconds, bytes, shares, per second; null: not there). Pure.

export const NONE = "–";

// Three digits that count: 0.123, 1.23, 12.3, 123, 1,234.
function digits(n) {
	const size = Math.abs(n);

	if (size >= 100 || n === Math.round(n))
		return Math.round(n).toLocaleString("en");
	return String(Number(n.toPrecision(3)));
}

function scaled(n, units) {
	for (const [least, unit] of units)
		if (n >= least)
			return `${digits(n / least)} ${unit}`;
	return null;
}

export function duration(s) {
	if (s === null || s === undefined)
		return NONE;
	if (s === 0)
		return "0";
	if (s >= 59.95) {
		const whole = Math.round(s), d = Math.floor(whole / 86400), h = Math.floor(whole / 3600) % 24,
			min = Math.floor(whole / 60) % 60;

		return d > 0 ? `${d} d ${h} h` : h > 0 ? `${h} h ${min} min` : `${min} min ${whole % 60} s`;
	}
	return scaled(s, [[1, "s"], [1e-3, "ms"], [1e-6, "µs"], [1e-9, "ns"]]) ?? "0";
}

export function count(n) {
	return n === null || n === undefined ? NONE : digits(n);
}

export function rate(n) {
	return n === null || n === undefined ? NONE : `${digits(n)}/s`;
}

export function bytes(n) {
	return n === null || n === undefined ? NONE : scaled(n, [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]]) ?? `${digits(n)} B`;
}

export function byteRate(n) {
	return n === null || n === undefined ? NONE : `${bytes(n)}/s`;
}

export function share(n) {
	return n === null || n === undefined ? NONE : `${digits(n * 100)} %`;
}

export function plain(n) {
	return n === null || n === undefined || n === "" ? NONE : String(n);
}

// A moment in seconds since the epoch, as a local time of day.
export function clock(s) {
	if (s === null || s === undefined)
		return NONE;
	const t = new Date(s * 1000), two = (n) => String(n).padStart(2, "0");

	return `${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}`;
}

export function plural(n, one, many) {
	return `${count(n)} ${n === 1 ? one : many}`;
}
