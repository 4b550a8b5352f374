"""Which file belongs to which input and sample: folder layouts, archives, single files.

Files are paired by name, never by their position in a sorted list. A folder (or zip) is read by the first rule that
applies:

1. ``manifest.json`` or ``manifest.csv`` in it names the files of each sample (see listing.py).
2. One subfolder per input, named as the input: ``left/0001.npy`` belongs with ``right/0001.npy``.
3. ``.npz`` files, each with one array per input, named as the input. For one input any single array will do, and
   ``FILE.npz:ARRAY`` picks one of several.
4. Several inputs in one folder: ``INPUT.npy`` or ``INPUT_KEY.npy``; equal keys belong together.
5. One input: every data file below the folder, nested folders too; all must be of one kind.

In file names, characters of an input's name other than letters, digits, ``.``, ``_`` and ``-`` are written ``_``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ptqbridge.data import images
from ptqbridge.data.recipe import NAMES
from ptqbridge.data.store import Archive, Folder, Store
from ptqbridge.errors import InputError
from ptqbridge.wording import counted

RAW = (".bin", ".raw", ".dat", ".f32")
KINDS: dict[str, str] = {
    **dict.fromkeys(images.SUFFIXES, "pictures"),
    ".npy": ".npy files",
    ".npz": ".npz files",
    **dict.fromkeys(RAW, "raw files"),
}
MANIFESTS = ("manifest.json", "manifest.csv")
_BESIDE = (*NAMES, *MANIFESTS)
_SHOWN = 3


@dataclass(frozen=True)
class Ref:
    """One data file: ``name`` in ``store``. ``alone``: given as a single file, so it may hold several samples."""

    store: Store
    name: str
    alone: bool = False

    @property
    def kind(self) -> str:
        """One of the values of KINDS, or '' for a file of another kind."""
        return KINDS.get(os.path.splitext(self.name)[1].lower(), "")


@dataclass
class Table:
    """Rows of files that belong together: key -> input name -> file. ``notes`` are one-line remarks for the user."""

    rows: dict[str, dict[str, Ref]]
    notes: list[str] = field(default_factory=list)


def find(path: str, inputs: Sequence[str]) -> Table:
    """Find the files of every sample at ``path`` for the named inputs. Raises InputError, one line, when unclear."""
    suffix = os.path.splitext(path)[1].lower()
    file, _, array = path.rpartition(":")
    if len(inputs) == 1 and file.lower().endswith(".npz") and os.path.isfile(file) and not os.path.exists(path):
        Archive(file).size(f"{array}.npy")
        return Table({path: {inputs[0]: Ref(Archive(file), f"{array}.npy", alone=True)}})
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file or folder")
    if os.path.isdir(path):
        return in_store(Folder(path), inputs)
    if suffix == ".zip":
        return in_store(_archive(path, inputs), inputs)
    if suffix in (".txt", ".csv", ".json"):
        from ptqbridge.data.listing import read_listing

        return read_listing(Folder(os.path.dirname(path)), os.path.basename(path), inputs)
    ref = Ref(Folder(os.path.dirname(path)), os.path.basename(path), alone=True)
    if not ref.kind:
        known = " ".join((*KINDS, ".zip", ".txt", ".csv", ".json"))
        raise InputError(f"{path}: expected a folder or a file of {known}, found '{suffix or 'no suffix'}'")
    if ref.kind == ".npz files":
        return _npz({"": ref}, inputs)
    if len(inputs) > 1:
        raise InputError(f"{path}: one file for {len(inputs)} inputs ({', '.join(inputs)}); give a folder or an .npz")
    return Table({ref.name: {inputs[0]: ref}})


def _archive(path: str, inputs: Sequence[str]) -> Archive:
    archive = Archive(path)
    tops = {top + slash for top, slash, _ in (name.partition("/") for name in archive.names())}
    if len(tops) == 1 and not tops & {f"{safe_name(name)}/" for name in inputs}:
        top = tops.pop()
        if top.endswith("/"):
            return Archive(path, inside=top)  # a zipped folder: its own name plays no part
    return archive


def home(path: str, inputs: Sequence[str]) -> tuple[Store, str]:
    """Where a recipe for the data at ``path`` lies: the folder or archive itself, or the folder of the file."""
    if os.path.isdir(path):
        return Folder(path), ""
    if path.lower().endswith(".zip"):
        return _archive(path, inputs), ""
    return Folder(os.path.dirname(path)), ""


def root(path: str) -> str:
    """The folder that names of data files are told from."""
    return path if os.path.isdir(path) else os.path.dirname(path)


def in_store(store: Store, inputs: Sequence[str]) -> Table:
    """The rules of this module's head, for a folder or an archive."""
    everything = store.names()
    for manifest in MANIFESTS:
        if manifest in everything:
            from ptqbridge.data.listing import read_listing

            return read_listing(store, manifest, inputs)
    data = [name for name in everything if Ref(store, name).kind]
    if not data:
        other = f"; found {_some(everything)}" if everything else ", it is empty"
        raise InputError(f"{store.root}: holds no data files ({' '.join(KINDS)}){other}")
    others = [n for n in everything if not Ref(store, n).kind and os.path.basename(n) not in _BESIDE]
    table = _by_rule(store, data, inputs)
    if others:
        table.notes.append(f"{store.root}: {counted(len(others), 'file')} of other kinds left out ({_some(others)})")
    return table


