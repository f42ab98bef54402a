# SPDX-License-Identifier: PostgreSQL
"""What a page owes those who cannot see it well, have no mouse, or a small screen; and what it owes its broker's host."""

from browser import Failure, await_that

STRUCTURE = """
const wrong = [], all = (selector) => [...document.querySelectorAll(selector)], name = (e) => e.outerHTML.slice(0, 80);
if (document.documentElement.lang !== "en") wrong.push("no language");
if (document.title === "") wrong.push("no title");
for (const one of ["header", "main", "footer", "nav", "h1"])
    if (all(one).length !== 1) wrong.push(`${all(one).length} of ${one}`);
let level = 0;
for (const h of all("h1, h2, h3, h4")) {
    const n = Number(h.tagName[1]);
    if (n > level + 1) wrong.push(`${name(h)} after a heading of level ${level}`);
    if (h.textContent.trim() === "") wrong.push(`empty: ${name(h)}`);
    level = n;
}
for (const section of all("section"))
    if (!document.getElementById(section.getAttribute("aria-labelledby"))) wrong.push(`no title: ${name(section)}`);
for (const table of all("table")) {
    if (!table.caption?.textContent) wrong.push(`no caption: ${table.id}`);
    for (const cell of table.querySelectorAll("thead th"))
        if (cell.scope !== "col") wrong.push(`no scope: ${name(cell)}`);
    for (const row of table.tBodies[0].rows)
        if (row.cells[0].tagName !== "TH" || row.cells[0].scope !== "row") wrong.push(`a row without a name: ${name(row)}`);
}
for (const control of all("input, select, button").filter((e) => e.checkVisibility()))
    if (!(control.labels[0] ?? control).textContent.trim() || (control.tagName !== "BUTTON" && control.labels.length === 0))
        wrong.push(`no label: ${name(control)}`);
for (const region of all("[role=region]")) {
    if (region.tabIndex !== 0) wrong.push(`cannot be scrolled by keys: ${name(region)}`);
    if (!document.getElementById(region.getAttribute("aria-labelledby"))?.textContent) wrong.push(`no name: ${name(region)}`);
}
for (const image of all("[role=img]"))
    if (!image.hidden && !image.getAttribute("aria-label")) wrong.push(`no text: ${name(image)}`);
for (const figure of all("figure"))
    if (!figure.querySelector("figcaption dd[data-field]")) wrong.push(`no numbers: ${figure.id}`);
const ids = all("[id]").map((e) => e.id);
for (const id of ids)
    if (ids.indexOf(id) !== ids.lastIndexOf(id)) wrong.push(`twice: #${id}`);
for (const [id, how] of [["health", "polite"], ["alerts", "polite"]])
    if (document.getElementById(id).getAttribute("aria-live") !== how) wrong.push(`#${id} is not live`);
if (document.getElementById("away").getAttribute("role") !== "alert") wrong.push("#away is no alert");
const style = all("body [style]").filter((e) => !e.closest(".area"));
if (style.length > 0) wrong.push(`style attributes: ${style.map(name)}`);
return wrong;
"""

CONTRAST = """
const parse = (text) => text.match(/[0-9.]+/g).map(Number), wrong = [], seen = new Set();
const luminance = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
function ground(element) {
    for (let e = element; e !== null; e = e.parentElement) {
        const colour = parse(getComputedStyle(e).backgroundColor);
        if (colour.length === 3 || colour[3] === 1) return colour;
        if (colour[3] !== 0) wrong.push(`half a ground: ${e.outerHTML.slice(0, 60)}`);
    }
    return [255, 255, 255];
}
const ratio = (a, b) => { const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
let texts = 0;
for (let node = walker.nextNode(); node !== null; node = walker.nextNode()) {
    const element = node.parentElement;
    if (node.textContent.trim() === "" || !element.checkVisibility() || element.closest("noscript")) continue;
    const style = getComputedStyle(element), size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    const r = ratio(parse(style.color), ground(element)), key = `${style.color} on ${ground(element)}`;
    texts++;
    if (r < (large ? 3 : 4.5) && !seen.has(key)) {
        seen.add(key);
        wrong.push(`${r.toFixed(2)}: ${key}: ${node.textContent.trim().slice(0, 40)}`);
    }
}
// Lines and cells, against what they lie on; borders of what can be pressed.
const css = (name) => { const e = document.createElement("i"); e.className = "probe"; document.body.append(e);
    e.style.setProperty("color", `var(${name})`); const c = parse(getComputedStyle(e).color); e.remove(); return c; };
for (const line of ["--line-1", "--line-2", "--line-3", "--line-4", "--accent", "--bad", "--quiet"])
    if (ratio(css(line), css("--sheet")) < 3) wrong.push(`${line}: ${ratio(css(line), css("--sheet")).toFixed(2)}`);
// Those that are there only at times.
for (const kind of ["good", "warn", "bad"])
    if (ratio(css(`--${kind}`), css(`--${kind}-ground`)) < 4.5) wrong.push(kind);
if (texts < 50) wrong.push(`only ${texts} texts`);
return wrong;
"""

