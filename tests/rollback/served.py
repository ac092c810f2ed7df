"""A server that holds its engine in memory and loads another one only when it is told to.

served.py serve PORT FILE      serves; POST /reload?DIRECTORY loads DIRECTORY/plan/FILE, unless a file "keep" lies beside this
served.py reload PORT DIRECTORY | holds PORT | status URL
"""

import hashlib
import http.server
import os
import sys
import urllib.error
import urllib.request


def serve(port, name):
    held = {"plan": b"the engine that it began with"}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = hashlib.sha256(held["plan"]).hexdigest().encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self):
            directory = self.path.partition("?")[2]
            if not os.path.exists("keep"):
                with open(os.path.join(directory, "plan", name), "rb") as file:
                    held["plan"] = file.read()
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()


def main(verb, *rest):
    if verb == "serve":
        serve(*rest)
    elif verb == "reload":
        urllib.request.urlopen(f"http://127.0.0.1:{rest[0]}/reload?{rest[1]}", data=b"")
    elif verb == "holds":
        print(urllib.request.urlopen(f"http://127.0.0.1:{rest[0]}/").read().decode())
    elif verb == "status":
        try:
            print(urllib.request.urlopen(rest[0]).status)
        except urllib.error.HTTPError as error:
            print(error.code)


main(*sys.argv[1:])