def _by_rule(store: Store, data: list[str], inputs: Sequence[str]) -> Table:
    folders = {name: safe_name(name) for name in inputs}
    present = {name for name in inputs if any(file.startswith(f"{folders[name]}/") for file in data)}
    if present == set(inputs):
        per_input = {name: _inside(store, data, folders[name]) for name in inputs}
        table = Table(_pair(store, per_input))
        outside = [f for f in data if not f.startswith(tuple(f"{folder}/" for folder in folders.values()))]
        if outside:
            table.notes.append(
                f"{store.root}: {counted(len(outside), 'file')} outside the inputs' folders left out ({_some(outside)})"
            )
        return table
    if len(inputs) > 1 and present:
        missing = [folders[name] for name in inputs if name not in present]
        raise InputError(
            f"{store.root}: folders for {_some(sorted(present))} found, but none with data for {_some(missing)}"
        )
    kinds = {Ref(store, name).kind: name for name in reversed(data)}
    if len(kinds) > 1:
        texts = [f"{sum(Ref(store, n).kind == kind for n in data)} {kind} ({first})" for kind, first in kinds.items()]
        raise InputError(f"{store.root}: expected data files of one kind, found {', '.join(sorted(texts))}")
    if ".npz files" in kinds:
        return _npz({name: Ref(store, name) for name in data}, inputs)
    if len(inputs) == 1:
        return Table({name: {inputs[0]: Ref(store, name)} for name in data})
    return Table(_pair(store, _by_prefix(store, data, folders)))


def safe_name(name: str) -> str:
    """An input's name as it appears in file names."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)


def _inside(store: Store, data: list[str], folder: str) -> dict[str, Ref]:
    files = [name for name in data if name.startswith(f"{folder}/")]
    kinds = {Ref(store, name).kind: name for name in files}
    if len(kinds) > 1:
        raise InputError(
            f"{store.shown(folder)}: expected data files of one kind, found {', '.join(sorted(kinds.values()))}"
        )
    if ".npz files" in kinds:
        raise InputError(f"{store.shown(folder)}: an input's own folder takes .npy files, found {_some(files)}")
    return _keyed(store, {name: os.path.splitext(name[len(folder) + 1 :])[0] for name in files})


def _keyed(store: Store, keys: Mapping[str, str]) -> dict[str, Ref]:
    refs: dict[str, Ref] = {}
    for name, key in keys.items():
        if key in refs:
            raise InputError(f"{store.shown(name)}: {refs[key].name} has the same name but for the suffix")
        refs[key] = Ref(store, name)
    return refs


def _by_prefix(store: Store, data: list[str], prefixes: Mapping[str, str]) -> dict[str, dict[str, Ref]]:
    """Rule 4; the longest matching input name wins, so that inputs ``a`` and ``a_b`` may stand side by side."""
    keys: dict[str, dict[str, str]] = {name: {} for name in prefixes}
    longest_first = sorted(prefixes, key=lambda name: -len(prefixes[name]))
    for file in data:
        folder, stem = os.path.split(os.path.splitext(file)[0])
        owner = next((n for n in longest_first if stem == prefixes[n] or stem.startswith(prefixes[n] + "_")), None)
        if owner is None:
            expected = ", ".join(f"{prefix}[_KEY]" for prefix in prefixes.values())
            raise InputError(f"{store.shown(file)}: belongs to no input; names start with the input's name: {expected}")
        keys[owner][file] = os.path.join(folder, stem[len(prefixes[owner]) + 1 :])
    return {name: _keyed(store, files) for name, files in keys.items()}


def _pair(store: Store, per_input: Mapping[str, Mapping[str, Ref]]) -> dict[str, dict[str, Ref]]:
    """Rows by key; a key that one input has and another lacks is an error naming both."""
    names = list(per_input)
    for name in names:
        for other in names:
            lone = sorted(set(per_input[name]) - set(per_input[other]))
            if lone:
                file = per_input[name][lone[0]].name
                raise InputError(
                    f"{store.root}: {file} of input '{name}' has no partner of input '{other}' "
                    f"({len(per_input[name])} against {len(per_input[other])} files)"
                )
    return {key: {name: per_input[name][key] for name in names} for key in sorted(per_input[names[0]])}


def _npz(files: Mapping[str, Ref], inputs: Sequence[str]) -> Table:
    """Rule 3: arrays named as the inputs; for one input any single array."""
    table = Table({})
    for key, ref in files.items():
        path = ref.store.path(ref.name)
        if path is None:
            raise InputError(
                f"{ref.store.shown(ref.name)}: an .npz inside an archive is not read", hint="unpack it first"
            )
        archive = Archive(path)
        arrays = {name.removesuffix(".npy"): name for name in archive.names() if name.endswith(".npy")}
        row: dict[str, Ref] = {}
        for name in inputs:
            member = arrays.get(name) or (next(iter(arrays.values())) if len(inputs) == len(arrays) == 1 else None)
            if member is None:
                raise InputError(
                    f"{path}: no array named '{name}', found {_some(sorted(arrays)) or 'no arrays'}",
                    hint=f"pick one as {path}:ARRAY" if len(inputs) == 1 and arrays else "",
                )
            row[name] = Ref(archive, member, alone=True)
        unused = sorted(set(arrays.values()) - {ref.name for ref in row.values()})
        if unused:
            table.notes.append(f"{path}: arrays left out: {_some([name.removesuffix('.npy') for name in unused])}")
        table.rows[key or ref.name] = row
    return table


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
