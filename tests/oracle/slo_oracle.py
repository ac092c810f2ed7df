#!/usr/bin/env python3
"""Which SLO alerts fire and resolve over a pair of logs: worked out by brute force, from the definitions alone.

usage: slo_oracle.py DIR [--measures]

reads   DIR/provider-logs.ndjson, DIR/governance-events.ndjson (the legacy log format)
prints  the alerts as JSON, one list sorted by firing instant, rule, stack, engine; with --measures instead the value of
        every rule at every cut (null where there is no verdict)

It shares nothing with the service but the definitions. It keeps every record in memory, folds the governance log from its
beginning for every cut, takes every window from the raw records, and sorts for its percentiles. Default policy only.
"""
import bisect
import json
import pathlib
import sys
from datetime import datetime, timezone
from decimal import Decimal

CUT, QUIET, QUIET_STEP = 10, 20 * 60, 60
MIN_SAMPLES, WINDOW, WIDEST, NO_VERDICT = 20, 60, 15, 300
KEEP_FIRING = 60
FOR = {
    "latency_p95": 300, "queue_delay": 300, "kv_reuse": 600, "speculative_accept": 900, "token_budget": 300,
    "cost_per_request": 0, "readiness_queue_delay": 0, "unapproved_engine": 120, "silent": 0,
}
SILENT = 600
MICROS = 1_000_000


def micros(text):
    """Microseconds since the epoch of an ISO 8601 time with an offset, in integers."""
    delta = datetime.fromisoformat(text.replace("Z", "+00:00")) - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return (delta.days * 86400 + delta.seconds) * MICROS + delta.microseconds


def refuse_constant(name):
    raise ValueError(name)


def read_lines(path):
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line, parse_float=Decimal, parse_int=Decimal, parse_constant=refuse_constant)
        except ValueError:
            yield None


def load(folder):
    """Records and events with their times: a line is never earlier than the line before it."""
    records, last = [], None
    for line in read_lines(folder / "provider-logs.ndjson"):
        own = micros(line["recorded_at"]) if line and line.get("recorded_at") else last
        last = own if last is None else max(last, own)
        records.append((last, line))
    events, last = [], None
    for line in read_lines(folder / "governance-events.ndjson"):
        own = micros(line["timestamp"])
        last = own if last is None else max(last, own)
        events.append((last, line))
    return records, events


