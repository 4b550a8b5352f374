"""One command's stay at a board: what it needs is brought, commands are run, and a failure leaves nothing behind."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptqbridge.backends.horizon.board import VARIABLE, Board, Looked, Session, give_line, step_line
from ptqbridge.backends.horizon.boardfiles import TOOL, Runtime, Staged, runtime, staged
from ptqbridge.backends.horizon.boardlog import ModelInfo, failure_line, parse_infer, parse_model_info
from ptqbridge.backends.horizon.boardtensor import (
    AS_IT_IS,
    PICTURE_FILES,
    Intake,
    check_names,
    intakes,
    made_up,
    read_given,
)
from ptqbridge.backends.horizon.context import safe
from ptqbridge.backends.horizon.marches import March
from ptqbridge.errors import InputError, PtqbridgeError, ToolchainFailed, ToolchainMissing
from ptqbridge.toolchains.local import cleaned_up

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ptqbridge.data.recipe import Recipe

Say = Callable[[str], None]
Argv = tuple[str, ...]
GIVEN = ("profile/profiler.log", "profile/profiler.csv", "model_infer_output_*")
"""What a command leaves in its folder that is brought back."""


@dataclass
class Visit:
    """Made by ``visit``. ``artifact`` is the model; ``sent`` what this visit brought there."""

    board: Board
    march: March
    artifact: str
    say: Say
    scratch: Path
    model: Staged
    brought: Runtime | None = None
    looked: Looked = field(default_factory=lambda: Looked("", "", "", None, frozenset()))
    sent: list[Staged] = field(default_factory=list)
    kept: bool = False

    @property
    def tool(self) -> str:
        """The program on the board."""
        return f"{self.looked.folder}/{self.brought.program}" if self.brought else self.looked.tool

    def bring(self, files: Iterable[Staged]) -> None:
        """Have ``files`` on the board, and the tool; only what is not there is sent, all in one trip."""
        wanted = {file.name: file for file in files}
        first = not self.looked.folder
        if first:
            wanted |= {self.brought.files.name: self.brought.files} if self.brought else {}
        unknown = [name for name in wanted if name not in self.looked.have]
        if not unknown:
            return
        seen = self.board.look(unknown)
        self.looked = replace(seen, have=seen.have | self.looked.have)
        if first and not self.tool:
            raise ToolchainMissing(
                f"{self.board.name}: {TOOL} was not found on the board",
                hint=f"put it on the board's PATH, or name the board's program or its folder here with {VARIABLE}",
            )
        missing = [file for name, file in wanted.items() if name not in self.looked.have]
        if not missing:
            return
        names = [os.path.relpath(file.path, self.scratch) if self._ours(file) else file.path for file in missing]
        what = ", ".join(names) if len(names) <= 3 else f"{len(names)} files"
        self.say(f"sending {what} ({sum(file.size for file in missing)} bytes) to {self.board.name}")
        self.sent += [file for file in missing if file not in self.sent]
        self.board.send(missing, self.looked, program=self.brought.files.name if self.brought else "")
        self.looked = replace(self.looked, have=self.looked.have | {file.name for file in missing})

    def there(self, file: Staged) -> str:
        """A file's name for the tool."""
        return f"{self.looked.folder}/{file.name}"

    def run(self, commands: Sequence[Argv]) -> Session:
        """Run ``hrt_model_exec`` commands one after the other, up to the first that fails.

        Each works in a folder of its own, named ``s0`` and so on in the files that come back.
        """
        libraries = [f"{self.looked.folder}/{place}" for place in (self.brought.libraries if self.brought else ())]
        env = {"LD_LIBRARY_PATH": ":".join(libraries)} if libraries else {}
        lines = []
        for number, argv in enumerate(commands):
            profile = " && mkdir profile" * any(word.startswith("--profile_path=") for word in argv)
            words = (self.tool, *(self._word(word) for word in argv[1:]))
            lines += [f"mkdir s{number} && cd s{number}{profile} && {step_line(number, words, env)} && cd .. &&"]
            lines += [f"{give_line(*(f's{number}/{pattern}' for pattern in GIVEN))} && rm -rf s{number} &&"]
        return self.board.session([*lines, ":"], self.looked.folder)

    def _word(self, word: str) -> str:
        return f"--model_file={self.there(self.model)}" if word.startswith("--model_file=") else word

    def checked(self, commands: Sequence[Argv]) -> Session:
        """``run``, and raise for the first that failed. See ``failure``."""
        session = self.run(commands)
        for argv, text, status in zip(commands, session.outputs, session.statuses, strict=False):
            if status:
                raise failure(argv[1], text, status, self.march)
        if len(session.statuses) < len(commands):
            raise ToolchainFailed(f"{self.board.name}: {len(session.statuses)} of {len(commands)} commands were run")
        for argv, text in zip(commands, session.outputs, strict=True):
            if argv[1] == "infer" and len(parse_infer(text)) < _frames(argv):
                raise ToolchainFailed(f"{TOOL} infer ended with status 0 before its last frame: {_said(text)}")
        return session

    def info(self, *, any_march: bool = False) -> ModelInfo:
        """What the board tells of the model. Raises InputError when it was built for another march."""
        session = self.checked([(TOOL, "model_info", f"--model_file={self.artifact}")])
        info = parse_model_info(session.outputs[0])
        march = str(info.desc.get("MARCH", self.march.name)).strip("[]'\"").lower()
        if march != self.march.name and not any_march:
            raise InputError(f"{self.artifact} was built for {march}, not for {self.march.name}")
        return info

    def inputs(
        self, info: ModelInfo, given: Mapping[str, str], recipe: Recipe | None
    ) -> tuple[list[Staged], dict[str, NDArray[Any]]]:
        """A file per input, in the model's order, and what is in them; what nobody gave is noise.

        ``given`` is a file by input name; NV12 on Journey 6 may be named as the picture or as its two parts. Raises
        InputError.
        """
        known = intakes(info)
        check_names(list(given), known, "--loadInputs")
        files: list[Staged] = []
        arrays: dict[str, NDArray[Any]] = {}
        for intake in known:
            for tensor_name, found in self._take(intake, given, recipe):
                if isinstance(found, Staged):
                    files.append(found)
                else:
                    arrays[tensor_name] = found
                    files.append(self.written(found, f"{len(files)}_{tensor_name}"))
        return files, arrays

    def _take(
        self, intake: Intake, given: Mapping[str, str], recipe: Recipe | None
    ) -> Iterator[tuple[str, NDArray[Any] | Staged]]:
        names = [tensor.name for tensor in intake.tensors]
        path = given.get(intake.name)
        if path is None and any(name in given for name in names):
            for place, tensor in enumerate(intake.tensors):
                yield from self._part(intake, tensor.name, place, given, recipe)
            return
        self.say(f"Using {f'values loaded from {path}' if path else 'random values'} for input {intake.name}")
        if path and len(names) == 1 and _as_it_is(path, intake):
            yield names[0], staged(path, "" if path.lower().endswith(AS_IT_IS) else ".bin")
            return
        yield from zip(names, read_given(intake, path, recipe) if path else made_up(intake), strict=True)

    def _part(
        self, intake: Intake, name: str, place: int, given: Mapping[str, str], recipe: Recipe | None
    ) -> Iterator[tuple[str, NDArray[Any] | Staged]]:
        """Luma or chroma of an NV12 picture, given for itself; a picture for it stands for that part of it."""
        tensor, path = intake.tensors[place], given.get(name)
        alone = intakes(ModelInfo(None, "", (tensor,), ()))[0]
        self.say(f"Using {f'values loaded from {path}' if path else 'random values'} for input {name}")
        if path and path.lower().endswith(PICTURE_FILES):
            yield name, read_given(intake, path, recipe)[place]
        else:
            yield name, (read_given(alone, path, None) if path else made_up(alone))[0]

    def _ours(self, file: Staged) -> bool:
        return Path(file.path).is_relative_to(self.scratch)

    def written(self, array: NDArray[Any], name: str) -> Staged:
        """An array as a file for the board."""
        path = self.scratch / f"{safe(name) or 'input'}.bin"
        array.tofile(path)
        return staged(str(path))

    def drop(self, files: Sequence[Staged]) -> None:
        """Take files away that this visit brought and nobody needs again."""
        names = {file.name for file in files}
        mine = [file for file in self.sent if file.name in names]
        self.board.forget(self.looked, mine)
        self.sent = [file for file in self.sent if file not in mine]
        self.looked = replace(self.looked, have=self.looked.have - names)

    def leave(self) -> None:
        """After a failure, take away what this visit brought."""
        if not self.kept:
            self.board.forget(self.looked, self.sent)


