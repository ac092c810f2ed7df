"""How schemathesis writes a body of lines: half of the generated texts as they are, half as objects, one a line."""

import json

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def ndjson(ctx, value):
    text = value if isinstance(value, str) else json.dumps(value)
    line = text if len(text) % 2 else json.dumps({"event": "llm.request", "model": text or "m", "engine_hash": "e", "duration_ms": len(text)})
    return (line + "\n").encode("utf-8", "replace")
