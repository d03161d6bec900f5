"""What following a client costs for each call, against EcoLogits on the same calls.

    python benchmarks/instrument.py [--calls 400] [--rounds 5] [--venvs DIR] [--without-ecologits]

The ``openai`` client answers from memory, without a network. Bare, followed by us and followed by EcoLogits
run in fresh processes, in interleaved rounds. A call's time is that of a process's fastest tenth, in the
calling thread, for a busy machine makes calls slower and never faster; CPU time is the whole process's, our
ledger's thread included, and suffers from a busy machine. Figures are less those of the bare client, medians
over rounds. A stream has 32 chunks; its figure is for the whole stream.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

PEER = ("ecologits==0.11.3", "openai>=3")

PROGRAM = """
import json, statistics, sys, time
import httpx2, openai
tool, calls = sys.argv[1], int(sys.argv[2])
if tool == "negajoule":
    import negajoule
    handle = negajoule.instrument_clients()
elif tool == "ecologits":
    from ecologits import EcoLogits
    EcoLogits.init(providers=["openai"])
usage = {"prompt_tokens": 1200, "completion_tokens": 300, "total_tokens": 1500,
         "prompt_tokens_details": {"cached_tokens": 0}}
head = {"id": "x", "created": 1, "model": "gpt-4o-2024-08-06"}
whole = json.dumps({**head, "object": "chat.completion", "usage": usage, "choices": [
    {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "why not"}}]}).encode()
def chunk(choices, usage=None):
    body = {**head, "object": "chat.completion.chunk", "choices": choices, "usage": usage}
    return b"data: " + json.dumps(body).encode() + b"\\n\\n"
delta = [{"index": 0, "delta": {"content": "why "}, "finish_reason": None}]
events = chunk(delta) * 32 + chunk([], usage) + b"data: [DONE]\\n\\n"
def answer(request):
    if b'"stream":true' in request.content.replace(b" ", b""):
        return httpx2.Response(200, content=events, headers={"content-type": "text/event-stream"})
    return httpx2.Response(200, content=whole, headers={"content-type": "application/json"})
client = openai.OpenAI(base_url="https://api.openai.com/v1", api_key="none",
                       http_client=httpx2.Client(transport=httpx2.MockTransport(answer)))
ask = {"model": "gpt-4o", "messages": [{"role": "user", "content": "why?"}]}
def plain():
    client.chat.completions.create(**ask)
def stream():
    for _ in client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}):
        pass
found = {}
for name, work, count in (("call", plain, calls), ("stream", stream, calls // 4)):
    for _ in range(20):
        work()
    times, cpu = [], time.process_time()
    for _ in range(count):
        before = time.perf_counter()
        work()
        times.append(time.perf_counter() - before)
    if tool == "negajoule":
        handle.flush()
        assert handle.gaps == 0, "every call must be accounted for"
    found[name] = statistics.quantiles(times, n=10)[0] * 1e6
    found[name + "_cpu"] = (time.process_time() - cpu) / count * 1e6
print(json.dumps(found))
"""


def measured(python: Path, tool: str, calls: int) -> dict[str, float]:
    """Run one process."""
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [str(python), "-W", "ignore", "-c", PROGRAM, tool, str(calls)],
            capture_output=True,
            text=True,
            env={**os.environ, "NEGAJOULE_HOME": home},
        )
    if done.returncode:
        sys.exit(f"{tool} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def peer(venvs: Path) -> Path:
    """The interpreter of EcoLogits's own environment, made if it isn't there."""
    folder = venvs / "ecologits-openai"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PEER], check=True)
    return python


def main() -> None:
    """Measure, print, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description="Cost of following a client, by call.")
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    default = Path(tempfile.gettempdir()) / f"negajoule-venvs-{os.getuid()}"
    parser.add_argument("--venvs", type=Path, default=default, help="where peers' environments are kept")
    parser.add_argument("--without-ecologits", action="store_true")
    options = parser.parse_args()
    own = Path(sys.executable)
    tools = [("negajoule", own, "")]
    if not options.without_ecologits:
        tools.append(("ecologits", peer(options.venvs), "ecologits_"))
    found: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for tool, python, prefix in tools:
            bare, with_tool = (measured(python, name, options.calls) for name in ("bare", tool))
            for key in bare:
                found.setdefault(f"{prefix}us_per_{key}", []).append(with_tool[key] - bare[key])
    result = {key: round(statistics.median(values), 1) for key, values in found.items()}
    for key, value in result.items():
        low, high = min(found[key]), max(found[key])
        print(f"{key:28} {value:8.1f} us  ({low:.1f} to {high:.1f} over {options.rounds} rounds)")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
