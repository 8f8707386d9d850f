"""Cold start of each function, beside a bare handler that imports the same third-party modules.

Real: a fresh interpreter imports the handler and runs its bootstrap. Bare: a fresh interpreter imports every
third-party module that the real one has loaded by then; its handler connects to nothing. Both find their
bytecode. Times are taken inside the interpreter: its own start is the same for both and would only flatter
the ratio.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import parts
from benchmarks.common import Document, Options, Result, document, main, paired_ratio, percentiles
from local.aws import CREDENTIALS
from qis.adapters.postgres.connection import Target

ROOT = Path(__file__).resolve().parent.parent
FUNCTIONS = {
    "ingest": ("ingest", "bootstrap"),
    "ingest, for the API": ("ingest", "router"),
    "reconcile": ("reconcile", "bootstrap"),
    "publish": ("publish", "bootstrap"),
    "quality": ("quality", "bootstrap"),
    "query": ("query", "bootstrap"),
    "realtime": ("realtime", "bootstrap"),
    "relay": ("relay", "bootstrap"),
}
"""Those that wait for traffic, and what makes them ready for it; ``migrate`` runs in a deployment."""
REAL = "real"
BARE = "bare handler, same third-party modules"
BARE_CLIENTS = "bare handler, same third-party modules and boto3 clients"

_TIMED = """
import time
wall, cpu = time.perf_counter(), time.process_time()
{work}
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
import json
print(json.dumps([wall * 1000, cpu * 1000]))
"""
_LOADED = """
import sys
before = set(sys.modules)
{work}
import gc, json, sysconfig
roots = (sysconfig.get_paths()["purelib"], sysconfig.get_paths()["platlib"])
loaded = [
    name for name, module in list(sys.modules.items())
    if name not in before and str(getattr(module, "__file__", None) or "").startswith(roots)
]
gc.unfreeze()  # what a bootstrap froze is not listed
client = getattr(sys.modules.get("botocore.client"), "BaseClient", ())
clients = sorted({{o.meta.service_model.service_name for o in gc.get_objects() if isinstance(o, client)}})
print(json.dumps([loaded, clients]))
"""


def run(given: Mapping[str, object] | None = None) -> Document:
    """The document. Options ``quick`` and ``data``."""
    options = Options.of(given or {})
    functions, rounds = ({"query"}, 1) if options.quick else (FUNCTIONS.keys(), 11)
    results: list[Result] = []
    modules: dict[str, Any] = {}
    with parts.folder(options) as home:
        for name in functions:
            one = _Function(home, *FUNCTIONS[name])
            modules[name] = one.about()
            results += _results(name, one.measure(rounds), rounds)
    return document("coldstart", results, third_party=modules)


class _Function:
    def __init__(self, home: Path, name: str, ready: str) -> None:
        self._home = home
        target = Target(parts.HOST, 1, "qis", parts.APP)
        wired = parts.wiring(
            target, "http://127.0.0.1:1", "http://127.0.0.1:1/jwks.json", "valkey://127.0.0.1:1"
        )
        kept = {k: os.environ[k] for k in ("PATH", "LANG", "HOME") if k in os.environ}
        self._environment = {
            **kept,
            **parts.NO_AWS,
            **CREDENTIALS,
            **parts.function_environment(wired, name, target),
            "PYTHONPATH": f"{ROOT}{os.pathsep}{home}",
            "PYTHONPYCACHEPREFIX": str(home / "bytecode"),
        }
        self._work = {REAL: f"import lambdas.{name}.handler as real\nreal.{ready}()"}
        self._loaded, clients = self._python(_LOADED.format(work=self._work[REAL]))
        # The X-Ray SDK makes one when it is imported, so the bare handler has it already.
        self._clients = [c for c in clients if c != "xray"]
        imports = "".join(f"import {module}\n" for module in self._loaded)
        made = "".join(f"boto3.client({service!r})\n" for service in self._clients)
        end = "\n\ndef handler(event, context):\n    return event\n"
        (home / f"bare_{name}.py").write_text(imports + end)
        self._work[BARE] = f"import bare_{name}"
        if self._clients:
            (home / f"bare_clients_{name}.py").write_text(imports + "import boto3\n" + made + end)
            self._work[BARE_CLIENTS] = f"import bare_clients_{name}"

    def about(self) -> dict[str, Any]:
        """The packages of the modules that are imported, how many modules, and the boto3 clients."""
        packages = sorted({module.partition(".")[0] for module in self._loaded})
        return {"packages": packages, "modules": len(self._loaded), "boto3_clients": self._clients}

    def measure(self, rounds: int) -> dict[str, list[tuple[float, float]]]:
        """Milliseconds of wall clock and of processor, in turns. The first turn writes the bytecode."""
        taken: dict[str, list[tuple[float, float]]] = {kind: [] for kind in self._work}
        for number in range(rounds + 1):
            for kind, work in self._work.items():
                wall, cpu = self._python(_TIMED.format(work=work))
                if number:
                    taken[kind].append((wall, cpu))
        return taken

    def _python(self, code: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=self._environment,
            cwd=self._home,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr.decode())
        return json.loads(done.stdout.splitlines()[-1])


def _results(name: str, taken: Mapping[str, list[tuple[float, float]]], rounds: int) -> list[Result]:
    found = []
    for which, what in ((0, "wall clock"), (1, "processor")):
        mine = [t[which] for t in taken[REAL]]
        for bare in (b for b in taken if b != REAL):
            other = [t[which] for t in taken[bare]]
            found.append(
                Result(
                    f"cold start of {name}, {what}",
                    statistics.median(mine),
                    "ms",
                    bare,
                    statistics.median(other),
                    paired_ratio(mine, other),
                    rounds,
                    *percentiles(mine),
                )
            )
    return found


if __name__ == "__main__":
    main(run)
