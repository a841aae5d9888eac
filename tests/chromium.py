"""A real browser for tests: headless Chromium, driven over a pipe by its own DevTools protocol, and nothing else.

    with Chromium(profile) as browser:
        page = browser.open(Path("index.html"))
        page.choose("#pick-files", [Path("a"), Path("b")])
        assert page.value("document.title") == "…"

No driver is downloaded, no port is opened. What the page asks for is kept in `Page.requests`.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--mute-audio",
    "--remote-debugging-pipe",
)  # fmt: skip


def executable() -> str | None:
    """Where Chromium is, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class BrowserError(AssertionError):
    """The browser ended, was silent for too long, or refused a command."""


class Chromium:
    """One browser with a profile of its own; it ends with the `with` block."""

    def __init__(self, profile: Path) -> None:
        program = executable()
        assert program is not None, "chromium is not installed"
        to_it, self._write = _pipe()
        self._read, from_it = _pipe()

        def hand_over() -> None:  # the protocol wants these two numbers
            os.dup2(to_it, 3)
            os.dup2(from_it, 4)

        command = [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            command, preexec_fn=hand_over, pass_fds=(3, 4), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(to_it)
        os.close(from_it)
        self._rest, self._sent = b"", 0
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.ask("Browser.close")
            self._process.wait(timeout=20)
        except (BrowserError, OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def ask(self, method: str, params: dict[str, Any] | None = None, session: str | None = None) -> dict[str, Any]:
        """One command and its result; events that come meanwhile are kept."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": params or {}}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._sent:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _next(self, seconds: float = 60) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], seconds)
            piece = os.read(self._read, 1 << 16) if ready else b""
            if not piece:
                raise BrowserError("the browser ended" if ready else "the browser says nothing")
            self._rest += piece
        message, self._rest = self._rest.split(b"\0", 1)
        parsed: dict[str, Any] = json.loads(message)
        return parsed

    def open(
        self, file: Path, *, width: int = 1100, height: int = 900, dark: bool = False, script: bool = True
    ) -> Page:
        """A new tab with this file from disk; a phone is a small width."""
        target = self.ask("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.ask("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Network", "DOM", "Log"):
            page.ask(f"{domain}.enable")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.ask("Emulation.setEmulatedMedia", {"features": [scheme]})
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        page.ask("Emulation.setDeviceMetricsOverride", metrics)
        page.ask("Emulation.setScriptExecutionDisabled", {"value": not script})
        page.ask("Page.navigate", {"url": file.absolute().as_uri()})
        if script:
            page.wait("document.readyState === 'complete'")
        return page


class Page:
    """One tab."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser, self._session = browser, session

    def ask(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """A command of the DevTools protocol to this tab."""
        return self._browser.ask(method, params, self._session)

    def value(self, expression: str) -> Any:
        """The value of an expression in the page; promises are waited for. BrowserError when it throws."""
        params = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        answer = self.ask("Runtime.evaluate", params)
        if "exceptionDetails" in answer:
            raise BrowserError(json.dumps(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    def wait(self, condition: str, seconds: float = 60) -> None:
        """Until the condition holds in the page. BrowserError when it does not in time."""
        end = time.monotonic() + seconds
        while not self.value(f"Boolean({condition})"):
            if time.monotonic() > end:
                raise BrowserError(f"it never came that {condition}")
            time.sleep(0.05)

    def choose(self, selector: str, files: Iterable[Path]) -> None:
        """Choose files in a file input, as a person would in its dialogue."""
        root = self.ask("DOM.getDocument")["root"]["nodeId"]
        node = self.ask("DOM.querySelector", {"nodeId": root, "selector": selector})["nodeId"]
        self.ask("DOM.setFileInputFiles", {"nodeId": node, "files": [str(file) for file in files]})

    def drop(self, selector: str, files: Iterable[Path]) -> None:
        """Drop files from disk on an element."""
        box = f"document.querySelector({json.dumps(selector)})"
        self.value(f"{box}.scrollIntoView({{block: 'center'}})")
        spot = self.value(f"(r => ({{x: r.x + r.width / 2, y: r.y + r.height / 2}}))({box}.getBoundingClientRect())")
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for step in ("dragEnter", "dragOver", "drop"):
            self.ask("Input.dispatchDragEvent", {"type": step, **spot, "data": data})

    def fill(self, selector: str, text: str) -> None:
        """Type into a field, and leave it."""
        box = f"document.querySelector({json.dumps(selector)})"
        self.value(f"{box}.value = {json.dumps(text)}; {box}.dispatchEvent(new Event('change', {{bubbles: true}}))")

    def picture(self, target: Path, *, whole: bool = True) -> Path:
        """A PNG of the page: all of it, or what the window shows."""
        shot = self.ask("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": whole})
        target.write_bytes(base64.b64decode(shot["data"]))
        return target

    def printed(self, target: Path) -> Path:
        """The page as it prints, a PDF."""
        target.write_bytes(base64.b64decode(self.ask("Page.printToPDF", {"preferCSSPageSize": True})["data"]))
        return target

    @property
    def requests(self) -> list[str]:
        """The addresses of all that this tab asked for so far, from disk or a network; not what its policy blocked."""
        asked = [event["params"] for event in self._events("Network.requestWillBeSent")]
        sent = {params["requestId"]: params["request"]["url"] for params in asked}
        for event in self._events("Network.loadingFailed"):
            if event["params"].get("blockedReason") == "csp":
                sent.pop(event["params"]["requestId"], None)
        return list(sent.values())

    @property
    def complaints(self) -> list[str]:
        """What the browser's console said: errors, and what the page's own policy blocked."""
        thrown = [json.dumps(event["params"]) for event in self._events("Runtime.exceptionThrown")]
        return thrown + [event["params"]["entry"]["text"] for event in self._events("Log.entryAdded")]

    def _events(self, method: str) -> list[dict[str, Any]]:
        self.value("1")  # whatever was under way has arrived by now
        return [e for e in self._browser.events if e.get("method") == method and e.get("sessionId") == self._session]


def _pipe() -> tuple[int, int]:
    """A pipe whose ends have numbers that `hand_over` does not overwrite, and that no other program inherits."""
    ends = os.pipe()
    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in ends)
    for end in ends:
        os.close(end)
    return high[0], high[1]
