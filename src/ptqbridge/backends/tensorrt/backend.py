"""The TensorRT backend as the command line sees it: plans are made here; building and running are not there yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ptqbridge.backends.tensorrt.plan import plan, preview
from ptqbridge.backends.tensorrt.run import require
from ptqbridge.plan import Plan, Request, Target
from ptqbridge.rulebook import Outcome as RuleOutcome

if TYPE_CHECKING:
    from ptqbridge.measure.outcome import Outcome
    from ptqbridge.result import BuildResult


class TensorRTBackend:
    """See ``ptqbridge.backends.Backend``."""

    suffix = ".engine"

    def plan(self, request: Request) -> Plan:
        """See ``plan.py``; for the installed TensorRT, or for 8.6 when there is none."""
        return plan(request)

    def preview(self, name: str, value: object, target: Target) -> RuleOutcome:
        """See ``plan.py``."""
        return preview(name, value, target)

    def build(
        self, plan: Plan, *, say: Callable[[str], None], progress: Callable[[int, int], None] | None
    ) -> BuildResult:
        """Raises ToolchainMissing: see ``run.py``."""
        require()

    def run(self, plan: Plan, artifact: str, *, say: Callable[[str], None]) -> Outcome:
        """Raises ToolchainMissing: see ``run.py``."""
        require()

    def device_info(self, plan: Plan) -> Mapping[str, object]:
        """Raises ToolchainMissing: see ``run.py``."""
        require()


BACKEND = TensorRTBackend()
