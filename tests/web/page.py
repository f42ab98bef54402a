# SPDX-License-Identifier: PostgreSQL
"""What the broker's page shows, and how it takes what happens: TAP. Run by page.sh."""

import ctypes
import os
import re
import signal
import time
import traceback

import checks
from broker import Broker, Worker, psql
from browser import ENTER, SPACE, TAB, Browser, Failure, await_that

WATCHED_S = int(os.environ.get("PGLEASE_WEB_SECONDS", "60"))
POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
          "frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
CHARTS = os.environ.get("PGLEASE_WEB_CHARTS", "/usr/share/javascript/dygraphs")
POOLS = {"app": ["max_connections = 3", "min_connections = 3", "leak_threshold = 3s", "retry_max = 200ms", "max_lifetime = 0",
                 "acquire_timeout = 120s",
                 # Those would outlast what the tests look at; connection_time and pool_usage never come here.
                 "alert_leaks = 0", "alert_maxwait = 0", "alert_wait_time = 0", "alert_upstream_down = 0", "alert_failure_rate = 0"],
         "jobs": ["max_connections = 2", "min_connections = 1"]}

tests = 0
failed = 0


def is_so(name, check, page=None):
    """One test: it fails by raising. Of a page: whatever the one before has left."""
    global tests, failed
    tests += 1
    try:
        if page is not None:
            page.choose("app")
            page.pause(False)
        check()
        print(f"ok {tests} - {name}", flush=True)
    except Exception:  # whatever it was, the others have their turn
        failed += 1
        print(f"not ok {tests} - {name}")
        for line in traceback.format_exc().splitlines():
            print(f"# {line}", flush=True)


def expect(condition, *what):
    if not condition:
        raise Failure(" ".join(str(w) for w in what))


# --- What the page shows. ---

TABLE = """
const table = document.getElementById(arguments[0]), heads = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
return [...table.tBodies[0].rows].map((row) => Object.fromEntries([...row.cells].map((cell, i) =>
    [heads[i], {value: cell.dataset.value, text: cell.textContent}])));
"""
TILES = """
return Object.fromEntries([...document.querySelectorAll("#tiles .big")].map((dd) =>
    [dd.dataset.field, {value: dd.dataset.value, text: dd.textContent}]));
"""
UNITS = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400, "B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9,
         "%": 0.01, "": 1}


def number_of(text):
    """What a text says, "1 min 5 s" too."""
    total = 0
    for amount, unit in re.findall(r"([0-9.,]+) ?([a-zA-Zµ%]*)", text.replace("/s", "")):
        total += float(amount.replace(",", "")) * UNITS[unit]
    return total


def same(shown, actual, where):
    expected = "" if actual is None else actual
    if isinstance(expected, (int, float)):
        expect(shown["value"] != "" and float(shown["value"]) == float(expected), where, "shows", shown, "of", actual)
        # Two digits at least are right in every text: 59.9 s is followed by minutes, whole ones of an hour.
        expect(abs(number_of(shown["text"]) - float(expected)) <= 0.006 * abs(float(expected)) + 1e-12, where, "says", shown)
    else:
        expect(shown["value"] == expected, where, "shows", shown, "of", actual)
        expect(shown["text"] == (expected or "–"), where, "says", shown)


