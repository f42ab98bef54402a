# SPDX-License-Identifier: PostgreSQL
"""A headless Chromium, driven by chromedriver over the WebDriver protocol; nothing but Python's own library."""

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
TAB = "\ue004"
SHIFT = "\ue008"
ENTER = "\ue007"
SPACE = "\ue00d"


class Failure(Exception):
    pass


def await_that(what, look, seconds=30):
    """Looks again and again until it is true; what it returned. The time only ends a failure."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise Failure(f"{what}: not within {seconds} s")
        time.sleep(0.05)


class Browser:
    def __init__(self, width=1280, height=900, dark=False):
        self.session = None
        self.profile = tempfile.mkdtemp(prefix="chromium-")
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                       text=True, env=os.environ | {"TMPDIR": self.profile})
        for line in self.driver.stdout:
            found = re.search(r"successfully on port (\d+)", line)
            if found:
                self.base = f"http://127.0.0.1:{found[1]}"
                break
        else:
            raise Failure("chromedriver does not say its port")
        try:
            self.begin(width, height, dark)
        except BaseException:
            self.close()
            raise

    def begin(self, width, height, dark):
        arguments = ["--headless=new", f"--window-size={width},{height}", f"--user-data-dir={self.profile}",
                     "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
                     "--disable-component-update", "--disable-sync", "--disable-extensions", "--force-device-scale-factor=1",
                     "--disable-breakpad", "--no-proxy-server"]
        if os.geteuid() == 0:
            arguments.append("--no-sandbox")
        options = {"args": arguments}
        if shutil.which("chromium"):
            options["binary"] = shutil.which("chromium")
        answer = self.call("POST", "/session", {"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}}})
        self.session = f"/session/{answer['sessionId']}"
        self.look(width, height, dark)
        # What it shows at first is none of ours.
        self.open("about:blank")
        self.log("performance")

    def call(self, method, path, body=None):
        data = None if method == "GET" else json.dumps(body if body is not None else {}).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            value = json.load(error)["value"]
            raise Failure(f"{path}: {value['error']}: {value['message']}") from None

    def ask(self, what, body=None):
        return self.call("POST", self.session + what, body)

    def open(self, url):
        self.ask("/url", {"url": url})

    def run(self, script, *args):
        """The body of a function; its result."""
        return self.ask("/execute/sync", {"script": script, "args": list(args)})

    def devtools(self, command, **params):
        return self.ask("/goog/cdp/execute", {"cmd": command, "params": params})

    def look(self, width, height, dark, reduced=False):
        """The size of the page's window, and what its user prefers."""
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self.devtools("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if reduced else "no-preference"}])

    def press(self, *keys):
        actions = []
        for key in keys:
            actions += [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        self.ask("/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def log(self, kind="browser"):
        """What was logged since the last time."""
        return self.ask("/se/log", {"type": kind})

    def requests(self):
        """The addresses that were asked for since the last time."""
        found = []
        for entry in self.log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.append(message["params"]["request"]["url"])
        return found

    def measure(self):
        """After a garbage collection: bytes of the heap, nodes, listeners."""
        self.devtools("Performance.enable")
        self.devtools("HeapProfiler.collectGarbage")
        return {metric["name"]: metric["value"] for metric in self.devtools("Performance.getMetrics")["metrics"]}

    def picture(self, path, whole=False):
        params = {"format": "png"}
        if whole:
            size = self.devtools("Page.getLayoutMetrics")["cssContentSize"]
            params |= {"captureBeyondViewport": True,
                       "clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.devtools("Page.captureScreenshot", **params)["data"]))

    def close(self):
        if self.session is not None:
            try:
                self.call("DELETE", self.session)
            except (Failure, OSError):
                pass
        self.driver.terminate()
        self.driver.wait()
        self.driver.stdout.close()
        shutil.rmtree(self.profile, ignore_errors=True)
