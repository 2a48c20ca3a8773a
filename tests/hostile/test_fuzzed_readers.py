"""Good files with bits flipped, parts cut out, doubled and swapped, numbers and words exchanged for hard ones: every
reader reads them or raises UserError, and nothing else. The same examples each time; `make fuzz` draws others."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from changed_files import changed
from confining import confined
from good_files import KINDS, Read, good_files
from robusteval.auditing.protocol import read_protocol
from robusteval.core.errors import UserError
from robusteval.results.files import read_cost, read_frame
from robusteval.results.manifest import read_manifest
from robusteval.results.records import Cost
from robusteval.results.run import Run

EXAMPLES = 60


@pytest.fixture(scope="module")
def goods(run: Run) -> dict[str, tuple[str, bytes, Read]]:
    return good_files(run)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_file_is_read_or_refused(
    kind: str, goods: dict[str, tuple[str, bytes, Read]], tmp_path: Path
) -> None:
    name, content, read = goods[kind]
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    read(path)

    @settings(max_examples=EXAMPLES, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def try_it(data: Any) -> None:
        path.write_bytes(changed(data.draw, content))
        with suppress(UserError):
            read(path)

    try_it()


@pytest.mark.parametrize("content", [b"[" * 10**5, b'{"format":' * 10**5, b"\xff\xfe\x00", b"NaN", b"9" * 5000])
def test_manifests_that_are_hard_to_parse(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(UserError):
        read_manifest(tmp_path / "manifest.json")


@pytest.mark.parametrize("content", [b"a = " + b"[" * 10**5, b"a = " + b"{a=" * 10**5, b"a = 9" + b"9" * 5000, b"\0"])
def test_protocols_that_are_hard_to_parse(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_bytes(content)
    with pytest.raises(UserError):
        read_protocol(str(tmp_path / "p.toml"))


def test_a_footer_with_any_bit_turned_ends_no_process(
    goods: dict[str, tuple[str, bytes, Read]], tmp_path: Path
) -> None:
    """pyarrow does, where it is asked for a column whose sizes are damaged."""
    name, content, read = goods["parquet"]
    path = tmp_path / name
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")

    def read_each() -> None:
        for i in range(footer, len(content)):
            path.write_bytes(content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :])
            with suppress(UserError):
                read(path)

    outcome = confined(read_each, tmp_path, seconds=60)
    assert outcome.clean, outcome


@pytest.mark.parametrize("noted", [b"{", b"\xd5", b"[]", b'{"columns": [{}], "index_columns": [7]}'])
def test_a_table_whose_notes_for_pandas_are_damaged(noted: bytes, tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1.0]}).replace_schema_metadata({b"pandas": noted}), tmp_path / "t.parquet")
    with pytest.raises(UserError, match="expected a readable table in"):
        read_frame(tmp_path / "t.parquet")


def test_a_table_without_notes_cost_nothing(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1.0]}), tmp_path / "t.parquet")
    assert read_cost(tmp_path / "t.parquet") == Cost()
