#!/usr/bin/env python3
"""Recomputes the figures of an incident's report as an auditor would: from a static export alone.

usage: incident_figures.py EXPORT_DIR REPORT.json

reads   EXPORT_DIR/<ledger>/tile/entries/…, REPORT.json (`govledger incidents report ID --format json`)
prints  one line a figure; exits with 1 where one differs, or where the report states too few to be a report

What it shares with the service is the definitions. From the governance entries it takes the cuts, the alerts of the incident,
the rollbacks, acknowledgements and the rest; from the metrics entries the records. So the snapshot's values and sums, the
impact with the run of positions that it was counted over, and the four durations are worked out anew and then compared.
"""
import base64
import json
import pathlib
import sys
from datetime import datetime, timezone
from decimal import Decimal

from alert_figures import Ledger, figures

REPORT = json.loads(pathlib.Path(sys.argv[2]).read_text())
EXPORT = pathlib.Path(sys.argv[1])
LEDGERS = {}
WRONG = []
RIGHT = []


def instant(text):
    return datetime.fromisoformat(text).astimezone(timezone.utc)


def check(what, stated, recomputed):
    same = stated == recomputed
    (RIGHT if same else WRONG).append(what)
    print("ok   " if same else "WRONG", what, "stated", stated, "recomputed", recomputed)


def ledger(name):
    return LEDGERS.setdefault(name, Ledger(EXPORT / name))


