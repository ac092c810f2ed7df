"""A webhook receiver that checks every message with libraries that are not ours.

Usage: receiver.py PORT LOG WHSEC PUBLIC_KEY_BASE64. `v1` is checked by `standardwebhooks`, `v1a` by `cryptography`.
Each request becomes a line of JSON in LOG. The path says how it answers: /ok takes all; /flaky answers 500 to the first
attempt of each id; /limited answers 429 with `retry-after: 3` to the very first request; /gone answers 410; /broken 500.
"""

import base64
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks import Webhook

PORT, LOG, SECRET, PUBLIC = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
webhook = Webhook(SECRET)
public = Ed25519PublicKey.from_public_bytes(base64.b64decode(PUBLIC))
lock = threading.Lock()
seen = {}


def verify(headers, body):
    webhook.verify(body, headers)
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    own = [part for part in headers["webhook-signature"].split(" ") if part.startswith("v1a,")]
    public.verify(base64.b64decode(own[0].split(",")[1]), signed)


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            verify(headers, body)
            error = None
        except Exception as wrong:  # the log says what it was
            error = repr(wrong)
        message_id = headers.get("webhook-id")
        with lock:
            count = seen[(self.path, message_id)] = seen.get((self.path, message_id), 0) + 1
            first = sum(times for (path, _), times in seen.items() if path == self.path) == 1
            status = {
                "/ok": 200,
                "/flaky": 500 if count == 1 else 204,
                "/limited": 429 if first else 200,
                "/gone": 410,
                "/broken": 500,
            }[self.path]
            if error:
                status = 400
            line = {"path": self.path, "id": message_id, "error": error, "status": status, "at": time.time()}
            line["message"] = json.loads(body)
            with open(LOG, "a") as log:
                log.write(json.dumps(line) + "\n")
        self.send_response(status)
        if status == 429:
            self.send_header("retry-after", "3")
        if status != 204:
            self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", PORT), Receiver).serve_forever()
