"""List files and manifests: which files make up each sample, written down.

``.txt``: one file per line, ``#`` starts a comment line, an ImageNet-style class number after the name is dropped.
``.csv``: a head line naming the inputs (for one input also ``file``, ``path``, ``image`` or ``filename``), then one
sample per line; other columns are left out. ``.json``: a list of samples, or an object with it under ``samples``;
a sample is an object input -> file, or for one input just the file. COCO annotations serve as a list of their images,
which lie beside the file or, as COCO is packed, in ``../val2017`` for ``annotations/instances_val2017.json``.
Names are relative to the list's folder.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence

from ptqbridge.data.layout import Ref, Table
from ptqbridge.data.store import Store
from ptqbridge.errors import InputError

_FILE_COLUMNS = ("file", "path", "image", "filename", "file_name")
_MAX_BYTES = 256 << 20


def read_listing(store: Store, name: str, inputs: Sequence[str]) -> Table:
    """The samples a list names. Raises InputError naming list, line and file."""
    shown = store.shown(name)
    if store.size(name) > _MAX_BYTES:
        raise InputError(f"{shown}: {store.size(name)} bytes, more than a list of files should have")
    with store.open(name) as file:
        try:
            text = file.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"{shown}: expected UTF-8 text ({error.reason} at byte {error.start})") from None
    suffix = name.rsplit(".", 1)[-1].lower()
    notes: list[str] = []
    if suffix == "txt":
        samples = _from_text(store, text, inputs, shown)
    elif suffix == "csv":
        samples = _from_csv(text, inputs, shown, notes)
    else:
        samples = _from_json(store, name, text, inputs, shown)
    if not samples:
        raise InputError(f"{shown}: names no samples")
    table = Table({}, notes)
    for place, files in samples:
        row = {}
        for input_name, file_name in files.items():
            if not file_name or "\0" in file_name:
                raise InputError(f"{place}: expected a file name, found {file_name!r}")
            ref = Ref(store, file_name)
            if ref.kind in ("", ".npz files"):
                raise InputError(f"{place}: '{file_name}' is neither a picture nor a .npy or raw file")
            try:
                store.size(ref.name)
            except InputError as error:
                raise InputError(f"{place}: {error.message}") from None
            row[input_name] = ref
        table.rows[place] = row
    return table


def _from_text(store: Store, text: str, inputs: Sequence[str], shown: str) -> list[tuple[str, dict[str, str]]]:
    if len(inputs) != 1:
        raise InputError(f"{shown}: a .txt list holds the files of one input, the model has {len(inputs)}; use .csv")
    samples = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        labelled = re.fullmatch(r"(.*\S)\s+-?\d+", line)
        if labelled and not _exists(store, line):
            line = labelled[1]
        samples.append((f"{shown} line {number}", {inputs[0]: line}))
    return samples


def _coco_images(store: Store, name: str, document: dict[str, object]) -> list[str] | None:
    """File names in COCO's object-detection format (cocodataset.org, "Data format"), or None for other JSON."""
    images = document.get("images")
    if not isinstance(images, list) or not images:
        return None
    names = [image.get("file_name") if isinstance(image, dict) else None for image in images]
    if not all(isinstance(file, str) for file in names):
        return None
    subset = name.rsplit(".", 1)[0].rpartition("_")[2]
    places = [place for place in ("", f"../{subset}/", f"../images/{subset}/") if _exists(store, f"{place}{names[0]}")]
    return [f"{places[0] if places else ''}{file}" for file in names]


def _exists(store: Store, name: str) -> bool:
    try:
        return store.size(name) >= 0
    except InputError:
        return False


def _from_csv(text: str, inputs: Sequence[str], shown: str, notes: list[str]) -> list[tuple[str, dict[str, str]]]:
    reader = csv.reader(io.StringIO(text), strict=True)
    try:
        lines = [(reader.line_num, [cell.strip() for cell in line]) for line in reader if any(map(str.strip, line))]
    except csv.Error as error:
        raise InputError(f"{shown} line {reader.line_num}: {error}") from None
    if not lines:
        return []
    head = lines[0][1]
    columns = {name: head.index(name) for name in inputs if name in head}
    if not columns and len(inputs) == 1:
        named = next((name for name in _FILE_COLUMNS if name in head), None)
        columns = {inputs[0]: head.index(named)} if named else {}
    if len(columns) != len(inputs):
        missing = [name for name in inputs if name not in columns]
        raise InputError(f"{shown}: expected columns named {', '.join(missing)}, found {', '.join(head)}")
    unused = [name for index, name in enumerate(head) if index not in columns.values()]
    if unused:
        notes.append(f"{shown}: columns left out: {', '.join(unused)}")
    samples = []
    for number, cells in lines[1:]:
        if len(cells) != len(head):
            raise InputError(f"{shown} line {number}: expected {len(head)} columns, found {len(cells)}")
        samples.append((f"{shown} line {number}", {name: cells[index] for name, index in columns.items()}))
    return samples


def _from_json(
    store: Store, name: str, text: str, inputs: Sequence[str], shown: str
) -> list[tuple[str, dict[str, str]]]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{shown}: not JSON ({error})") from None
    rows = document.get("samples") if isinstance(document, dict) else document
    if rows is None and len(inputs) == 1:
        rows = _coco_images(store, name, document)
    if not isinstance(rows, list):
        raise InputError(f"{shown}: expected a list of samples, or an object with the list 'samples'")
    samples = []
    for number, row in enumerate(rows):
        place = f"{shown} sample {number}"
        if isinstance(row, str) and len(inputs) == 1:
            row = {inputs[0]: row}
        if not isinstance(row, dict) or set(row) != set(inputs) or not all(isinstance(v, str) for v in row.values()):
            raise InputError(
                f"{place}: expected one file for each of {', '.join(inputs)}, found {json.dumps(row)[:120]}"
            )
        samples.append((place, {name: str(row[name]) for name in inputs}))
    return samples