@contextmanager
def visit(board: Board, march: March, artifact: str, say: Say) -> Iterator[Visit]:
    """A stay at ``board`` with ``artifact``; leaving it by an error, Ctrl-C or SIGTERM takes what it brought away.

    Raises InputError when the artifact cannot be read, OptionError for a runtime folder without the tool.
    """
    model = staged(artifact, march.suffix)
    own = os.environ.get(VARIABLE, "")
    brought = runtime(own) if own else None
    with tempfile.TemporaryDirectory(prefix="ptqbridge-") as scratch:
        stay = Visit(board, march, artifact, say, Path(scratch), model, brought)
        with cleaned_up(stay.leave):
            yield stay
            stay.kept = True


def _as_it_is(path: str, intake: Intake) -> bool:
    """Whether the board's tool reads the file by itself: text, or bytes of the tensor with its padding."""
    if path.lower().endswith(AS_IT_IS):
        return True
    named = path.lower().endswith((".npy", ".npz", *PICTURE_FILES))
    size = intake.tensors[0].size
    return not named and size is not None and os.path.isfile(path) and os.path.getsize(path) == size


def _frames(argv: Argv) -> int:
    return next((int(word.partition("=")[2]) for word in argv if word.startswith("--frame_count=")), 1)


def _said(text: str) -> str:
    return failure_line("\n".join(line for line in text.splitlines() if f"{TOOL} " not in line[:200]))


def failure(kind: str, text: str, status: int, march: March) -> PtqbridgeError:
    """The error for a command of the board's tool that ended with ``status``: one line, and what to do about it."""
    said = _said(text)
    if "march" in said and ("match" in said or "compatible" in said):
        return InputError(f"the model is not for this board: {said}", hint=f"it was built for {march.name}")
    if status == 127:
        return ToolchainMissing(f"{TOOL} cannot be started on the board: {said}")
    if "unknown command line flag" in said:
        hint = "an older tool? --toolchainVersion=3.0 leaves out what came later"
        return ToolchainFailed(f"{TOOL} {kind}: {said}", hint=hint)
    if "No space left" in said:
        return ToolchainFailed(f"{TOOL} {kind}: the board's disk is full")
    if status > 128:
        return ToolchainFailed(f"{TOOL} {kind} was ended by signal {status - 128} on the board: {said}")
    return ToolchainFailed(f"{TOOL} {kind} failed with status {status}: {said}")
