"""The budgets of a protocol: radii that all images share, or one for each, in a table or in a file beside the protocol.
A run holds the numbers themselves: that such a file was changed shows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robusteval.core.errors import UserError, nearest
from robusteval.core.images import Images
from robusteval.core.norms import Norm
from robusteval.core.numbers import finite
from robusteval.data.text_tables import text_table

Budgets = dict[Norm, tuple[float, ...]]
OwnBudgets = dict[Norm, dict[str, float]]
"""A radius for each image, by its id."""
_IDS = ("image_id", "id", "image", "path", "file", "filename")
_RADII = ("budget", "radius", "eps", "epsilon")
_TABLES = (".csv", ".tsv")


def parse_all_budgets(data: Mapping[str, Any], where: str) -> tuple[Budgets, OwnBudgets]:
    """What a protocol named `where` gives to all images, and what it gives to each. Raises UserError."""
    shared, own = _by_norm(data, "budgets", where), _by_norm(data, "own_budgets", where)
    for norm in [norm for norm, value in shared.items() if isinstance(value, dict)]:
        if norm in own:
            raise UserError(f"expected one table of budgets.{norm.value} in {where}, got two")
        own[norm] = shared.pop(norm)
    for norm in own:
        if norm in shared:
            raise UserError(f"expected budgets of all images or of each in {norm.symbol} in {where}, got both")
    return (
        {norm: parse_budgets(value, f"budgets.{norm.value} in {where}") for norm, value in shared.items()},
        {norm: _each(value, f"budgets.{norm.value} in {where}") for norm, value in own.items()},
    )


def parse_budgets(values: Any, where: str) -> tuple[float, ...]:
    """Radii in pixel units, ascending; each a number or a fraction such as "8/255"."""
    values = values if isinstance(values, list | tuple) else [values]
    try:
        budgets = sorted({finite(str(value)) for value in values})
    except ValueError:
        raise UserError(f"expected numbers or fractions such as '8/255' for {where}, got {values}") from None
    if not budgets or budgets[0] <= 0:
        raise UserError(f"expected budgets above zero for {where}, got {values}")
    return tuple(budgets)


def with_tables_of(data: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A protocol in `folder` with what stands in the tables, FILE.csv, that its budgets name: files of that folder or
    below, and no other. Raises UserError."""
    given = data.get("budgets")
    if not isinstance(given, dict):
        return dict(data)
    read = {key: _read(folder, value) if _is_table(value) else value for key, value in given.items()}
    return {**data, "budgets": read}


def of_images(own: OwnBudgets, images: Images) -> OwnBudgets:
    """The budgets of these images alone. Raises UserError where one has none."""
    for norm, given in own.items():
        lacking = [image_id for image_id in images.ids if image_id not in given]
        if lacking:
            raise UserError(
                f"expected a budget for each of {len(images):,} images in budgets.{norm.value}, got none for "
                f"{len(lacking):,} of them, such as '{lacking[0]}' ({nearest(lacking[0], list(given)[:1000])})"
            )
    return {norm: {image_id: given[image_id] for image_id in sorted(images.ids)} for norm, given in own.items()}


def _by_norm(data: Mapping[str, Any], section: str, where: str) -> dict[Norm, Any]:
    found = data.get(section, {})
    if not isinstance(found, dict):
        raise UserError(f"expected a [{section}] table in {where}, got {type(found).__name__}")
    norms = {n.value: n for n in Norm}
    for key in found:
        if key not in norms:
            raise UserError(f"expected a norm in [{section}] of {where}, got '{key}' ({nearest(key, norms)})")
    return {norms[key]: value for key, value in found.items()}


def _each(given: Any, where: str) -> dict[str, float]:
    if not isinstance(given, dict) or not given:
        raise UserError(f"expected a table of image ids and budgets for {where}, got {given or 'an empty one'}")
    return {str(image_id): _radius(image_id, value, where) for image_id, value in given.items()}


def _radius(image_id: str, value: Any, where: str) -> float:
    try:
        radius = finite(str(value))
    except ValueError:
        radius = 0.0
    if radius <= 0:
        raise UserError(
            f"expected a budget above zero, such as 0.03 or '8/255', for image '{image_id}' in {where}, got {value!r}"
        )
    return radius


def _is_table(value: Any) -> bool:
    return isinstance(value, str) and value.lower().endswith(_TABLES)


def _read(folder: Path, named: str) -> dict[str, float]:
    root = os.path.abspath(folder)
    path = Path(os.path.abspath(os.path.join(root, named)))
    if not path.is_relative_to(root):
        raise UserError(f"expected a table of budgets in {folder}, the protocol's folder, got {named}, outside of it")
    header, rows = text_table(path, "image ids and budgets")
    small = [cell.lower() for cell in header]
    image, radius = (next((small.index(n) for n in usual if n in small), None) for usual in (_IDS, _RADII))
    if image is None or radius is None:
        raise UserError(
            f"expected columns of image ids ({', '.join(_IDS[:3])}) and budgets ({', '.join(_RADII[:3])}) in {path}, "
            f"got {', '.join(header[:20])}"
        )
    found: dict[str, float] = {}
    for row in rows:
        if row[image] in found:
            raise UserError(f"expected one budget for each image in {path}, got two for '{row[image]}'")
        found[row[image]] = _radius(row[image], row[radius], str(path))
    if not found:
        raise UserError(f"expected a budget for at least one image in {path}, got a header alone")
    return found