def governance():
    """(position, time, type, subject, data) of each entry, envelopes opened; the size from the export's checkpoint."""
    size = int((EXPORT / "governance/checkpoint").read_text().split("\n")[1])
    source = ledger("governance")
    for position in range(1, size):
        head, body = source.bundle(position // 256)[position % 256].split(b"\n", 1)
        time = datetime.fromtimestamp(json.loads(head)["t"] / 1e6, timezone.utc)
        try:
            event = json.loads(body)
        except ValueError:
            continue
        if "payloadType" in event:
            event = json.loads(base64.b64decode(event["payload"]))
        kind = event.get("type") or event.get("event_type")
        stack = event.get("subject") or (event.get("artifact") or {}).get("artifact_id")
        yield position, time, kind, stack, event.get("data") or event.get("payload") or {}


ENTRIES = list(governance())
CUTS = [(instant(data["instant"]), data) for _, _, kind, _, data in ENTRIES if kind == "ledger_cut"]
INCIDENT = REPORT["incident"]
STACK = INCIDENT["stack"]


def is_record(record):
    return record and isinstance(record.get("duration_ms"), Decimal)


def records(engine, evidence):
    """The records of an engine in the ranges, after a look whether the ranges are what a cut says."""
    found = []
    for part in evidence:
        number = int(part["ledger"].rsplit("-", 1)[1])
        listed = [(item["size"], item["root"]) for _, cut in CUTS for item in cut["ledgers"] if item["ledger"] == number]
        if (part["size"], part["root"]) not in listed:
            check(f"root of {part['ledger']} at {part['size']}", part["root"], "in no cut")
        rows = (ledger(part["ledger"]).record(position) for position in range(part["from"], part["to"]))
        found += [row for row in rows if is_record(row) and row.get("engine_hash") == engine]
    return found


def sums(what, totals, limit):
    rows = records(totals["engine_hash"], totals["evidence"])
    priced = [row["cost_usd"] for row in rows if row.get("cost_usd") is not None]
    over = [cost for cost in priced if cost > limit]
    for name, value in {
        "requests": len(rows),
        "failed": sum(bool(row.get("error_code")) for row in rows),
        "tokens_in": sum(int(row.get("tokens_in") or 0) for row in rows),
        "tokens_out": sum(int(row.get("tokens_out") or 0) for row in rows),
        "cost_usd": sum(priced, Decimal(0)),
        "unpriced": len(rows) - len(priced),
        "requests_over": len(over),
        "gross_usd": sum(over, Decimal(0)),
        "excess_usd": sum((cost - limit for cost in over), Decimal(0)),
    }.items():
        stated = totals[name]
        check(f"{what} {name}", Decimal(stated) if isinstance(stated, str) else stated, value)


# Rules whose figures are in no request of the engine: of silence, of the governance ledger, of scrapes.
OF_NO_RECORD = ("silent", "unapproved_engine", "uncovered_publish", "uncalibrated_speculation", "vram_headroom")


def snapshot():
    snapshot = INCIDENT["snapshot"]
    opened = INCIDENT["position"]
    last_cut = [instant(data["instant"]) for position, _, kind, _, data in ENTRIES if kind == "ledger_cut" and position < opened][-1]
    check("cut of the snapshot", instant(snapshot["instant"]), last_cut)
    limit = next(Decimal(rule["threshold"]) for rule in snapshot["rules"] if rule["rule"] == "cost_per_request")
    for rule in snapshot["rules"]:
        if rule["value"] is None or rule["rule"] in OF_NO_RECORD:
            continue
        rows = records(rule["engine_hash"], rule["evidence"])
        value, samples, over = figures(rule["rule"], Decimal(rule["threshold"]), rows)
        name = f"{rule['rule']} of {rule['engine_hash'][:19]}"
        check(name, True, abs(value - Decimal(rule["value"])) < Decimal("1e-8"))
        if samples is not None:
            check(f"{name} records", rule["samples"], samples)
        if over is not None:
            check(f"{name} in breach", rule["breaching"], over)
    for totals in snapshot["totals"]:
        sums(f"snapshot {totals['engine_hash'][:19]}", totals, limit)
    return limit


def alerts():
    """The incident's alerts from their own entries: fields at firing, and when and where each was over."""
    found = {}
    for position, _, kind, _, data in ENTRIES:
        if kind != "llm_observability_alert" or data.get("id") not in INCIDENT["alerts"]:
            continue
        if data["state"] == "firing":
            found[data["id"]] = dict(data, position=position)
        else:
            found[data["id"]] |= {"resolved_at": data["resolved_at"], "resolved_position": position}
    return found


def impact(found, limit):
    requests, cost, unpriced = 0, Decimal(0), 0
    for episode in REPORT["impact"]["episodes"]:
        said, totals = episode["impact"], episode["impact"]["totals"]
        own = [found[name] for name in said["alerts"]]
        since, until = min(instant(row["pending_since"]) for row in own), max(instant(row["resolved_at"]) for row in own)
        # What goes on in breach when an episode ends was counted in that one.
        earlier = [instant(other["impact"]["until"]) for other in REPORT["impact"]["episodes"] if other is not episode
                   and other["impact"]["totals"]["engine_hash"] == totals["engine_hash"] and instant(other["impact"]["until"]) < until]
        if earlier and since <= max(earlier):
            since = next(at for at, _ in CUTS if at > max(earlier))
        check("episode since", instant(said["since"]), since)
        check("episode until", instant(said["until"]), until)
        before = [cut for at, cut in CUTS if at < since][-1]
        end = next(cut for at, cut in CUTS if at == until)
        for part in totals["evidence"]:
            number = int(part["ledger"].rsplit("-", 1)[1])
            size = lambda cut: next((item["size"] for item in cut["ledgers"] if item["ledger"] == number), 0)
            check(f"episode range of {part['ledger']}", (part["from"], part["to"]), (size(before), size(end)))
        sums("episode", totals, limit)
        alone = all(row["rule"] == "cost_per_request" for row in own)
        check("only cost fired", said["cost_alone"], alone)
        requests += totals["requests_over"] if alone else totals["requests"]
        cost += Decimal(totals["gross_usd"] if alone else totals["cost_usd"])
        unpriced += totals["unpriced"]
    stated = REPORT["impact"]
    check("requests affected", stated["requests"], requests)
    check("USD affected", Decimal(stated["cost_usd"]), cost)
    check("without a price", stated["unpriced"], unpriced)


def durations(found):
    began = min(instant(row["pending_since"]) for row in found.values())
    first = next(row for row in found.values() if row["position"] == INCIDENT["position"])
    declared = instant(first["firing_since"])
    about = [(position, time, kind, data.get("request") or {}) for position, time, kind, _, data in ENTRIES]
    mine = [(position, time, kind, request) for position, time, kind, request in about if request.get("incident") == INCIDENT["id"]]
    acknowledged = next((time for _, time, kind, _ in mine if kind == "llm_incident_acknowledged"), None)
    rollback = [(time, position) for position, time, kind, stack, _ in ENTRIES if kind == "llm_rollback_completed" and stack == STACK and time >= began]
    said = [(time, position) for position, time, kind, request in mine
            if kind == "llm_incident_closed" or (kind == "llm_incident_noted" and request.get("kind") == "mitigation")
            or (kind == "llm_incident_status" and request["status"] in ("monitoring", "resolved"))]
    waivers = [(time, position) for position, time, kind, _, data in ENTRIES if kind == "llm_waiver_approved"
               and int(data["request"]["waiver"].rsplit("-", 1)[1]) > INCIDENT["position"]
               and any(at == int(data["request"]["waiver"].rsplit("-", 1)[1]) and subject == STACK for at, _, _, subject, _ in ENTRIES)]
    mitigated = min(rollback + said + waivers, default=None)
    over = [time for _, time, kind, request in mine if kind == "llm_incident_closed" or (kind == "llm_incident_status" and request["status"] == "resolved")]
    resolved = over[0] if over else max(instant(row["resolved_at"]) for row in found.values())
    expected = {
        "detect": declared - began,
        "acknowledge": acknowledged and acknowledged - declared,
        "mitigate": mitigated and mitigated[0] - began,
        "resolve": resolved - began,
    }
    for row in REPORT["durations"]:
        span = expected.pop(row["name"])
        check(f"seconds to {row['name']}", row["seconds"], None if span is None else int(span.total_seconds() // 1))
        for end in ("from", "to"):
            if row[end]:
                check(f"{row['name']}: entry {row[end]['position']} is there", True, any(row[end]["position"] == entry[0] for entry in ENTRIES))
    check("durations that are missing", {}, expected)


def ticks():
    """Every tick names an entry of the kind that its step is about."""
    kinds = {
        1: ["llm_incident_acknowledged"],
        2: ["llm_incident_noted"],
        3: ["llm_warmup_completed", "llm_warmup_failed"],
        4: ["llm_rollback_completed"],
        5: ["llm_incident_reported", "llm_incident_closed"],
        6: ["llm_incident_noted", "llm_waiver_approved", "llm_waiver_refused", "llm_waiver_requested", "llm_observability_alert"],
    }
    by_position = {position: kind for position, _, kind, _, _ in ENTRIES}
    for step in REPORT["checklist"]:
        if step["state"] == "done":
            kind = by_position.get(step["position"])
            check(f"step {step['number']} by entry {step['position']}", True, kind in kinds[step["number"]])


limit = snapshot()
known = alerts()
impact(known, limit)
durations(known)
ticks()
print(len(RIGHT) + len(WRONG), "figures,", len(WRONG), "wrong")
sys.exit(bool(WRONG) or len(RIGHT) < 40)
