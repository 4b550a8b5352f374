"""The CPU backend as the command line sees it; the heavy rooms are imported when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ptqbridge.backends.onnxruntime.plan import plan, preview
from ptqbridge.plan import Plan, Request, Target
from ptqbridge.rulebook import Outcome as RuleOutcome

if TYPE_CHECKING:
    from ptqbridge.measure.outcome import Outcome
    from ptqbridge.result import BuildResult


class OnnxRuntimeBackend:
    """See ``ptqbridge.backends.Backend``."""

    suffix = ".onnx"

    def plan(self, request: Request) -> Plan:
        """See ``plan.py``."""
        return plan(request)

    def preview(self, name: str, value: object, target: Target) -> RuleOutcome:
        """See ``plan.py``."""
        return preview(name, value, target)

    def build(
        self, plan: Plan, *, say: Callable[[str], None], progress: Callable[[int, int], None] | None
    ) -> BuildResult:
        """See ``build.py``."""
        from ptqbridge.backends.onnxruntime.build import build

        return build(plan, plan.build.artifact or plan.settings["choices"].artifact, say=say, progress=progress)

    def run(self, plan: Plan, artifact: str, *, say: Callable[[str], None]) -> Outcome:
        """See ``run.py``."""
        from ptqbridge.backends.onnxruntime.run import run

        return run(artifact, plan.run, level=plan.settings["choices"].level, say=say)

    def device_info(self, plan: Plan) -> Mapping[str, object]:
        """The processor, for the log."""
        from ptqbridge.backends.onnxruntime.device import cpu_info

        return cpu_info()


BACKEND = OnnxRuntimeBackend()