class Page:
    """A browser that shows a broker's page."""

    def __init__(self, broker, **how):
        self.broker = broker
        self.browser = Browser(**how)

    def open(self):
        self.browser.open(self.broker.url)
        self.shows("health", "ok")

    def text(self, of):
        return self.browser.run("return document.getElementById(arguments[0]).textContent", of)

    def shows(self, of, what, seconds=30):
        return await_that(f"#{of} has '{what}'", lambda: re.search(what, self.text(of)), seconds)

    def table(self, name):
        return self.browser.run(TABLE, name)

    def choose(self, pool):
        self.browser.run("const s = document.getElementById('pool'); s.value = arguments[0]; "
                         "s.dispatchEvent(new Event('change'))", pool)

    def pause(self, on):
        self.browser.run("if (pglease.poller.paused !== arguments[0]) document.getElementById('pause').click()", on)

    def clock(self):
        return self.browser.run("return Date.now()")

    def awaits(self, of, pattern):
        """Has the page itself note when a text comes; .came() is its clock then."""
        self.browser.run("""
            window.came = null;
            window.watcher?.disconnect();
            pglease.poller.latest = pglease.poller.slowest = 0;
            const [id, pattern] = arguments, element = document.getElementById(id), re = new RegExp(pattern);
            window.watcher = new MutationObserver(() => {
                if (window.came === null && re.test(element.textContent))
                    window.came = Date.now();
            });
            window.watcher.observe(element, {childList: true, subtree: true, characterData: true});
            """, of, pattern)

    def came(self, what):
        return await_that(what, lambda: self.browser.run("return window.came"))

    def lateness(self):
        """By how much the machine kept the page from looking when it wanted to, and its answer from coming; milliseconds."""
        return self.browser.run("return pglease.poller.latest + pglease.poller.slowest")


def within_two_seconds(page, since, came):
    # The bound, and what the machine took from the page's own timer: that is not the page's doing.
    bound = 2000 + page.lateness()
    print(f"# after {came - since:.0f} ms, of {bound:.0f}")
    expect(came - since <= bound, "after", came - since, "ms, of", bound)


def equal_numbers(page, pool):
    """At a quiet moment: both look until nothing has moved between."""
    broker = page.broker

    def still(stats):
        # All but what moves by itself.
        return [[{name: value for name, value in row.items() if name != "maxwait" and not name.startswith("server_")}
                 for row in stats["pools"]], [slot["state"] for slot in stats["slots"]], [c["pid"] for c in stats["clients"]]]

    def compare():
        page.pause(False)
        before = broker.stats()
        published = page.browser.run("return pglease.data?.instance.published_at ?? 0")
        await_that("the next answer", lambda: page.browser.run("return pglease.data.instance.published_at") > published)
        page.pause(True)
        stats = broker.stats()
        row = next(p for p in stats["pools"] if p["name"] == pool)
        if row["leases_rate"] != 0 or still(before) != still(stats):
            return False
        for field, shown in page.browser.run(TILES).items():
            if field != "server_memory":
                same(shown, row[field], f"tile {field}")
        slots = {str(s["slot"]): s for s in stats["slots"] if s["pool"] == pool}
        shown = {s["Slot"]["value"]: s for s in page.table("slots")}
        expect(set(slots) == set(shown), "slots", set(slots), set(shown))
        for number, slot in slots.items():
            for title, field in (("State", "state"), ("Thread", "tid"), ("Acquired at", "acquired_at"), ("Leases", "leases"),
                                 ("Backend", "server_pid"), ("Flags", "flags")):
                if field in ("tid", "server_pid"):
                    expect(shown[number][title]["value"] == str(slot[field] if slot[field] is not None else ""), number, title)
                else:
                    same(shown[number][title], slot[field], f"slot {number} {title}")
            expect(slot["pid"] is None or f"({slot['pid']})" in shown[number]["Process"]["text"], number, "holder")
        clients = {str(c["pid"]): c for c in stats["clients"]}
        shown = {c["PID"]["value"]: c for c in page.table("clients")}
        expect(set(clients) == set(shown), "clients", clients, shown)
        for pid, client in clients.items():
            same(shown[pid]["Program"], client["program"], "program")
            same(shown[pid]["Leases"], client["leases_held"], "leases of a client")
            same(shown[pid]["Waiting"], client["waiting"], "waiting of a client")
        waiters = sorted((w["row"], w["tid"]) for w in stats["waiters"] if w["pool"] == pool)
        expect(waiters == sorted((int(w["Row"]["value"]), int(w["Thread"]["value"])) for w in page.table("waiters")), "waiters")
        names = {"wait for a lease": "wait", "length of a lease": "hold", "connect to the server": "connect", "query": "query",
                 "transaction": "transaction"}
        shown = {names[t["What"]["text"]]: t for t in page.table("times")}
        expect(len(shown) == len(names), "times", shown)
        for time_of, cells in shown.items():
            for title, field in (("How many", "count"), ("Mean", "mean"), ("p50", "p50"), ("p95", "p95"), ("p99", "p99"),
                                 ("Longest", "max")):
                same(cells[title], row[f"{time_of}_{field}"], f"{time_of} {field}")
        shown = {p["Pool"]["value"]: p for p in page.table("pools")}
        for each in stats["pools"]:
            for title, field in (("Health", "health"), ("Leased", "leased"), ("Idle", "idle"), ("Open", "total"), ("At most", "max"),
                                 ("Waiting", "waiting"), ("At once", "efficiency"), ("Timed out", "timeouts"), ("Leaks", "leaks"),
                                 ("Died", "revoked_death"), ("Database", "database"), ("User", "user")):
                same(shown[each["name"]][title], each[field], f"pool {each['name']} {title}")
        expect(f"pid {stats['instance']['broker_pid']}," in page.text("broker"), "the broker's pid")
        return True

    await_that("a quiet moment", compare)
    page.pause(False)


