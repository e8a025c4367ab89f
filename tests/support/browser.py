"""A headless Chromium that a test drives through its DevTools protocol: open a page, look at it, click, take a picture.

Where no Chromium is installed, `chromium` is empty and tests that need one skip.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from support.waiting import START_S, wait_until
from websockets.sync.client import connect

ANSWER_S = 90.0
OPTIONS = (
    "--headless", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--no-first-run", "--disable-extensions", "--disable-background-networking",
    "--remote-debugging-port=0",
)  # fmt: skip


def chromium() -> str:
    """The program; empty where there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome") or ""


class Browser:
    """One page of so many pixels; a context manager."""

    def __init__(self, folder: Path, *, width: int = 1400, height: int = 900) -> None:
        self._folder = folder
        command = [chromium(), *OPTIONS, f"--user-data-dir={folder}", "about:blank"]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        told = folder / "DevToolsActivePort"
        wait_until(lambda: told.exists() and len(told.read_text().splitlines()) == 2, "Chromium to start", START_S)
        self._port = int(told.read_text().split()[0])
        self._line = connect(self._page(), max_size=None, compression=None)
        self._number = 0
        self.ask("Page.enable")
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._line.close()
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def ask(self, method: str, **parameters: object) -> dict[str, Any]:
        """One command of the protocol, and its result."""
        self._number += 1
        self._line.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._line.recv(timeout=ANSWER_S))
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, address: str) -> None:
        self.ask("Page.navigate", url=address)

    def text(self) -> str:
        """What is to be read on the page."""
        return str(self.run("document.body ? document.body.innerText : ''"))

    def run(self, script: str) -> Any:
        """The value of an expression."""
        return self.ask("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def click(self, words: str) -> None:
        """Press the button or tab that bears these words, once, as a mouse does."""
        script = f"""(() => {{
            const all = [...document.querySelectorAll('button, [role=tab]')];
            const found = all.find(b => b.innerText.trim() === {json.dumps(words)});
            if (!found) return null;
            found.scrollIntoView({{block: 'center'}});
            const r = found.getBoundingClientRect();
            return [r.x + r.width / 2, r.y + r.height / 2];
        }})()"""
        x, y = wait_until(lambda: self.run(script), f"a button {words!r}", ANSWER_S, self.text)
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def picture(self, path: Path) -> None:
        """What it looks like, as a PNG."""
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"]))

    def _page(self) -> str:
        def found() -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/json/list", timeout=ANSWER_S) as answer:
                pages = [entry for entry in json.load(answer) if entry["type"] == "page"]
            return pages[0]["webSocketDebuggerUrl"] if pages else ""

        return wait_until(found, "Chromium's page", START_S)
