"""Name, type and shape of one model input or output."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TensorSpec:
    """A model input or output.

    ``dtype`` is NumPy's name of the element type (``float32``). ``shape`` holds one entry per axis: an int, or the
    symbolic name of a dynamic dimension (``""`` when the model leaves it unnamed).
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    @property
    def is_dynamic(self) -> bool:
        """Whether any dimension is symbolic."""
        return any(isinstance(dim, str) for dim in self.shape)

    def text(self) -> str:
        """``name: float32[batch,3,28,28]``, as used in messages."""
        return f"{self.name}: {self.dtype}[{','.join(str(dim) or '?' for dim in self.shape)}]"


@dataclass(frozen=True)
class IOFormat:
    """Element type (``fp32``) and allowed memory layouts (``chw``) asked for one input or output."""

    dtype: str
    layouts: tuple[str, ...]
