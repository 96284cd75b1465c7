"""A stand-in for a vision model behind an OpenAI-compatible endpoint, on loopback: what it says is a function of the picture that is sent."""

import base64
import io
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image


@dataclass
class Stand:
    """Notes every request."""

    says: object
    """Pixels ``(h, w, 3)`` -> what the model answers."""
    status: int = 200
    bodies: list = field(default_factory=list)

    def answer(self, body):
        self.bodies.append(body)
        url = body["messages"][1]["content"][1]["image_url"]["url"]
        return self.says(np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))))


def red_of(picture):
    """Whether a picture is rather red than blue."""
    return picture[..., 0].mean() > picture[..., 2].mean()


@contextmanager
def served(stand):
    """Its URL, and the stand."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            said = stand.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            data = json.dumps({"choices": [{"message": {"content": said}}]}).encode()
            self.send_response(stand.status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", stand
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