def make_cuts(times):
    """Every ten seconds while anything happens, each full minute once it is quiet, up to the last entry."""
    times = sorted(times)
    step = CUT * MICROS
    t = -(-times[0] // step) * step
    end = -(-times[-1] // step) * step
    cuts = []
    while t <= end:
        active = times[bisect.bisect_right(times, t) - 1]
        if t - active <= QUIET * MICROS or t % (QUIET_STEP * MICROS) == 0:
            cuts.append(t)
        t += step
    return cuts


class Governance:
    """The stacks after some events, told as lists of what happened."""

    def __init__(self, events):
        self.stints = {}      # stack -> [(engine, index of event, ended by rollback or None)]
        self.warm_ups = {}    # (stack, engine) -> [(index, completed)]
        self.published = set()
        self.last_current = {}  # (stack, engine) -> index
        manifests = {}
        for index, event in enumerate(events):
            stack, kind, payload = event["artifact"]["artifact_id"], event["event_type"], event.get("payload") or {}
            engine = event["artifact"].get("hash")
            current = self.current(stack)
            if kind == "llm_engine_published":
                self.published.add((stack, engine))
                manifest = payload.get("manifest")
                if current != engine or (manifest is not None and manifest != manifests.get((stack, engine))):
                    self.begin(stack, engine, index, False)
                if manifest is not None:
                    manifests[(stack, engine)] = manifest
            elif kind in ("llm_warmup_completed", "llm_warmup_failed"):
                self.warm_ups.setdefault((stack, engine), []).append((index, kind.endswith("completed")))
            elif kind == "llm_rollback_completed":
                restored = (payload.get("restored") or {}).get("hash") or engine
                if current != restored:
                    self.begin(stack, restored, index, True)

    def begin(self, stack, engine, index, rollback):
        stints = self.stints.setdefault(stack, [])
        if stints:
            stints[-1]["end"], stints[-1]["rolled_back"] = index, rollback and stints[-1]["engine"] != engine
        stints.append({"engine": engine, "start": index, "end": None, "rolled_back": False})
        self.last_current[(stack, engine)] = index

    def current(self, stack):
        stints = self.stints.get(stack)
        return stints[-1]["engine"] if stints else None

    def open_for(self, stack):
        """The engine that the gate is open for (in place: the current one once it is warm)."""
        engine = self.current(stack)
        if engine is None:
            return None
        ended = [s["end"] for s in self.stints[stack] if s["engine"] == engine and s["end"] is not None]
        warm_ups = [done for index, done in self.warm_ups.get((stack, engine), []) if not ended or index > ended[-1]]
        return engine if warm_ups and warm_ups[-1] else None

    def unapproved(self, stack, engine):
        if (stack, engine) not in self.published:
            return True
        own = [s for s in self.stints.get(stack, []) if s["engine"] == engine]
        if own and own[-1]["rolled_back"]:
            return True
        warm_ups = self.warm_ups.get((stack, engine), [])
        return not warm_ups or not warm_ups[-1][1]

    def stacks_of(self, engine, model):
        here = [stack for stack in self.stints if self.current(stack) == engine]
        if here:
            return here
        was = [(index, stack) for (stack, e), index in self.last_current.items() if e == engine]
        return [max(was)[1]] if was else [model]


def reports(rule, record):
    """The part of a record that a sampled rule looks at, or None."""
    if rule == "latency_p95":
        return record["duration_ms"]
    if rule == "queue_delay":
        return record.get("queue_delay_us")
    if rule == "kv_reuse":
        reuse = record.get("kv_cache_reuse") or {}
        hits, misses = reuse.get("hits"), reuse.get("misses")
        return None if hits is None and misses is None else (hits or 0, (hits or 0) + (misses or 0))
    speculative = record.get("speculative") or {}
    attempts = speculative.get("attempts")
    return (speculative["accepts"], attempts) if attempts and speculative.get("accepts") is not None else None


def offends(rule, record):
    if rule == "token_budget":
        return record.get("token_budget_overrun") is True
    if rule == "cost_per_request":
        return record.get("cost_usd") is not None and record["cost_usd"] > Decimal("0.10")
    return record.get("queue_delay_us") is not None and record["queue_delay_us"] > 2500


SAMPLED = {"latency_p95": Decimal(800), "queue_delay": Decimal(1500), "kv_reuse": Decimal("0.4"), "speculative_accept": Decimal("0.6")}


class Oracle:
    def __init__(self, folder):
        records, events = load(folder)
        self.cuts = make_cuts([t for t, _ in records] + [t for t, _ in events])
        self.states = []
        for t in self.cuts:
            past = [event for time, event in events if time <= t]
            same = self.states and len(past) == self.states[-1][0]
            self.states.append(self.states[-1] if same else (len(past), Governance(past)))
        self.states = [state for _, state in self.states]
        self.event_cut = [bisect.bisect_left(self.cuts, time) for time, _ in events]
        self.by_series, self.by_stack = {}, {}
        for time, record in records:
            if record is None:
                continue
            cut = bisect.bisect_left(self.cuts, time)
            for stack in self.states[cut].stacks_of(record["engine_hash"], record["model"]):
                self.by_series.setdefault((stack, record["engine_hash"]), []).append((cut, record))
                self.by_stack.setdefault(stack, []).append(cut)
        final = self.states[-1]
        self.series = set(self.by_series) | {(stack, s["engine"]) for stack, stints in final.stints.items() for s in stints}

    def fresh(self, stack, engine, cut):
        """Index of the first cut whose records count at `cut`: the one at which the engine's last stint began."""
        governance = self.states[cut]
        starts = [s["start"] for s in governance.stints.get(stack, []) if s["engine"] == engine]
        return self.event_cut[starts[-1]] if starts else 0

    def window(self, stack, engine, cut, seconds):
        """Records in the window that ends at `cut`: after the last cut not after its beginning."""
        begin = bisect.bisect_right(self.cuts, self.cuts[cut] - seconds * MICROS) - 1
        first = max(begin + 1, self.fresh(stack, engine, cut))
        records = self.by_series.get((stack, engine), [])
        low = bisect.bisect_left(records, first, key=lambda item: item[0])
        high = bisect.bisect_right(records, cut, key=lambda item: item[0])
        return [record for _, record in records[low:high]]

    def verdict(self, rule, stack, engine, cut):
        """(breach, value, n) or None."""
        if rule == "silent":
            return self.silence(stack, engine, cut)
        if rule not in SAMPLED:
            records = self.window(stack, engine, cut, WINDOW)
            if rule == "unapproved_engine":
                bad = len(records) if self.states[cut].unapproved(stack, engine) else 0
            else:
                bad = sum(offends(rule, record) for record in records)
            return bad > 0, Decimal(bad), len(records)
        records = self.by_series.get((stack, engine), [])
        low = bisect.bisect_left(records, cut, key=lambda item: item[0])
        high = bisect.bisect_right(records, cut, key=lambda item: item[0])
        if not any(reports(rule, record) is not None for _, record in records[low:high]):
            return None
        for minutes in range(1, WIDEST + 1):
            found = [reports(rule, record) for record in self.window(stack, engine, cut, minutes * 60)]
            found = [value for value in found if value is not None]
            if len(found) >= MIN_SAMPLES:
                break
        else:
            return None
        if rule in ("latency_p95", "queue_delay"):
            value = sorted(found)[-(-len(found) * 95 // 100) - 1]
            return value >= SAMPLED[rule], value, len(found)
        part, whole = sum(p for p, _ in found), sum(w for _, w in found)
        if whole == 0:
            return None
        return part < SAMPLED[rule] * whole, part / whole, len(found)

    def silence(self, stack, engine, cut):
        heard = [c for c in self.by_stack.get(stack, []) if c <= cut]
        if self.states[cut].open_for(stack) != engine or not heard:
            return False, Decimal(0), 0
        since = self.cuts[heard[-1]]
        first = self.fresh(stack, engine, cut)
        if first > 0:
            since = max(since, self.cuts[first - 1])
        return self.cuts[cut] - since >= SILENT * MICROS, Decimal((self.cuts[cut] - since) // MICROS), 0

    def alerts_of(self, rule, stack, engine):
        alerts, firing, pending, clear, last = [], None, None, None, None
        for cut, t in enumerate(self.cuts):
            if self.starts_at(stack, engine, cut):
                pending = clear = None
            if last is not None and t - last >= NO_VERDICT * MICROS:
                pending = clear = None
                if firing and self.states[cut].current(stack) != engine:
                    firing["resolved_at"], firing["reason"], firing = t, "no_longer_serving", None
            verdict = self.verdict(rule, stack, engine, cut)
            if verdict is None:
                continue
            last, (breach, value, n) = t, verdict
            if firing and breach:
                clear = None
            elif firing:
                clear = t if clear is None else clear
                if t - clear >= KEEP_FIRING * MICROS:
                    firing["resolved_at"], firing, clear = t, None, None
            elif breach:
                pending = t if pending is None else pending
                if t - pending >= FOR[rule] * MICROS:
                    firing = {"rule": rule, "stack": stack, "engine_hash": engine, "pending_since": pending, "firing_since": t,
                              "resolved_at": None, "reason": None, "value": value, "n": n}
                    alerts.append(firing)
                    pending = None
            else:
                pending = None
        return alerts

    def starts_at(self, stack, engine, cut):
        """Whether the engine became current between the cut before and this one."""
        governance = self.states[cut]
        return any(s["engine"] == engine and self.event_cut[s["start"]] == cut for s in governance.stints.get(stack, []))

    def alerts(self):
        found = [alert for rule in FOR for stack, engine in sorted(self.series) for alert in self.alerts_of(rule, stack, engine)]
        return sorted(found, key=lambda a: (a["firing_since"], a["rule"], a["stack"], a["engine_hash"]))

    def measures(self):
        for rule in FOR:
            for stack, engine in sorted(self.series):
                values = [self.verdict(rule, stack, engine, cut) for cut in range(len(self.cuts))]
                yield {"rule": rule, "stack": stack, "engine_hash": engine, "values": [None if v is None else str(v[1]) for v in values]}


def text(value):
    return str(value) if isinstance(value, Decimal) else value


def main():
    oracle = Oracle(pathlib.Path(sys.argv[1]))
    if "--measures" in sys.argv[2:]:
        json.dump({"cuts": oracle.cuts, "series": list(oracle.measures())}, sys.stdout)
        return
    json.dump([{key: text(value) for key, value in alert.items()} for alert in oracle.alerts()], sys.stdout, indent=1)


if __name__ == "__main__":
    main()