FOCUSED = """
const e = document.activeElement, shown = e.matches("fieldset input") ? e.nextSibling : e, style = getComputedStyle(shown);
const box = shown.getBoundingClientRect();
return {id: e.id || e.value || e.href || e.getAttribute("aria-labelledby") || e.tagName, outline: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
    inside: box.right > 0 && box.bottom > 0 && box.left < innerWidth && box.top < innerHeight, body: e === document.body};
"""

# Of a group of radio buttons the keyboard stops at one.
STOPS = """
return [...document.querySelectorAll("a[href], button, select, input:checked, [tabindex='0']")].filter((e) => e.checkVisibility())
    .map((e) => e.id || e.value || e.href || e.getAttribute("aria-labelledby"));
"""


def right(wrong):
    if wrong:
        raise Failure("; ".join(wrong))


def structure(browser):
    right(browser.run(STRUCTURE))


def contrast(browser, dark):
    browser.look(1280, 900, dark)
    try:
        ground = browser.run("return getComputedStyle(document.body).backgroundColor")
        if ("14, 17, 22" in ground) != dark:
            raise Failure(f"the ground is {ground}")
        right(browser.run(CONTRAST))
    finally:
        browser.look(1280, 900, False)


def keyboard(browser, tab):
    wanted = browser.run(STOPS)
    if len(wanted) < 12:
        raise Failure(f"only {wanted}")
    browser.run("window.getSelection().removeAllRanges(); document.activeElement.blur(); window.scrollTo(0, 0)")
    reached = []
    for _ in range(len(wanted)):
        browser.press(tab)
        focused = browser.run(FOCUSED)
        if not focused["outline"] or not focused["inside"]:
            raise Failure(f"the focus is not seen: {focused}")
        reached.append(focused["id"])
    if reached != wanted:
        raise Failure(f"the keyboard reaches {reached}, of {wanted}")


def keys_work(browser, tab, space, enter):
    browser.run("document.querySelector('fieldset input:checked').focus()")
    browser.press("\ue014")  # to the right
    await_that("the next range", lambda: browser.run("return location.hash").startswith("#range=900"))
    browser.press("\ue012")
    await_that("the range before", lambda: browser.run("return location.hash").startswith("#range=300"))
    browser.run("document.getElementById('pause').focus()")
    browser.press(space)
    if browser.run("return document.getElementById('pause').getAttribute('aria-pressed')") != "true":
        raise Failure("the space bar does not pause")
    browser.press(enter)
    if browser.run("return document.getElementById('pause').getAttribute('aria-pressed')") != "false":
        raise Failure("Enter does not go on")
    browser.run("document.getElementById('pool').focus()")
    browser.press("j")
    await_that("another pool", lambda: "pool=jobs" in browser.run("return location.hash"))
    browser.press("\ue013")  # up
    await_that("the first pool", lambda: "pool=app" in browser.run("return location.hash"))


def width(browser, pixels):
    browser.look(pixels, 800, False)
    try:
        await_that("the charts follow", lambda: browser.run("""
            return [...document.querySelectorAll(".area canvas")].every((c) => c.clientWidth <= c.closest(".area").clientWidth)"""))
        right(browser.run("""
            const wide = document.documentElement.scrollWidth;
            if (wide <= innerWidth && innerWidth === arguments[0]) return [];
            return [`${wide} of ${innerWidth}`, ...[...document.querySelectorAll("body *")].filter((e) => e.checkVisibility() &&
                !e.closest(".scroll table") && e.getBoundingClientRect().right > innerWidth).map((e) => e.outerHTML.slice(0, 60))];
            """, pixels))
    finally:
        browser.look(1280, 900, False)


def motion(browser):
    browser.look(1280, 900, False, reduced=True)
    try:
        if browser.run("return document.getAnimations().length") != 0:
            raise Failure("something moves")
    finally:
        browser.look(1280, 900, False)


def log_is_empty(browser):
    right([entry["message"] for entry in browser.log()])


def requests(browser, url):
    asked = browser.requests()
    if len(asked) < 10:
        raise Failure(f"only {asked}")
    right([address for address in asked if not address.startswith(url)])
