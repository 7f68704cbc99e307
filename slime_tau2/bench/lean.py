"""tau2's own step and answer to a call, without what they do for nobody.

tau2 writes every message and every tool's result out for its debug log before it asks whether anybody reads it, and
here nobody does (`tau2.py` switches it off); and a toolkit binds all its tools anew to find one. That was a tenth of an
episode.

`LeanOrchestrator.step` and what `answers` gives are tau2's own functions, compiled from its own source less the
statements `logger.debug(…)`. `bind_tools` spares a toolkit the search. They serve our own episodes; tau2's classes stay
as they are for everybody else. Where a vintage or a domain has a function of another kind, its own is taken.
"""

from __future__ import annotations
import __future__

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable
from types import CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from slime_tau2.bench.tau2 import Environment, Orchestrator, ToolCall, ToolKitBase, ToolMessage

_names: dict[type, frozenset[str]] = {}  # of a toolkit's tools, which its class says once for all


class _WithoutDebug(ast.NodeTransformer):
    """Takes `logger.debug(…)` out where it stands as a statement."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        call = node.value
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "logger.debug":
            return ast.copy_location(ast.Pass(), node)
        return node


@functools.cache
def without_debug(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function less its `logger.debug(…)`; itself where it cannot be compiled from its source: no plain function, a
    closure, a source that is not there or is another's.
    """
    if not isinstance(function, FunctionType) or function.__closure__ or hasattr(function, "__wrapped__"):
        return function
    own = function.__code__
    try:
        lines, first = inspect.getsourcelines(function)
        module = _WithoutDebug().visit(ast.parse(textwrap.dedent("".join(lines))))
    except (OSError, SyntaxError, ValueError):
        return function
    ast.increment_lineno(module, first - 1)  # what goes wrong in it is found in tau2's file
    future = own.co_flags & __future__.annotations.compiler_flag
    compiled = compile(module, own.co_filename, "exec", flags=future, dont_inherit=True)
    code = next((c for c in compiled.co_consts if isinstance(c, CodeType)), own)
    inputs = ("co_name", "co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_flags", "co_freevars")
    same = all(getattr(code, name) == getattr(own, name) for name in inputs)
    if not same or not {*code.co_names} <= {*own.co_names} or not {*code.co_varnames} <= {*own.co_varnames}:
        return function
    lean = FunctionType(code.replace(co_qualname=own.co_qualname), function.__globals__, own.co_name)
    lean.__defaults__, lean.__kwdefaults__ = function.__defaults__, function.__kwdefaults__
    lean.__qualname__, lean.__module__ = function.__qualname__, function.__module__
    return lean


if TYPE_CHECKING:
    LeanOrchestrator = Orchestrator
else:

    class LeanOrchestrator(Orchestrator):
        """tau2's Orchestrator, whose steps are not written to its debug log."""

        step = without_debug(Orchestrator.step)


def answers(environment: Environment) -> Callable[[ToolCall], ToolMessage]:
    """`environment.get_response`, which does not write the answer to the debug log."""
    if "get_response" in vars(environment):
        return environment.get_response
    return MethodType(without_debug(type(environment).get_response), environment)


def bind_tools(environment: Environment) -> None:
    """Let an environment's toolkits find a tool by its name, until `release_tools`."""
    for toolkit in (environment.tools, environment.user_tools):
        kind = type(toolkit)
        found_by_tau2 = (getattr(kind, name, None) is getattr(ToolKitBase, name) for name in ("use_tool", "tools"))
        if toolkit is not None and all(found_by_tau2):
            if kind not in _names:
                _names[kind] = frozenset(toolkit._func_tools)  # type: ignore[attr-defined]
            vars(toolkit)["use_tool"] = functools.partial(_use_tool, toolkit, _names[kind])


def release_tools(environment: Environment) -> None:
    """Leave the toolkits as they were, and no circle of references behind."""
    for toolkit in (environment.tools, environment.user_tools):
        if toolkit is not None:
            vars(toolkit).pop("use_tool", None)


def _use_tool(toolkit: ToolKitBase, names: frozenset[str], /, tool_name: str, **arguments: Any) -> Any:
    if tool_name in names:
        return getattr(toolkit, tool_name)(**arguments)
    return type(toolkit).use_tool(toolkit, tool_name, **arguments)
