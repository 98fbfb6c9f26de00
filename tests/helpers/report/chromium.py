"""A real Chromium, driven through its DevTools protocol: keys, network, console, sizes, looks."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess

from tornado.websocket import websocket_connect

BROWSER = next((p for n in ("chromium", "google-chrome", "chrome") if (p := shutil.which(n))), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-sync "
    "--disable-component-update --no-first-run --remote-debugging-port=0"
).split()
KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), "ArrowDown": (40, "")}


class Chromium:
    """One browser with one page; ``events`` holds (method, parameters) of what happened."""

    def __init__(self, profile):
        command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.loop, self.events, self.number, self.session = asyncio.new_event_loop(), [], 0, None
        address = next(
            line.split()[-1] for line in self.process.stderr if "DevTools listening on" in line
        )
        self.socket = self.loop.run_until_complete(self._connect(address))
        page = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    async def _connect(self, address):
        return await websocket_connect(address, max_message_size=2**28)

    async def _read(self):
        text = await asyncio.wait_for(self.socket.read_message(), 60)
        assert text is not None, "the browser has gone"
        return json.loads(text)

    def send(self, method, **parameters):
        """Give a command and return its answer."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        self.loop.run_until_complete(self._write(json.dumps(message)))
        while True:
            answer = self.loop.run_until_complete(self._read())
            if answer.get("id") == self.number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self.events.append((answer.get("method"), answer.get("params", {})))

    async def _write(self, text):
        await self.socket.write_message(text)

    def open(self, address, width, dark=False):
        """Open a page at a width in CSS pixels, light or dark, and wait for it to load."""
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **metrics)
        look = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[look])
        self.events.clear()
        self.send("Page.navigate", url=address)
        while not any(method == "Page.loadEventFired" for method, _ in self.events):
            answer = self.loop.run_until_complete(self._read())
            self.events.append((answer.get("method"), answer.get("params", {})))

    def evaluate(self, code):
        """Return the value of an expression."""
        answer = self.send("Runtime.evaluate", expression=code, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key):
        """Press and release a key."""
        code, text = KEYS[key]
        about = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
        self.send("Input.dispatchKeyEvent", type="keyUp", **about)

    def close(self):
        """End the browser."""
        self.process.terminate()
        self.process.wait(30)
        self.process.stderr.close()
        self.loop.close()
