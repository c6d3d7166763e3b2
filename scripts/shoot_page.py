"""Takes pictures of a page that never finishes loading, because it shows live video. Usage: shoot_page.py URL FOLDER

Chromium's own --screenshot waits for the end of loading, or does not wait at all. This drives it by the DevTools protocol over
a pipe (--remote-debugging-pipe: messages of JSON on file descriptors 3 and 4, each ended by a zero byte), which takes no
package beyond Python, and waits until every source on the page has a picture.
"""

import base64
import fcntl
import json
import os
import pathlib
import select
import subprocess
import sys
import tempfile
import time

SHOTS = [
    ("page", 1400, 1000, "light"),
    ("page-dark", 1400, 1000, "dark"),
    ("page-narrow", 420, 1300, "light"),
]
PATIENCE_S = 40
# Pictures are there, and the figures of a few seconds.
READY = """(() => {
    const images = [...document.querySelectorAll("#tiles img")];
    return images.length > 0 && images.some((image) => image.naturalWidth > 0)
        && [...document.querySelectorAll(".rate")].some((rate) => parseFloat(rate.textContent) > 0);
})()"""


class Browser:
    """A headless Chromium."""

    def __init__(self, profile):
        reads, self.sending = os.pipe()
        self.receiving, writes = os.pipe()
        # The browser expects them as 3 and 4; from 10 on they are in nobody's way.
        for_browser, by_browser = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (reads, writes))
        take = f"exec 3<&{for_browser} 4>&{by_browser}; exec chromium \"$@\""
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"]
        self.process = subprocess.Popen(
            ["bash", "-c", take, "chromium", "--remote-debugging-pipe", *options, "about:blank"],
            pass_fds=(for_browser, by_browser), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for end in (reads, writes, for_browser, by_browser):
            os.close(end)
        self.number, self.rest = 0, b""

    def call(self, method, session=None, **parameters):
        """Sends a command and returns what comes of it."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self.sending, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + PATIENCE_S
        while True:
            while b"\0" in self.rest:
                line, self.rest = self.rest.split(b"\0", 1)
                answer = json.loads(line)
                if answer.get("id") == self.number:
                    if "error" in answer:
                        sys.exit(f"shoot_page: {method}: {answer['error']['message']}")
                    return answer["result"]
            if not select.select([self.receiving], [], [], max(0, until - time.monotonic()))[0]:
                sys.exit(f"shoot_page: chromium does not answer {method}")
            received = os.read(self.receiving, 1 << 20)
            if not received:
                sys.exit("shoot_page: chromium has ended")
            self.rest += received


def main():
    url, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(profile)
        try:
            target = browser.call("Target.createTarget", url="about:blank")["targetId"]
            session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            page = lambda method, **parameters: browser.call(method, session, **parameters)
            page("Emulation.setDeviceMetricsOverride", width=1400, height=1000, deviceScaleFactor=1, mobile=False)
            page("Page.navigate", url=url)
            since = time.monotonic()
            while not page("Runtime.evaluate", expression=READY)["result"].get("value"):
                if time.monotonic() - since > PATIENCE_S:
                    sys.exit("shoot_page: no picture came onto the page")
                time.sleep(0.2)
            time.sleep(2)
            for name, width, height, scheme in SHOTS:
                page("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
                page("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
                time.sleep(0.5)
                picture = page("Page.captureScreenshot", format="png")["data"]
                (folder / f"{name}.png").write_bytes(base64.b64decode(picture))
        finally:
            browser.process.terminate()
            browser.process.wait()


main()
