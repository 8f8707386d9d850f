"""Variables and code of the functions are refused when they do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdk.node import use_packaged_node
from qis.settings import FUNCTIONS, PREFIX

use_packaged_node()

from cdk.constructs.code import Code, NotPackagedError  # noqa: E402
from cdk.constructs.function import VariablesError, variables  # noqa: E402


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_every_field_must_be_given_and_none_that_is_unknown(name: str) -> None:
    given = {v.removeprefix(PREFIX).lower(): "1" for v in FUNCTIONS[name].variables()}
    assert set(variables(name, given)) == set(FUNCTIONS[name].variables())
    with pytest.raises(VariablesError, match=r"missing \['QIS_ENVIRONMENT'\]"):
        variables(name, {k: v for k, v in given.items() if k != "environment"})
    with pytest.raises(VariablesError, match=r"unknown \['QIS_COLOUR'\]"):
        variables(name, given | {"colour": "blue"})


def test_deploying_without_packaged_code_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(NotPackagedError, match=r"layers/core.*run `make package` first"):
        Code.built("arm64", build=tmp_path)
