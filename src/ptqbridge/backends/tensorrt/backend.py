"""The TensorRT backend as the command line sees it; what needs the model or the GPU is imported when it is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ptqbridge.backends.tensorrt.plan import plan, preview, refuse_wrong
from ptqbridge.backends.tensorrt.run import require
from ptqbridge.errors import ToolchainMissing
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
        """See ``build.py``."""
        from ptqbridge.backends.tensorrt.build import build

        return build(plan, say=say, progress=progress)

    def run(self, plan: Plan, artifact: str, *, say: Callable[[str], None]) -> Outcome:
        """See ``measure.py``."""
        from ptqbridge.backends.tensorrt.measure import run

        return run(plan, artifact, say=say)

    def device_info(self, plan: Plan) -> Mapping[str, object]:
        """The GPU, for the log; nothing where only the head of an engine file is read, which needs none.

        Raises ToolchainMissing when there is none, or none of that number; before that InputError for files that no GPU
        could help.
        """
        if plan.settings.get("head", False):
            return {}
        from ptqbridge.backends.tensorrt.cuda import CudaError
        from ptqbridge.backends.tensorrt.device import open_device

        refuse_wrong(plan)
        require()
        try:
            device = open_device(plan.run.device)
            found = device.info()
            device.close()
        except CudaError as error:
            raise ToolchainMissing(f"target trt: {error}") from None
        return {
            "Selected Device": found["name"],
            "Compute Capability": f"{found['compute_major']}.{found['compute_minor']}",
            "SMs": found["multiprocessors"],
            "Device Global Memory": f"{found['memory_bytes'] >> 20} MiB",
            "Shared Memory per SM": f"{found['shared_memory_per_multiprocessor'] >> 10} KiB",
            "Memory Bus Width": f"{found['memory_bus_bits']} bits (ECC {'enabled' if found['ecc'] else 'disabled'})",
            "Application Compute Clock Rate": f"{found['clock_khz'] / 1e6:g} GHz",
            "Application Memory Clock Rate": f"{found['memory_clock_khz'] / 1e6:g} GHz",
        }


BACKEND = TensorRTBackend()
