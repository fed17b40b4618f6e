"""Tests of the beam methods' options: the defaults are those of the originals, and all are documented."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from lpo_agent.core.beam_options import DEFAULTS, PROPOSALS, STEPS, BeamOptions, beam_options_for

DOC = Path(__file__).parents[2] / "docs" / "options.md"


def test_every_number_is_documented_with_its_defaults() -> None:
    lines = DOC.read_text(encoding="utf-8").splitlines()
    for name, field in BeamOptions.model_fields.items():
        values = [shown(DEFAULTS[method].get(name, field.default)) for method in DEFAULTS]
        row = f"| `{name}` | {' | '.join(values)} | {field.description} |"
        assert any(line.startswith(row) for line in lines), name


def shown(value: object) -> str:
    return {"True": "yes", "False": "no"}.get(str(value), str(value))


def test_protegis_defaults() -> None:
    """Pryzant et al. 2023, the released code: main.py."""
    found = beam_options_for("apo", {})
    assert (STEPS["apo"], found.beam, found.minibatch, PROPOSALS) == (6, 4, 64, 4)
    assert (found.errors, found.reasons, found.edits, found.paraphrases, found.expansion) == (4, 1, 1, 2, 8)
    assert (found.selection, found.eval_budget, found.eval_rounds, found.eval_prompts) == ("bf", 2048, 8, 8)
    assert (found.eval_items, found.ucb_c) == (32, 1.0)
    assert (found.critique_temperature, found.rewrite_temperature, found.rewrite_tokens) == (0.7, 0.7, 1024)


def test_pe2s_defaults() -> None:
    """Ye et al. 2024, the released scripts: three expansions, backtracking, two errors, fifty words."""
    found = beam_options_for("pe2", {})
    assert (STEPS["pe2"], found.beam, PROPOSALS, found.errors, found.pool) == (3, 4, 4, 2, "all")
    assert (found.critique_temperature, found.critique_tokens) == (0.5, 1500)
    assert (found.rewrite_temperature, found.rewrite_tokens) == (0.7, 300)
    assert (found.word_cap(5), found.word_cap(100)) == (50, 150)
    assert (found.step_size, found.history, found.stop_at_perfect) == (0, False, True)


def test_apes_defaults() -> None:
    """Zhou et al. 2022, simple_ape: 50 instructions from five sets of five examples, at temperature 0.9."""
    found = beam_options_for("ape", {})
    assert (found.induce, found.induce_each, found.induce_items, found.induce_temperature) == (5, 10, 5, 0.9)
    assert (found.vary_temperature, found.ape_errors) == (0.7, False)


def test_what_is_given_wins_and_is_checked() -> None:
    assert beam_options_for("pe2", {"beam": "2", "history": "true"}).beam == 2
    assert beam_options_for("pe2", {"max_words": 0}).word_cap(1000) == 0
    with pytest.raises(ValidationError):
        beam_options_for("pe2", {"tag_per": "word"})
