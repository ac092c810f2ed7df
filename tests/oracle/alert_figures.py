#!/usr/bin/env python3
"""Recomputes each alert's figures from the entries that its evidence names, as an auditor would: with a static export alone.

usage: alert_figures.py EXPORT_DIR ALERTS.json

reads   EXPORT_DIR/<ledger>/tile/entries/… (entry bundles of the tlog-tiles layout), ALERTS.json (`govledger alerts --json`)
prints  one line an alert; exits with 1 where a value, the number of samples or the number over the threshold differs

It shares nothing with the service: standard library, raw entries, the rules' definitions. Every record of the alert's engine
in the range counts; a duplicate or a line that is no record does not. Of `vram_headroom` the scrapes of the alert's stack count instead.
"""
import json
import pathlib
import re
import sys
from decimal import Decimal

BUNDLE = 256


def tile_name(index):
    """The path of a tile: groups of three digits, all but the last marked with an x."""
    groups = [f"{index % 1000:03}"]
    while index := index // 1000:
        groups.insert(0, f"x{index % 1000:03}")
    return "/".join(groups)


def refuse(constant):
    raise ValueError(f"{constant} is no JSON number")


class Ledger:
    """The entries of one exported ledger."""

    def __init__(self, folder):
        self.folder, self.bundles = folder, {}

    def bundle(self, index):
        if index not in self.bundles:
            path = self.folder / "tile/entries" / tile_name(index)
            if not path.exists():
                path = max(path.with_name(path.name + ".p").iterdir(), key=lambda partial: int(partial.name))
            data, entries, at = path.read_bytes(), [], 0
            while at < len(data):
                length = int.from_bytes(data[at:at + 2], "big")
                entries.append(data[at + 2:at + 2 + length])
                at += 2 + length
            self.bundles[index] = entries
        return self.bundles[index]

    def record(self, position):
        """The record at a position: what follows the header line, where it is JSON."""
        _, body = self.bundle(position // BUNDLE)[position % BUNDLE].split(b"\n", 1)
        try:
            return json.loads(body, parse_float=Decimal, parse_int=Decimal, parse_constant=refuse)
        except ValueError:
            return None


def percentile(records, field, threshold):
    values = sorted(record[field] for record in records if record.get(field) is not None)
    over = sum(value >= threshold for value in values)
    return values[-(-len(values) * 95 // 100) - 1], len(values), over


def ratio(pairs):
    pairs = [pair for pair in pairs if pair[1] > 0]
    return sum(part for part, _ in pairs) / sum(whole for _, whole in pairs), len(pairs), None


def reuse(record):
    counts = record.get("kv_cache_reuse") or {}
    hits, misses = counts.get("hits") or 0, counts.get("misses") or 0
    return hits, hits + misses


def accepts(record):
    counts = record.get("speculative") or {}
    return counts.get("accepts") or 0, counts.get("attempts") or 0


def offences(records, is_offence):
    count = sum(bool(is_offence(record)) for record in records)
    return Decimal(count), None, count


GPU = re.compile(r'nv_gpu_memory_(used|total)_bytes\{gpu_uuid="([^"]*)"\} ([0-9.eE+]+)')


def headroom(scrapes):
    """The smallest free share of any GPU by the last scrape of each server, and the number of scrapes."""
    last = {}
    for scrape in scrapes:
        gpus = {}
        for kind, gpu, value in GPU.findall(scrape["text"]):
            gpus.setdefault(gpu, {})[kind] = Decimal(value)
        last[scrape["instance"]] = min((gpu["total"] - gpu["used"]) / gpu["total"] for gpu in gpus.values())
    return min(last.values()), len(scrapes), None


def figures(rule, threshold, records):
    """Value, number of samples, number over the threshold; the latter two None where they say no more than the value."""
    over = lambda field: lambda record: record.get(field) is not None and record[field] > threshold
    match rule:
        case "latency_p95":
            return percentile(records, "duration_ms", threshold)
        case "queue_delay":
            return percentile(records, "queue_delay_us", threshold)
        case "kv_reuse":
            return ratio([reuse(record) for record in records])
        case "speculative_accept":
            return ratio([accepts(record) for record in records])
        case "token_budget":
            return offences(records, lambda record: record.get("token_budget_overrun") is True)
        case "cost_per_request":
            return offences(records, over("cost_usd"))
        case "readiness_queue_delay":
            return offences(records, over("queue_delay_us"))
        case "unapproved_engine":
            return offences(records, lambda record: True)
        case "vram_headroom":
            return headroom(records)
        case "uncovered_publish" | "uncalibrated_speculation":
            return None, None, None  # of the governance ledger alone
        case "silent":
            assert not records, "a silent stack has no records"
            return None, None, None
    raise ValueError(rule)


def main():
    export, alerts = pathlib.Path(sys.argv[1]), json.loads(pathlib.Path(sys.argv[2]).read_text())
    ledgers, wrong = {}, 0
    for alert in alerts:
        records = []
        for evidence in alert["evidence"]:
            ledger = ledgers.setdefault(evidence["ledger"], Ledger(export / evidence["ledger"]))
            found = (ledger.record(position) for position in range(evidence["from"], evidence["to"]))
            if alert["rule"] == "vram_headroom":
                is_meant = lambda record: record.get("event") == "triton.scrape" and record.get("stack") == alert["stack"]
            else:
                is_meant = lambda record: record.get("engine_hash") == alert["engine_hash"]
            records += [record for record in found if record and is_meant(record)]
        threshold = None if alert["threshold"] is None else Decimal(alert["threshold"])
        value, samples, over = figures(alert["rule"], threshold, records)
        same = value is None or abs(value - Decimal(alert["value"])) < Decimal("1e-8")
        same = same and samples in (None, alert["samples"]) and over in (None, alert["breaching"])
        wrong += not same
        print("ok   " if same else "WRONG", alert["rule"], alert["firing_since"], "stated", alert["value"],
              alert["samples"], alert["breaching"], "recomputed", value, samples, over)
    print(len(alerts), "alerts,", wrong, "wrong")
    sys.exit(wrong > 0 or not alerts)


if __name__ == "__main__":
    main()
