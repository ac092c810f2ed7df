#!/usr/bin/env python3
"""A rollback over the API alone: claim, restore, reload, prove, warm up, record. Standard library only; run it again, it goes on.

    rollback.py URL TOKEN-FILE STACK DIRECTORY --reload CMD --served-check CMD --warm-up CMD

The backup's target is a directory of this host (file://). Exit code 0: completed; 1: stopped, and the ledger says where.
"""

import argparse
import hashlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
import uuid


class Stopped(Exception):
    """A stage failed: which one, and why."""


class Ledger:
    def __init__(self, url, token, stack):
        self.url, self.token, self.stack = url.rstrip("/"), token, stack
        self.base = f"/v1/stacks/{urllib.parse.quote(stack, safe='')}"
        self.path = self.base + "/rollback"

    def ask(self, path, body=None, content_type="application/json"):
        headers = {"authorization": f"Bearer {self.token}", "content-type": content_type, "idempotency-key": str(uuid.uuid4())}
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data, headers)) as reply:
            return json.load(reply)

    def work(self, kind, **body):
        """A command of the rollback; refused with 409 where somebody else holds it."""
        return self.ask(self.path, {kind: {"stack": self.stack, **body}})

    def report(self, event_type, data):
        event = {"specversion": "1.0", "id": str(uuid.uuid4()), "source": f"urn:example:{socket.gethostname()}",
                 "type": event_type, "subject": self.stack, "data": data}
        return self.ask("/v1/events", event, "application/cloudevents+json")


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def restore(target, backup, stack, directory):
    """Every file from the target; the manifest is the one that the ledger knows. The directory gets its name last."""
    root = pathlib.Path(urllib.parse.urlparse(target).path)
    listing = root / "manifests" / stack / f"{backup['backup_id']}.json"
    if sha256(listing) != backup["manifest_sha256"]:
        raise Stopped(f"{listing} is not the manifest that the ledger knows")
    manifest = json.loads(listing.read_bytes())
    partial = directory.with_name(f".{directory.name}.partial")
    for file in manifest["files"]:
        if directory.exists():
            continue
        path = partial / file["name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((root / "objects/sha256" / file["sha256"][:2] / file["sha256"]).read_bytes())
    if not directory.exists():
        os.rename(partial, directory)
    return manifest["files"]


def check(files, directory):
    for file in files:
        if sha256(directory / file["name"]) != file["sha256"]:
            raise Stopped(f"{file['name']} is not what the manifest says")
    return {file["name"]: file["sha256"] for file in files}


def shell(what, command, **environment):
    ran = subprocess.run(["sh", "-c", command], env={**os.environ, **environment}, capture_output=True, text=True)
    if ran.returncode != 0:
        raise Stopped(f"{what}: exit code {ran.returncode}")
    return ran.stdout


def go(arguments, ledger):
    directory = pathlib.Path(arguments.directory).absolute()
    plan = ledger.ask(ledger.path)
    claim = (plan["run"] or {}).get("claim") or {}
    engine = claim.get("to") or plan["last_good"]["engine_hash"]
    backup = next(row for row in plan["backups"] if row["engine_hash"] == engine and row["verified"])
    claimed = ledger.work("claim", to=engine, backup_id=backup["backup_id"], reason=arguments.reason,
                          host=socket.gethostname(), process=f"rollback.py {os.getpid()}")
    attempt = claimed["position"]

    def step(stage, state, **more):
        ledger.work("step", attempt=attempt, stage=stage, state=state, **more)

    stage = "restore"
    try:
        target = next(url for url in backup["targets"] if url.startswith("file://"))
        files = restore(target, backup, arguments.stack, directory)
        hashes = check(files, directory)
        step("restore", "done")
        stage = "reload"
        step("reload", "begun")  # The gate is closed from here on, and only now the server is touched.
        shell("reload", arguments.reload, GOVLEDGER_RESTORED=str(directory))
        check(files, directory)
        said = shell("served check", arguments.served_check)
        if not all(sha in said for name, sha in hashes.items() if name.startswith("plan/")):
            raise Stopped(f"the server holds another plan: {said.strip()}")
        step("reload", "done", detail="served: proven")
        stage = "warm_up"
        try:
            shell("warm-up", arguments.warm_up)
        except Stopped as why:
            ledger.report("llm_warmup_failed", {"engine_hash": engine, "error": str(why)})
            raise
        ledger.report("llm_warmup_completed", {"engine_hash": engine})
        step("warm_up", "done")
    except (Stopped, OSError) as why:
        step(stage, "failed", code="example_failed", detail=str(why))
        raise Stopped(f"stopped at {stage}: {why}") from why
    ledger.report("llm_rollback_completed", {
        "rollback": {"attempt": attempt}, "restored": {"artifact_id": arguments.stack, "hash": engine},
        "restored_manifest": backup["manifest"], "deployed": hashes, "served": "proven", "reason": arguments.reason,
    })
    manifest = ledger.ask(ledger.base + "/manifest")
    print(f"{arguments.stack} is back on {manifest['engine_hash']}; traffic open: {manifest['traffic']['open']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ["url", "token_file", "stack", "directory"]:
        parser.add_argument(name)
    for name in ["--reload", "--served-check", "--warm-up"]:
        parser.add_argument(name, required=True)
    parser.add_argument("--reason", default="the current engine is not fit to serve")
    arguments = parser.parse_args()
    ledger = Ledger(arguments.url, pathlib.Path(arguments.token_file).read_text().strip(), arguments.stack)
    try:
        go(arguments, ledger)
    except Stopped as why:
        sys.exit(str(why))
    except urllib.error.HTTPError as error:
        # 409: the detail says who holds the rollback, and by which entry.
        sys.exit(f"{error.code}: {json.load(error).get('detail')}")


main()
