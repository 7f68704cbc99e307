"""slime's arguments, as hooks read them: an object of whatever class, of which hooks assume as little as they can."""

from __future__ import annotations

from typing import Any, TypeVar, overload

T = TypeVar("T")


@overload
def option(args: object, name: str, default: None) -> Any: ...
@overload
def option(args: object, name: str, default: T) -> T: ...
def option(args: object, name: str, default: Any) -> Any:
    """An argument of slime's; `default` where these arguments, or this version of slime, have none of that name."""
    return getattr(args, name, default)
