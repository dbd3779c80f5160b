"""Serves the page of this folder on this machine.

python examples/web/serve.py --model detector.tflite

A plain file server will not do: threads in WebAssembly need a page that is isolated from other origins.
"""

import argparse
import functools
import http.server
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ISOLATION = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}


class Handler(http.server.SimpleHTTPRequestHandler):
    """Gives the files of this folder, and the detector as `model.tflite`."""

    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {
        ".js": "text/javascript",
        ".wasm": "application/wasm",
    }

    def __init__(self, *args, model, **kwargs):
        self.model = model
        super().__init__(*args, directory=str(FOLDER), **kwargs)

    def translate_path(self, path):
        """Return the file of a URL."""
        if self.model is not None and path.split("?")[0] == "/model.tflite":
            return str(self.model)
        return super().translate_path(path)

    def end_headers(self):
        """Add what isolates the page, and keep browsers from showing an older detector."""
        for name, value in (ISOLATION | {"Cache-Control": "no-cache"}).items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *args):
        """Say nothing of requests."""


def main(argv=None):
    """Serve until interrupted; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help=".tflite that the page opens with (default: it asks for one)")
    parser.add_argument("--port", type=int, default=8000, help="0: any that is free (default: %(default)s)")
    arguments = parser.parse_args(argv)
    if arguments.model is not None and not arguments.model.is_file():
        return _refuse(f"--model {arguments.model}: expected a .tflite file, received a path without one")
    if not (FOLDER / "node_modules/@litertjs/core/dist/index.js").is_file():
        return _refuse(
            "LiteRT.js: expected it in examples/web/node_modules, received nothing; run npm ci --prefix examples/web"
        )
    handler = functools.partial(Handler, model=arguments.model)
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", arguments.port), handler)
    except (OSError, OverflowError) as error:
        return _refuse(f"--port {arguments.port}: expected a free port, received {error}")
    with server:
        query = "?model=model.tflite" if arguments.model is not None else ""
        print(f"http://127.0.0.1:{server.server_port}/{query} (Ctrl-C ends it)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0


def _refuse(message):
    print(f"serve.py: error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
