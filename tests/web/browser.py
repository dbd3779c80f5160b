"""The page of examples/web in headless Chromium, where there is one."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.test_case import ROOT

WEB = ROOT / "examples" / "web"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
MISSING = [
    name
    for name, found in {
        "chromium": CHROMIUM,
        "node": shutil.which("node"),
        "examples/web/node_modules (npm ci --prefix examples/web)": (WEB / "node_modules").is_dir(),
    }.items()
    if not found
]


@contextlib.contextmanager
def served(model: Path | None = None) -> Iterator[str]:
    """The address of the page, while it is served."""
    command = [sys.executable, str(WEB / "serve.py"), "--port", "0"]
    if model is not None:
        command += ["--model", str(model)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield server.stdout.readline().split()[0]
        finally:
            server.terminate()


def use_page(url: str, **steps) -> dict:
    """What the page shows after the steps of drive.mjs, see there."""
    request = {"url": url, **{name: str(step) if isinstance(step, Path) else step for name, step in steps.items()}}
    done = subprocess.run(
        ["node", str(Path(__file__).parent / "drive.mjs"), json.dumps(request)],
        env=os.environ | {"CHROMIUM": CHROMIUM},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)
