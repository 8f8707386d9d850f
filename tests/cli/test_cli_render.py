"""What people read fits their terminal, and nothing that they copy or count is broken."""

from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from qis.cli import render
from qis.cli.session import _unwrapped


def printed(width: int, columns: tuple[str, ...], *rows: tuple[object, ...]) -> str:
    out = Console(file=io.StringIO(), width=width)
    render.table(out, columns, rows, numbers=("value",))
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def test_numbers_times_and_words_stay_in_one_piece() -> None:
    row = ("2019-05-02T12:15:00Z", "1234567.12345678", "sim-vendor-a, sim-vendor-b, sim-vendor-c")
    said = printed(56, ("snap", "value", "sources"), row)
    for part in ("snap", "value", "sources", row[0], row[1], "sim-vendor-a,", "sim-vendor-c"):
        assert part in said
    assert all(len(line) <= 56 for line in said.splitlines())


def test_a_row_without_room_becomes_a_block() -> None:
    row = ("2019-05-02T12:15:00Z", "1234567.12345678", "a")
    assert printed(40, ("snap", "value", "sources"), row).split("\n")[1:4] == [
        "   snap  2019-05-02T12:15:00Z",
        "  value  1234567.12345678",
        "sources  a",
    ]


@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 10**12),
            st.text("abc- ", max_size=60),
            st.decimals(-(10**6), 10**6, places=4),
            st.text("xyz", max_size=30),
        ),
        min_size=1,
        max_size=4,
    ),
    width=st.integers(10, 150),
)
def test_nothing_is_lost_at_any_width(rows: list[tuple[object, ...]], width: int) -> None:
    said = printed(width, ("item", "a few words", "value", "name"), *rows)
    for item, _, value, _ in rows:
        assert str(item) in said
        assert str(value) in said
    for letters in ("bc", "yz"):  # of the heads none has them
        told = sum(str(cell).count(c) for row in rows for cell in row for c in letters)
        assert sum(said.count(c) for c in letters) == told


def test_only_long_words_are_broken() -> None:
    said = printed(40, ("why",), ("x" * 60,))
    assert said.count("x") == 60
    assert all(len(line) <= 40 for line in said.splitlines())


def test_a_document_within_a_list_is_read_line_by_line() -> None:
    out = Console(file=io.StringIO(), width=80)
    render.fields(out, {"gate": True, "checks": [{"check": "spike", "passed": False}], "by": ["a", "b"]}, "")
    assert isinstance(out.file, io.StringIO)
    told = "gate: yes\nchecks 1:\n  check: spike\n  passed: no\nby: a, b\n"
    assert out.file.getvalue() == told


def test_a_command_leaves_the_breaking_of_lines_to_the_terminal() -> None:
    def run() -> None:
        """First.

        A long
        paragraph.

        Example: qis
        """

    assert _unwrapped(run) == "First.\n\nA long paragraph.\n\nExample: qis"
