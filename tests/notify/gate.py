"""Stands before a real Alertmanager, as a proxy that authenticates does.

Usage: gate.py PORT LOG ALERTMANAGER_URL TOKEN. Without `Bearer TOKEN` it answers 401. A batch with an alert of a stack that
begins with `bad` it answers with 400, as Alertmanager does with a batch that holds an alert which it cannot take; all others
it hands on, and answers what Alertmanager answered. Each request becomes a line of JSON in LOG.
"""

import json
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT, LOG, URL, TOKEN = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
lock = threading.Lock()


class Gate(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        stacks = [alert["labels"]["stack"] for alert in json.loads(body)]
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            status = 401
        elif any(stack.startswith("bad") for stack in stacks):
            status = 400
        else:
            request = urllib.request.Request(URL + self.path, body, {"content-type": "application/json"})
            with urllib.request.urlopen(request) as answer:
                status = answer.status
        with lock, open(LOG, "a") as log:
            log.write(json.dumps({"path": self.path, "status": status, "stacks": stacks}) + "\n")
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", PORT), Gate).serve_forever()
