"""Which names of a pickle stand for data: those that build containers, and those whose objects are harmless.

Nothing here is imported or called: a harmless object becomes an `Inert` one. Any other name that a pickle calls is a
function that would have to run, and the file is refused for it.
"""

from __future__ import annotations

import sys

CONTAINERS = frozenset(
    (
        *("collections.OrderedDict", "collections.defaultdict", "collections.Counter"),
        *("builtins.dict", "__builtin__.dict"),
    )
)
"""What is read as a dict."""
_BUILTINS = (
    *("bool", "bytearray", "bytes", "complex", "float", "frozenset", "int", "list", "object", "range", "set", "slice"),
    *("str", "tuple"),
)
_PATHS = ("Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath")
_ARRAYS = ("_reconstruct", "scalar")
_HARMLESS = {
    "__builtin__": _BUILTINS,
    "builtins": _BUILTINS,
    "copy_reg": ("_reconstructor", "__newobj__", "__newobj_ex__"),
    "copyreg": ("_reconstructor", "__newobj__", "__newobj_ex__"),
    "_codecs": ("encode",),
    "collections": ("deque",),
    "argparse": ("Namespace",),
    "types": ("SimpleNamespace",),
    "datetime": ("date", "datetime", "time", "timedelta", "timezone"),
    "zoneinfo": ("ZoneInfo", "ZoneInfo._unpickle"),
    "decimal": ("Decimal",),
    "fractions": ("Fraction",),
    "uuid": ("UUID",),
    "pathlib": _PATHS,
    "pathlib._local": _PATHS,
    "functools": ("partial",),
    "logging": ("getLogger",),
    "random": ("Random",),
    "re": ("_compile",),
    "numpy": ("dtype", "ndarray"),
    "numpy.core.multiarray": _ARRAYS,
    "numpy._core.multiarray": _ARRAYS,
    "numpy.core.numeric": ("_frombuffer",),
    "numpy._core.numeric": ("_frombuffer",),
    "numpy.random._pickle": ("__bit_generator_ctor", "__generator_ctor", "__randomstate_ctor"),
    "numpy.random.bit_generator": ("__pyx_unpickle_SeedSequence",),
    "torch": ("device", "Generator"),
    "torch.serialization": ("_get_layout",),
}
_OURS = ("torch", "numpy")


def is_harmless(module: str, short: str) -> bool:
    """Whether what a pickle calls by this name makes data: a name of the list, or, by its capital, a class of another
    library or of the user, such as an enumeration."""
    if short in _HARMLESS.get(module, ()):
        return True
    top = module.split(".")[0]
    known = top in sys.stdlib_module_names or top in _OURS or top == "__builtin__"
    return not known and short.rpartition(".")[2][:1].isupper()
