"""One YAML as the cross rules look at it: lists split, inputs counted, shapes known as far as they can be."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ptqbridge.backends.horizon import schema5, schema6
from ptqbridge.backends.horizon.lookup import Network
from ptqbridge.backends.horizon.marches import MARCHES, March
from ptqbridge.backends.horizon.schema import dims, entries

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True)
class Finding:
    """One fault or remark: the key (``section.key``), what stands there, what was expected, and the rule broken.

    ``severity`` is error (the tool refuses the file, or would build something else than written) or warning.
    """

    key: str
    value: Any
    expected: str
    rule: str
    severity: str = ERROR

    def text(self) -> str:
        """One line."""
        found = "" if self.value is None else f", found {self.value!r}"
        return f"{self.severity}: {self.key}: {self.expected}{found}"

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        value = self.value if isinstance(self.value, (str, int, float, bool, type(None))) else str(self.value)
        return {
            "severity": self.severity,
            "key": self.key,
            "value": value,
            "expected": self.expected,
            "rule": self.rule,
        }


@dataclass(frozen=True)
class View:
    """A YAML's values by section, without those that broke the schema.

    ``folder`` is where relative paths start, ``network`` the model's facts where it was found, ``away`` whether the
    file is looked at where its model is not, so that missing files are remarks only.
    """

    config: Mapping[str, Mapping[str, Any]]
    march: March
    generation: str
    folder: str
    network: Network | None = None
    away: bool = False
    bad: frozenset[str] = field(default_factory=frozenset)

    @property
    def journey6(self) -> bool:
        """Whether hb_compile reads it."""
        return self.march.journey6

    @property
    def recent(self) -> bool:
        """Whether the keys that came after hb_compile 3.0 are there."""
        return self.journey6 and self.generation != "3.0"

    def get(self, key: str) -> Any:
        """The value of ``section.key``; None when absent."""
        section, _, name = key.partition(".")
        return self.config.get(section, {}).get(name)

    def has(self, key: str) -> bool:
        """Whether a value that counts is given: not null and not an empty text."""
        value = self.get(key)
        return value is not None and value != ""

    def words(self, key: str) -> list[str | None]:
        """The entries of a ``;`` list."""
        return entries(self.get(key))

    def path(self, text: str) -> str:
        """A path of the YAML; it starts at the YAML's folder."""
        return os.path.join(self.folder, text)

    @cached_property
    def names(self) -> list[str]:
        """Input names in the order of all lists: as written, else the model's."""
        written = [name or "" for name in self.words("input_parameters.input_name")]
        return written or ([spec.name for spec in self.network.inputs] if self.network else [])

    @cached_property
    def count(self) -> int:
        """How many inputs there are. Without model and names it must be one: more have to be named."""
        return len(self.network.inputs) if self.network else max(len(self.names), 1)

    def entry(self, key: str, index: int) -> str | None:
        """The entry for one input, None when the list is shorter."""
        words = self.words(key)
        return words[index] if index < len(words) else None

    def shape(self, index: int) -> tuple[int, ...] | None:
        """The shape of one input as it will be built; None when neither YAML nor model say it."""
        written = self.entry("input_parameters.input_shape", index)
        if written:
            try:
                return dims(written)
            except ValueError:
                return None
        if not self.network or index >= len(self.names):
            return None
        spec = next((spec for spec in self.network.inputs if spec.name == self.names[index]), None)
        return None if spec is None or spec.is_dynamic else tuple(int(dim) for dim in spec.shape)

    def is_image(self, index: int) -> bool:
        """Whether the input takes pixels."""
        return self.entry("input_parameters.input_type_rt", index) not in (None, "featuremap")

    def channels(self, index: int) -> int | None:
        """The channels of an image input by its training layout."""
        shape = self.shape(index)
        layout = self.entry("input_parameters.input_layout_train", index)
        if shape is None or len(shape) != 4 or layout not in ("NCHW", "NHWC"):
            return None
        return shape[1 if layout == "NCHW" else 3]


def march_of(config: Mapping[str, Any], target: str = "") -> March:
    """The march a YAML is for: its own word, else ``target``, else the family its keys belong to."""
    model = config.get("model_parameters")
    word = str(model.get("march", "")) if isinstance(model, Mapping) else ""
    if word in MARCHES:
        return MARCHES[word]
    if target:
        return MARCHES[target]
    if word.startswith("nash"):
        return MARCHES["nash-p" if word.endswith("-p") else "nash-e"]
    return MARCHES["nash-e" if _of_journey6(config) else "bayes"]


def _of_journey6(config: Mapping[str, Any]) -> bool:
    """Whether more of the keys are hb_compile's alone than hb_mapper's, counting those that only one needs."""
    needs = {"input_layout_rt", "norm_type", "cal_data_type", "enable_int16", "preprocess_on"}
    found = {str(key) for content in config.values() if isinstance(content, Mapping) for key in content}
    late = found & {key for keys in schema6.table().values() for key in keys}
    early = found & {key for keys in schema5.table().values() for key in keys}
    return len(late - early) > len(needs & found)
