"""What a function does, as text: its source without comments, docstrings and layout, or its bytecode.

Bytecode, which is that of one version of Python, is for lambdas, whose lines may hold others, for what has no source (a
console), and for files that were edited after they were loaded, whose text is not what runs.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
import warnings
from types import CodeType, FunctionType
from typing import Any


def bytecode(code: CodeType) -> str:
    """What a function does as this version of Python has compiled it, without names of files and lines."""
    inner = [bytecode(c) if isinstance(c, CodeType) else _constant(c) for c in code.co_consts]
    return repr((code.co_code.hex(), inner, code.co_names, code.co_varnames, code.co_freevars, code.co_argcount))


def _constant(value: Any) -> str:
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


def source_text(function: FunctionType) -> str | None:
    """The source of a function; None for a lambda, and where there is none or it is not what was loaded."""
    if function.__name__ == "<lambda>":
        return None
    try:
        if function.__code__ not in _compiled("".join(inspect.findsource(function)[0])):
            return None
        return normalised(textwrap.dedent(inspect.getsource(function)), function.__code__.co_name)
    except (OSError, TypeError, SyntaxError, ValueError):
        return None


@functools.lru_cache(maxsize=64)
def _compiled(text: str) -> frozenset[CodeType]:
    """The code of all functions in a file; two are equal if they do the same in the same lines, wherever the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [compile(text, "", "exec", dont_inherit=True)]
    for code in found:
        found += [inner for inner in code.co_consts if isinstance(inner, CodeType)]
    return frozenset(found)


def normalised(text: str, function: str | None = None) -> str | None:
    """Python without comments, docstrings and layout; None where it is none, or not that of the function."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return None
    if function is not None and [getattr(node, "name", None) for node in tree.body] != [function]:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)
