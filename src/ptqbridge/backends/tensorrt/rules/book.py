"""What the rules share: registering, combining, and the words for what a version does not have."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from ptqbridge.backends.tensorrt.context import Context
from ptqbridge.rulebook import Outcome, Rule, Rulebook, Verdict, exact, ignored, refused

Decorator = Callable[[Rule[Context]], Rule[Context]]

LOADED = ignored("nothing is built: --loadEngine brings an engine that is built already")
NOT_RUN = ignored("nothing is run: the work ends when the engine is built")


class Part(Rulebook[Context]):
    """The rules of one part of the option table. Rules emit ``calls`` (Python texts) and ``edits`` (of the ONNX)."""

    def building(self, *names: str) -> Decorator:
        """Rules that have no effect when an engine is loaded instead of built."""
        return self._guarded(names, LOADED, lambda context: context.loads)

    def running(self, *names: str) -> Decorator:
        """Rules that have no effect when nothing is run."""
        return self._guarded(names, NOT_RUN, lambda context: not context.runs)

    def apply(self, name: str, value: Any, context: Context) -> Outcome:
        """As in Rulebook; the parser's None (an empty text where trtexec keeps its default) reaches no rule."""
        if value is None:
            return ignored("an empty value keeps the default")
        return super().apply(name, value, context)

    def _guarded(self, names: Iterable[str], otherwise: Outcome, without: Callable[[Context], bool]) -> Decorator:
        def register(function: Rule[Context]) -> Rule[Context]:
            @wraps(function)
            def guarded(value: Any, context: Context) -> Outcome:
                return otherwise if without(context) else function(value, context)

            self.rule(*names)(guarded)
            return guarded

        return register


def call(*calls: str, because: str = "", edits: tuple[str, ...] = ()) -> Outcome:
    """Exactly these API calls."""
    return exact("; ".join(calls), because, calls=calls, **({"edits": edits} if edits else {}))


def flag(name: str, because: str = "") -> Outcome:
    """A builder flag is set."""
    return call(f"config.set_flag(trt.BuilderFlag.{name})", because=because)


def too_old(context: Context, what: str, since: str, instead: str) -> Outcome:
    """The version lacks something that changes results, files or placement: refused, with the replacement named."""
    return refused(f"{context.name} has no {what} (it came with {since}); {instead}")


def no_hint(context: Context, what: str, why: str = "it only guides the search for fast kernels") -> Outcome:
    """The version lacks something that cannot change results: ignored, and said."""
    return ignored(f"{context.name} has no {what}; {why}")


def combine(parts: Iterable[Outcome]) -> Outcome:
    """One outcome for a value with several entries: refused if any is, the common verdict, or else approximate."""
    outcomes = list(parts)
    if not outcomes:
        return ignored("the value names nothing")
    verdicts = {outcome.verdict for outcome in outcomes}
    if Verdict.REFUSED in verdicts:
        outcomes = [outcome for outcome in outcomes if outcome.verdict is Verdict.REFUSED]
        return refused(_joined(outcome.because for outcome in outcomes))
    verdict = verdicts.pop() if len(verdicts) == 1 else Verdict.APPROXIMATE
    emits = {
        kind: merged
        for kind in ("calls", "dla", "edits")
        if (merged := tuple(text for outcome in outcomes for text in outcome.emits.get(kind, ())))
    }
    becomes = _joined(outcome.becomes for outcome in outcomes)
    return Outcome(verdict, becomes, _joined(outcome.because for outcome in outcomes), emits)


def quoted(text: str) -> str:
    """A Python string literal in double quotes."""
    return json.dumps(text, ensure_ascii=False)


def beside(name: str) -> str:
    """Python text for the path of a file that we write ourselves: in the build's folder, beside an emitted script.

    A user's file of the same name is another one, and its path stands in a call as it was given.
    """
    return f"beside({quoted(name)})"


def _joined(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(text for text in texts if text))
