"""The state of an unfinished calibration on disk, so that an interrupted one goes on where it was."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ptqbridge.errors import InputError
from ptqbridge.files import atomic_path
from ptqbridge.quantize.collect import Extremes, Findings
from ptqbridge.quantize.histogram import Collector
from ptqbridge.quantize.ranges import TensorRange


@dataclass
class Progress:
    """How far a calibration is: the ranges of finished groups of tensors, and what was seen for the present one."""

    finished: dict[str, TensorRange] = field(default_factory=dict)
    group: int = 0
    findings: Findings = field(default_factory=Findings)


class Checkpoint:
    """One checkpoint file (an ``.npz`` archive of plain arrays and one JSON text; nothing in it is executed).

    ``identity`` says, in plain JSON values, what the calibration is about; a file of another one is refused.
    """

    def __init__(self, path: str | os.PathLike[str], identity: Mapping[str, object]) -> None:
        self._path = Path(path)
        self._identity = json.loads(json.dumps(dict(identity)))

    def save(self, progress: Progress) -> None:
        """Write the file, whole or not at all. Raises ``InputError`` when it cannot be written."""
        findings = progress.findings
        arrays: dict[str, Any] = {}
        numbers: dict[str, list[int]] = {}
        for index, (name, collector) in enumerate(findings.collectors.items()):
            arrays[f"collector_{index}"], numbers[name] = collector.state()
        about = {
            "identity": self._identity,
            "finished": {name: asdict(found) for name, found in progress.finished.items()},
            "group": progress.group,
            "samples": findings.samples,
            "extremes": {name: [seen.low, seen.high] for name, seen in findings.extremes.items()},
            "collectors": numbers,
        }
        arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
        with atomic_path(self._path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)

    def load(self, new_collector: Callable[[str], Collector]) -> Progress | None:
        """What the file holds, or ``None`` when there is none. ``new_collector`` makes the collector of a tensor.

        Raises ``InputError`` when the file is no checkpoint, or that of another calibration (naming what differs).
        """
        if not self._path.exists():
            return None
        try:
            with np.load(self._path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            about = json.loads(arrays["about"].tobytes())
            theirs: dict[str, object] = about["identity"]
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as problem:
            raise InputError(
                f"{self._path}: expected a calibration checkpoint, found something else or a damaged one",
                hint="remove the file to start anew",
            ) from problem
        for key, value in self._identity.items():
            if theirs.get(key) != value:
                raise InputError(
                    f"{self._path}: the checkpoint belongs to another calibration: its {key} differs",
                    hint="remove the file to start anew",
                )
        findings = Findings(samples=about["samples"])
        for name, (low, high) in about["extremes"].items():
            findings.extremes[name] = Extremes(low, high)
        for index, (name, numbers) in enumerate(about["collectors"].items()):
            collector = findings.collectors[name] = new_collector(name)
            collector.restore(arrays[f"collector_{index}"], numbers)
        finished = {name: TensorRange(**found) for name, found in about["finished"].items()}
        return Progress(finished, about["group"], findings)

    def remove(self) -> None:
        """Delete the file, if there is one."""
        self._path.unlink(missing_ok=True)
