"""One call of a plan as data: read from the line of Python that ``explain`` prints and an emitted script holds.

A plan's lines use a small part of Python: one call, attribute setting or assignment each, whose operands are names,
attributes, constants, calls, sequences, mappings and the operators of bit masks. Anything else is refused here, so that
what is carried out can never be more than what is shown.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

_OPERATORS: Mapping[type[ast.AST], Callable[..., Any]] = {
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
    ast.LShift: operator.lshift,
    ast.Add: operator.add,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Invert: operator.invert,
    ast.USub: operator.neg,
}


@dataclass(frozen=True)
class Call:
    """One line. ``result`` is the variable that takes the outcome, or ""; ``value`` what is computed.

    ``target`` is the attribute that is set, or None: then ``value`` is a call, whose function is ``receiver.member``
    (``receiver`` is "" for a plain function such as ``open_device``). ``module`` is the module of an import.
    """

    text: str
    value: ast.expr
    result: str = ""
    target: ast.Attribute | None = None
    module: str = ""

    @property
    def member(self) -> str:
        """The method, function or attribute."""
        if self.target is not None:
            return self.target.attr
        function = self.value.func if isinstance(self.value, ast.Call) else self.value
        return function.attr if isinstance(function, ast.Attribute) else ast.unparse(function)

    @property
    def receiver(self) -> str:
        """What the method is called on, or whose attribute is set; "" for a plain function."""
        if self.target is not None:
            return ast.unparse(self.target.value)
        function = self.value.func if isinstance(self.value, ast.Call) else None
        return ast.unparse(function.value) if isinstance(function, ast.Attribute) else ""

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments, or the value that an attribute gets, as Python texts."""
        if self.target is not None or not isinstance(self.value, ast.Call):
            return (ast.unparse(self.value),)
        return tuple(map(ast.unparse, self.value.args))

    def to_dict(self) -> dict[str, object]:
        """JSON form: ``kind`` is import, set or call."""
        kind = "import" if self.module else "set" if self.target is not None else "call"
        return {
            "kind": kind,
            "receiver": self.receiver,
            "member": self.module or self.member,
            "arguments": [] if self.module else list(self.arguments),
            "result": self.result,
        }

    def carry_out(self, names: MutableMapping[str, Any]) -> Any:
        """Do it with the variables in ``names``, which takes the result; returns the result."""
        if self.target is not None:
            setattr(evaluate(self.target.value, names), self.target.attr, evaluate(self.value, names))
            return None
        value = evaluate(self.value, names)
        if self.result:
            names[self.result] = value
        return value

    def attributes(self) -> Iterator[str]:
        """Every dotted name in the line, the longest forms only: ``trt.BuilderFlag.FP16``, ``config.set_flag``."""
        for part in (self.value, *([self.target] if self.target is not None else [])):
            inner = {id(node.value) for node in ast.walk(part) if isinstance(node, ast.Attribute)}
            for node in ast.walk(part):
                if isinstance(node, ast.Attribute) and id(node) not in inner:
                    yield ast.unparse(node)


def read_call(text: str) -> Call:
    """The call that a line of a plan holds. Raises ValueError for anything outside the small part of Python."""
    try:
        (statement,) = ast.parse(text).body
    except (SyntaxError, ValueError):
        raise ValueError(f"not one line of Python: {text!r}") from None
    if isinstance(statement, ast.Import) and [alias.asname for alias in statement.names] == ["trt"]:
        return Call(text, ast.Name("trt"), "trt", module=statement.names[0].name)
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        call = Call(text, statement.value)
    elif isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target = statement.targets[0]
        if isinstance(target, ast.Attribute):
            call = Call(text, statement.value, target=target)
        elif isinstance(target, ast.Name):
            call = Call(text, statement.value, target.id)
        else:
            raise ValueError(f"neither a variable nor an attribute is set: {text!r}")
    else:
        raise ValueError(f"neither a call nor an assignment: {text!r}")
    for node in ast.walk(call.value):
        _check(node, text)
    return call


_KNOWN = (
    *(ast.Name, ast.Attribute, ast.Constant, ast.Call, ast.Tuple, ast.List, ast.Dict, ast.BinOp, ast.UnaryOp),
    *(ast.operator, ast.unaryop, ast.expr_context),
)


def _check(node: ast.AST, text: str) -> None:
    operation = isinstance(node, (ast.operator, ast.unaryop)) and type(node) not in _OPERATORS
    private = isinstance(node, ast.Attribute) and node.attr.startswith("_")
    keywords = isinstance(node, ast.Call) and node.keywords
    if not isinstance(node, _KNOWN) or operation or private or keywords:
        raise ValueError(f"{type(node).__name__} is not part of a plan's language: {text!r}")


def evaluate(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """The value of an operand. Raises KeyError for an unknown name."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return names[node.id]
    if isinstance(node, ast.Attribute):
        return getattr(evaluate(node.value, names), node.attr)
    if isinstance(node, ast.Call):
        function = evaluate(node.func, names)
        return function(*(evaluate(argument, names) for argument in node.args))
    if isinstance(node, ast.Tuple):
        return tuple(evaluate(item, names) for item in node.elts)
    if isinstance(node, ast.List):
        return [evaluate(item, names) for item in node.elts]
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {evaluate(key, names): evaluate(value, names) for key, value in pairs if key is not None}
    if isinstance(node, ast.BinOp):
        return _OPERATORS[type(node.op)](evaluate(node.left, names), evaluate(node.right, names))
    assert isinstance(node, ast.UnaryOp)
    return _OPERATORS[type(node.op)](evaluate(node.operand, names))