def lines_are_drawn(page):
    def look():
        charts = page.browser.run("""
            return [...document.querySelectorAll(".chart")].map((figure) => ({id: figure.id,
                lines: figure.querySelectorAll("canvas").length,
                height: figure.querySelector(".area").clientHeight,
                text: figure.querySelector(".area").getAttribute("aria-label"),
                inked: [...figure.querySelectorAll("canvas")].some((canvas) => canvas.getContext("2d")
                    .getImageData(0, 0, canvas.width, canvas.height).data.some((byte) => byte !== 0))}));""")
        expect(len(charts) == 10, len(charts), "charts")
        return charts if all(c["lines"] > 0 and c["inked"] and c["height"] > 100 for c in charts) and any(
            c["id"] == "chart-use" and "open 3" in c["text"] for c in charts) and any(
            c["id"] == "chart-memory" and re.search(r"servers [0-9.]+ MB", c["text"]) for c in charts) else None
    await_that("every chart has its canvas, connections and the servers' memory have their numbers", look)


def headers_are_strict(broker):
    status, headers, body = broker.get("")
    expect(status == 200 and headers["Content-Security-Policy"] == POLICY, status, headers)
    expect(headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer", headers)
    expect(headers["Cache-Control"] == "no-cache" and headers["Content-Type"] == "text/html; charset=utf-8", headers)
    tag = headers["ETag"]
    expect(re.fullmatch(r'"[0-9a-f]{16}"', tag), tag)
    status, headers, body = broker.get("", If_None_Match=f'"other", {tag}')
    expect(status == 304 and headers["ETag"] == tag and body == b"", status, headers)
    expect(broker.get("", If_None_Match='"other"')[0] == 200)
    status, headers, body = broker.get("", method="HEAD")
    expect(status == 200 and body == b"" and int(headers["Content-Length"]) > 1000, status, headers)
    # Names of a table, not of files.
    for path in ("web", "web/", "web/index.html", "web/../web/page.js", "web/%70age.js", "web/page.js/", "web//page.js",
                 "web/dygraph.css", "../etc/passwd", "web/..%2f..%2fetc/passwd"):
        expect(broker.get(path)[0] == 404, path, "is served")
    expect(broker.get("", method="POST")[0] == 405)
    expect(broker.get("", Host="evil.example")[0] == 403)
    # Nothing of it needs what the policy forbids.
    for name in ("", "web/page.js", "web/charts.js", "web/tables.js"):
        text = broker.get(name)[2].decode()
        expect(not re.search(r"<style|style=|onclick=|innerHTML|eval\(", text), name or "/")


def no_growth(page):
    """Somebody leases all the time, under the eyes of the page."""
    browser, busy = page.browser, [Worker(page.broker, "jobs")]
    try:
        browser.requests()
        before, rounds, began = None, 0, time.monotonic()
        while time.monotonic() - began < WATCHED_S:
            busy.pop().end()
            busy.append(Worker(page.broker, "jobs"))
            browser.requests()
            browser.log()
            rounds += 1
            if before is None and time.monotonic() - began > min(20, WATCHED_S / 3):
                before, since, looks = browser.measure(), time.monotonic(), page.browser.run("return pglease.looks")
        page.choose("app")
        expect(abs(page.clock() / 1000 - page.browser.run("return Number(pglease.data.instance.published_at)")) < 5, "it is late")
        looks, elapsed = page.browser.run("return pglease.looks") - looks, time.monotonic() - since
        after = browser.measure()
        print(f"# {rounds} workers, {looks} looks in {elapsed:.0f} s; heap {before['JSHeapUsedSize'] / 1e6:.2f} to "
              f"{after['JSHeapUsedSize'] / 1e6:.2f} MB, nodes {before['Nodes']:.0f} to {after['Nodes']:.0f}, listeners "
              f"{before['JSEventListeners']:.0f} to {after['JSEventListeners']:.0f}")
        expect(looks >= elapsed / 3, looks, "looks in", elapsed, "s")
        # A second more is a sample of about 1 kB, until there are 900; and a few rows.
        expect(after["JSHeapUsedSize"] <= before["JSHeapUsedSize"] + 5e5 + 4e3 * min(elapsed, 900), "the heap has grown")
        expect(after["Nodes"] <= before["Nodes"] + 150, "the document has grown")
        expect(after["JSEventListeners"] <= before["JSEventListeners"], "there are more listeners")
        sizes = browser.run("return [pglease.seen.samples.length, pglease.history.rows.length, pglease.events.list.length]")
        expect(all(n <= most for n, most in zip(sizes, (900, 242, 50))), "more than is allowed", sizes)
    finally:
        for worker in busy:
            worker.end()


def hidden_asks_nothing(page):
    browser = page.browser
    browser.run("""Object.defineProperty(document, "hidden", {configurable: true, get: () => true});
        document.dispatchEvent(new Event("visibilitychange"));""")
    await_that("the last answer", lambda: not browser.run("return pglease.poller.asking"))
    looks = browser.run("return pglease.looks")
    # What does not happen cannot be awaited: three times the interval.
    time.sleep(3)
    expect(browser.run("return pglease.looks") == looks, "a hidden page asks")
    browser.run("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    await_that("it asks again", lambda: browser.run("return pglease.looks") > looks)


# --- What happens to it. ---

def death(page):
    worker = Worker(page.broker, "app")
    page.shows("clients", str(worker.pid))
    page.awaits("events", rf"lease was taken back: its process died \(psql, pid {worker.pid}\)")
    since = page.clock()
    worker.end(signal.SIGKILL)
    within_two_seconds(page, since, page.came("the death of a worker"))
    await_that("it is gone from the clients", lambda: str(worker.pid) not in page.text("clients"))
    expect(page.broker.pool("app")["revoked_death"] == 1, "it was not revoked")


def leak(page):
    page.awaits("alerts", "a leak\\? slot")
    before = page.broker.pool("app")["leaks"]
    worker = Worker(page.broker, "app")
    try:
        slot = await_that("the lease", lambda: next((s for s in page.broker.stats()["slots"] if s["pid"] == worker.pid), None))
        came = page.came("the leak")
        within_two_seconds(page, (slot["held_since"] + 3) * 1000, came)
        expect(came >= (slot["held_since"] + 3) * 1000 - 1, "it is told before it is one")
        expect(f"psql ({worker.pid})" in page.text("alerts"), page.text("alerts"))
        page.shows("events", "lease is held for longer than leak_threshold")
        await_that("the broker's own report", lambda: page.broker.pool("app")["leaks"] == before + 1)
    finally:
        worker.end()
    await_that("it is over", lambda: "leak" not in page.text("alerts"))


def waiting(page):
    holders = [Worker(page.broker, "app") for _ in range(3)]
    waiter = Worker(page.broker, "app", waits=True)
    try:
        await_that("a waiter", lambda: page.table("waiters"))
        expect(f"({waiter.pid})" in page.table("waiters")[0]["Process"]["text"], page.table("waiters"))
        equal_numbers(page, "app")
        page.shows("alerts", "a thread has waited for a lease for more than 1 second")
        page.shows("health", "degraded")
    finally:
        for holder in holders:
            holder.end()
        waiter.end()
    page.shows("health", "^ok$")


def upstream_down(page):
    psql("alter database app allow_connections false")
    try:
        psql("select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = 'app'")
        page.shows("health", "down")
        page.shows("alerts", "pool app is down: connects to the server fail, and there is no connection")
        expect("bad" in page.browser.run("return document.getElementById('health').className"))
        expect(page.browser.run("return document.title").startswith("! "))
    finally:
        psql("alter database app allow_connections true")
    page.shows("health", "^ok$")
    await_that("the alert goes", lambda: "down" not in page.text("alerts"))


def restart(page):
    page.browser.log()
    page.broker.control("restart")
    looks = page.browser.run("return pglease.looks")
    await_that("it goes on", lambda: page.browser.run("return pglease.looks") > looks + 1)
    page.shows("health", "^ok$")


def another_broker(page):
    """Killed; the next one has other pools."""
    page.choose("jobs")
    page.broker.kill()
    page.shows("away", "The broker is away since \\d\\d:\\d\\d:\\d\\d")
    expect(page.browser.run("return !document.getElementById('away').hidden"))
    page.shows("health", "broker away")
    page.broker.write({"app": POOLS["app"], "other": ["max_connections = 7"]})
    page.broker.start()
    page.shows("health", "^ok$")
    expect(page.browser.run("return document.getElementById('away').hidden"), "it says that it is away")
    page.shows("events", f"another broker has taken over, pid {page.broker.process.pid}")
    expect(page.browser.run("return [...document.getElementById('pool').options].map((o) => o.value).join()") == "app,other")
    expect(page.text("tiles") != "" and page.browser.run("return document.getElementById('pool').value") == "app")
    page.choose("other")
    await_that("the other pool", lambda: "of 7" in page.text("tiles"))
    expect(page.table("pools")[1]["Pool"]["text"] == "other")


def alerts_of_pools(page):
    """What another version of the broker may add to a pool."""
    page.browser.run("""
        const real = window.fetch;
        window.fetch = async (path, ...rest) => {
            const answer = await real(path, ...rest);
            if (path !== "stats.json")
                return answer;
            const data = await answer.json();
            data.alerts = [{pool: data.pools[0].name, alert: "maxwait", unit: "seconds"}];
            data.pools[0].alerts = [{name: "maxwait", raised: window.rings, since_seconds: 5, value: 2, threshold: 1}];
            return new Response(JSON.stringify(data));
        };""")
    page.shows("no-alerts", "No alerts")
    await_that("no alerts", lambda: page.browser.run("return !document.getElementById('no-alerts').hidden"))
    page.browser.run("window.rings = true")
    page.shows("alerts", "pool app: alert maxwait, since \\d\\d:\\d\\d:\\d\\d: beyond 1 s")
    page.choose("app")
    row = page.table("watch")[0]
    expect([row[c]["text"] for c in ("Alert", "State", "Now", "Raised from", "For")] == ["maxwait", "raised", "2 s", "1 s", "5 s"], row)
    page.shows("events", "pool app: alert maxwait raised")
    expect(page.browser.run("return document.getElementById('no-alerts').hidden"))
    page.browser.run("window.rings = false")
    page.shows("events", "pool app: alert maxwait cleared")


def without_charts():
    broker = Broker(POOLS, ["http_charts = /nowhere", "history = no"], name="plain")
    broker.start()
    page = None
    try:
        expect(broker.get("web/dygraph.min.js")[0] == 404)
        with open(f"{broker.folder}/log", encoding="utf-8") as file:
            expect(file.read().count("/nowhere/dygraph.min.js: No such file or directory") == 1, "the log does not say so once")
        page = Page(broker)
        page.open()
        page.shows("charts-note", "the broker's host has no dygraphs.*The broker keeps no history")
        await_that("numbers", lambda: page.browser.run(
            "return document.querySelector('#chart-use [data-field=total]').textContent") == "3")
        expect(page.browser.run("return document.querySelectorAll('canvas').length") == 0)
        expect(not re.search("–|^$", page.browser.run(TILES)["leased"]["text"]))
    finally:
        if page is not None:
            page.browser.close()
        broker.stop()


def no_page():
    broker = Broker(POOLS, ["http_page = no"], name="bare")
    broker.start()
    try:
        for path in ("", "web/page.js", "web/words.json"):
            status, _, body = broker.get(path)
            expect(status == 404 and b"there are: /metrics /stats.json" in body, path, status, body)
        expect(broker.get("stats.json")[0] == 200)
    finally:
        broker.stop()


def reap():
    """Chromium's processes end when they like: nothing is left when all have."""
    def gone():
        try:
            while os.waitpid(-1, os.WNOHANG)[0] != 0:
                pass
            return False
        except ChildProcessError:
            return True
    await_that("the end of all processes", gone)


def main():
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: for reap()
    for name in ("app", "jobs", "other"):
        psql(f"create database {name}")
    broker = Broker(POOLS, [f"http_charts = {CHARTS}"])
    broker.start()
    page = None
    try:
        page = Page(broker)
        is_so("headers of the page", lambda: headers_are_strict(broker))
        is_so("it opens", page.open)
        is_so("lines are drawn", lambda: lines_are_drawn(page))
        is_so("its numbers are the segment's", lambda: equal_numbers(page, "app"))
        is_so("landmarks, headings, labels, tables", lambda: checks.structure(page.browser))
        is_so("contrast, light", lambda: checks.contrast(page.browser, False))
        is_so("contrast, dark", lambda: checks.contrast(page.browser, True))
        is_so("each control is reached by the keyboard, and seen", lambda: checks.keyboard(page.browser, TAB))
        is_so("ranges and pause by the keyboard", lambda: checks.keys_work(page.browser, TAB, SPACE, ENTER))
        for width in (360, 390, 1280, 2560):
            is_so(f"nothing is beside a screen of {width}", lambda w=width: checks.width(page.browser, w))
        is_so("nothing moves where that is asked for", lambda: checks.motion(page.browser))
        is_so("waiters, and why it is degraded", lambda: waiting(page), page)
        is_so("a worker is killed", lambda: death(page), page)
        is_so("a leak", lambda: leak(page), page)
        is_so("the numbers after that", lambda: equal_numbers(page, "app"), page)
        is_so("upstream down, and back", lambda: upstream_down(page), page)
        is_so("a restart is not noticed", lambda: restart(page), page)
        # Up to here nothing may have failed in the browser, and nothing else may have been asked.
        is_so("the browser's log is empty", lambda: checks.log_is_empty(page.browser))
        is_so("no other host was asked", lambda: checks.requests(page.browser, broker.url))
        is_so(f"it does not grow in {WATCHED_S} s", lambda: no_growth(page), page)
        is_so("a hidden page asks nothing", lambda: hidden_asks_nothing(page), page)
        is_so("the broker is killed, another has other pools", lambda: another_broker(page), page)
        is_so("alerts, where the broker has them", lambda: alerts_of_pools(page))
    finally:
        if page is not None:
            page.browser.close()
        broker.stop()
    is_so("without dygraphs and history it has numbers", without_charts)
    is_so("no page where none is wanted", no_page)
    print(f"1..{tests}")


if __name__ == "__main__":
    main()
    reap()
