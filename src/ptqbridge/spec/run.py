"""What to run and measure: the neutral run spec and its parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ptqbridge.spec.shapes import Shape


@dataclass(frozen=True)
class Reports:
    """What to print (``dump_*``) and which files to write (``export_*``; "" for none)."""

    percentiles: tuple[float, ...] = (90.0, 95.0, 99.0)
    average_runs: int = 10
    verbose: bool = False
    dump_output: bool = False
    dump_raw: bool = False
    dump_profile: bool = False
    dump_layers: bool = False
    export_times: str = ""
    export_output: str = ""
    export_profile: str = ""
    export_layers: str = ""

    @property
    def wants_profile(self) -> bool:
        """Whether per-layer times are asked for."""
        return self.dump_profile or bool(self.export_profile)


@dataclass(frozen=True)
class Expected:
    """Expected outputs by name (``files``), and the distance from them that fails the run (``limit``)."""

    files: Mapping[str, str] = field(default_factory=dict)
    algorithm: str = "l0"
    limit: float = 0.0
    atol: float = 1e-5
    rtol: float = 1e-5


@dataclass(frozen=True)
class RunSpec:
    """How to run an artifact. Durations are in the unit of their name; ``duration_s`` -1 runs until interrupted."""

    artifact: str = ""
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    iterations: int = 10
    duration_s: float = 3.0
    warmup_ms: float = 200.0
    sleep_ms: float = 0.0
    idle_ms: float = 0.0
    streams: int = 1
    threads: bool = False
    spin: bool | None = None
    transfers: bool = True
    intra_op_threads: int = 0
    separate_profile_run: bool = False
    time_load: bool = False
    skip: bool = False
    device: int = 0
    expected: Expected = Expected()
    reports: Reports = Reports()
