"""The Horizon backend as the command line sees it: plans are made here; building and running are not there yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NoReturn

from ptqbridge.backends.horizon.marches import MARCHES
from ptqbridge.backends.horizon.plan import plan, preview
from ptqbridge.backends.horizon.run import require, require_board
from ptqbridge.plan import Plan, Request, Target
from ptqbridge.rulebook import Outcome as RuleOutcome

if TYPE_CHECKING:
    from ptqbridge.backends import Progress
    from ptqbridge.measure.outcome import Outcome
    from ptqbridge.result import BuildResult


class HorizonBackend:
    """See ``ptqbridge.backends.Backend``. The suffix of a product is its march's, ``.bin`` or ``.hbm``."""

    suffix = ""

    def plan(self, request: Request) -> Plan:
        """See ``plan.py``."""
        return plan(request)

    def preview(self, name: str, value: object, target: Target) -> RuleOutcome:
        """See ``plan.py``."""
        return preview(name, value, target)

    def build(self, plan: Plan, *, say: Callable[[str], None], progress: Progress | None) -> BuildResult:
        """See ``build5.py``; Journey 6 raises ToolchainMissing: see ``run.py``."""
        if MARCHES[plan.target.name].journey6:
            require(plan.target)
        from ptqbridge.backends.horizon.build5 import build

        return build(plan, say=say, progress=progress)

    def run(self, plan: Plan, artifact: str, *, say: Callable[[str], None]) -> Outcome:
        """Raises ToolchainMissing: see ``run.py``."""
        self._no_board(plan)

    def device_info(self, plan: Plan) -> Mapping[str, object]:
        """The BPU the artifact is for, as far as its march tells."""
        march = MARCHES[plan.target.name]
        return {"Selected Device": march.label, "BPU Cores": march.cores, "Compiler": march.tool}

    @staticmethod
    def _no_board(plan: Plan) -> NoReturn:
        require_board(plan)


BACKEND = HorizonBackend()
