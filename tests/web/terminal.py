# SPDX-License-Identifier: PostgreSQL
"""A program in a terminal of its own (tmux), and its screen as a web page, to be taken a picture of."""

import base64
import html
import re
import subprocess
import tempfile

COLOURS = ["#1c1c1c", "#e05561", "#8cc265", "#d18f52", "#4aa5f0", "#c162de", "#42b3c2", "#d7dae0"]
GROUND, INK = "#16181d", "#d7dae0"


class Terminal:
    def __init__(self, command, width=80, height=24, environment=None):
        self.folder = tempfile.TemporaryDirectory(prefix="pglease-terminal-")
        self.socket = f"{self.folder.name}/tmux"
        self.size = width, height
        self.tmux("new-session", "-d", "-x", str(width), "-y", str(height), command, env=environment)

    def tmux(self, *arguments, env=None):
        return subprocess.run(["tmux", "-S", self.socket, "-f", "/dev/null", *arguments], env=env, check=True, text=True,
                              capture_output=True).stdout

    def press(self, key):
        self.tmux("send-keys", key)

    def text(self):
        return self.tmux("capture-pane", "-p")

    def page(self):
        """The screen as a data: address."""
        lines = "\n".join(spans(line) for line in self.tmux("capture-pane", "-p", "-e").rstrip("\n").split("\n"))
        text = (f"<!doctype html><meta charset=utf-8><style>body{{margin:0;background:{GROUND};color:{INK}}}"
                "pre{margin:12px;font:15px/1.3 'DejaVu Sans Mono',monospace}</style><pre>" + lines + "</pre>")
        return "data:text/html;base64," + base64.b64encode(text.encode()).decode()

    def end(self):
        self.tmux("kill-server")
        self.folder.cleanup()


def spans(line):
    """One line with its escape sequences as HTML."""
    style = {"bold": False, "dim": False, "reverse": False, "ink": None, "ground": None}
    found = []
    for part in re.split(r"(\x1b\[[0-9;]*m|\x0e|\x0f)", line):
        if part.startswith("\x1b["):
            for code in part[2:-1].split(";"):
                change(style, int(code or 0))
        elif part and part not in "\x0e\x0f":
            found.append(f'<span style="{css(style)}">{html.escape(part)}</span>')
    return "".join(found)


def change(style, code):
    if code == 0:
        style |= {"bold": False, "dim": False, "reverse": False, "ink": None, "ground": None}
    elif code in (1, 2, 7):
        style[{1: "bold", 2: "dim", 7: "reverse"}[code]] = True
    elif code == 22:
        style |= {"bold": False, "dim": False}
    elif code == 27:
        style["reverse"] = False
    elif 30 <= code <= 37 or 90 <= code <= 97:
        style["ink"] = COLOURS[code % 10]
    elif 40 <= code <= 47:
        style["ground"] = COLOURS[code % 10]
    elif code in (39, 49):
        style["ink" if code == 39 else "ground"] = None


def css(style):
    ink, ground = style["ink"] or INK, style["ground"] or GROUND
    if style["reverse"]:
        ink, ground = ground, ink
    return (f"color:{ink};background:{ground}" + (";font-weight:bold" if style["bold"] else "") +
            (";opacity:.7" if style["dim"] else ""))
