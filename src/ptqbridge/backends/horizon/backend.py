"""The Horizon backend as the command line sees it: each task goes to the modules of Journey 5, Journey 6 or boards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ptqbridge.backends.horizon.marches import MARCHES
from ptqbridge.backends.horizon.plan import plan, preview
from ptqbridge.backends.horizon.run import require_board
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

    def prepare(self, request: Request) -> None:
        """Before the plan of a build elsewhere: which hb_compile is there. Raises ToolchainMissing."""
        if MARCHES[request.target.name].journey6:
            from ptqbridge.backends.horizon.probe6 import probe_for

            probe_for(request)

    def preview(self, name: str, value: object, target: Target) -> RuleOutcome:
        """See ``plan.py``."""
        return preview(name, value, target)

    def build(self, plan: Plan, *, say: Callable[[str], None], progress: Progress | None) -> BuildResult:
        """See ``build5.py`` and ``build6.py``."""
        if MARCHES[plan.target.name].journey6:
            from ptqbridge.backends.horizon.build6 import build as build6

            return build6(plan, say=say, progress=progress)
        from ptqbridge.backends.horizon.build5 import build

        return build(plan, say=say, progress=progress)

    def bundle(self, plan: Plan, folder: str, *, say: Callable[[str], None]) -> list[str]:
        """What a dry run writes beside the plan's files: all that the tool needs, samples among it."""
        if not MARCHES[plan.target.name].journey6:
            from ptqbridge.backends.horizon.build5 import write_bundle as bundle5

            return bundle5(plan, folder, say)
        if plan.build.model.format != "onnx":
            return []
        from ptqbridge.backends.horizon.build6 import write_bundle

        return write_bundle(plan, folder, say)

    def run(self, plan: Plan, artifact: str, *, say: Callable[[str], None]) -> Outcome:
        """See ``boardrun.py``; without a board see ``run5.py``, or raises ToolchainMissing: see ``run.py``."""
        if not plan.settings.get("at"):
            if MARCHES[plan.target.name].journey6:
                require_board(plan)
            from ptqbridge.backends.horizon import run5

            return run5.run(plan, artifact, say=say)
        from ptqbridge.backends.horizon.board import Board
        from ptqbridge.backends.horizon.boardrun import run

        return run(plan, artifact, Board(str(plan.settings["at"])), say=say)

    def device_info(self, plan: Plan) -> Mapping[str, object]:
        """The BPU the artifact is for, as far as its march tells."""
        march = MARCHES[plan.target.name]
        return {"Selected Device": march.label, "BPU Cores": march.cores, "Compiler": march.tool}


BACKEND = HorizonBackend()
