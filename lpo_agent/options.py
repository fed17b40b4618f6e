"""The options of a run as typed keywords, for editors and type checkers.

Made by ``scripts/generate`` from the fields of :class:`lpo_agent.spec.RunSpec`; a change goes there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lpo_agent.core.budget import Budget


class BudgetOptions(TypedDict, total=False):
    """Caps of a run."""

    usd: float | None
    """Most that the run may cost, where prices are known, in US dollars (more than 0; default: no cap)."""
    calls: int | None
    """Most model calls, failed ones counted (more than 0; default: no cap)."""
    tokens: int | None
    """Most tokens, those read and those written (more than 0; default: no cap)."""
    seconds: float | None
    """Most time, in seconds (more than 0; default: no cap)."""


class RunOptions(TypedDict, total=False):
    """What a search may be told beside its prompt, rows, model and metric."""

    data: Path | str | None
    """Items; a search splits them by the seed into train, dev and test."""
    train: Path | str | None
    """Items to learn from."""
    dev: Path | str | None
    """Items to choose by."""
    test: Path | str | None
    """Items to judge by, once, at the end."""
    locality: Literal["off", "think", "nudge", "enforce"]
    """How marks bind in ape, apo and pe2: not made (off), thought in their place (think), advice as in the paper
    (nudge), nothing else can change (enforce) (default: enforce).
    """
    branches: int | None
    """Searches side by side (1 to 256; default: the method's own)."""
    steps: int | None
    """Steps of each branch (1 to 1,000; default: the method's own)."""
    proposals: int | None
    """Candidates of each step (1 to 64; default: the method's own)."""
    race_items: int | None
    """Training items that the best candidates are compared on (2 to 100,000; default: the method's own)."""
    demos: int | None
    """Most few-shot examples that the search may put in (0 to 64; default: the method's own)."""
    must_pass: Path | str | None
    """Examples on which the answer may not do worse than the seed prompt."""
    class_gate: float | None
    """Most of the mean score that the answer may lose in one class of targets (0 to 1; default: any)."""
    gain: float
    """Gain on test that is looked for; a note says where test is too small to show it (more than 0, at most 1;
    default: 0.1).
    """
    method_options: Mapping[str, bool | int | float | str]
    """Numbers of the method that differ from its defaults, such as beam=4."""
    base_url: str | None
    """Server of the model that answers (default: the provider's)."""
    optimizer_base_url: str | None
    """Server of the optimizer model (default: the provider's)."""
    placement: Literal["before", "after", "system"]
    """Where a prompt without {input} stands (default: before)."""
    max_tokens: int | None
    """Longest answer, in tokens (1 to 100,000; default: by the data)."""
    extract: str | None
    """Words that ask for the answer alone, in a second call."""
    extract_tokens: int
    """Longest answer of that second call, in tokens (1 to 10,000; default: 10)."""
    temperature: float | None
    """Temperature of the answers; `default` is the service's own (0 to 2; default: 0.0)."""
    optimizer_temperature: float | None
    """Temperature of the optimizer model; `default` is the service's own (0 to 2; default: 0.7)."""
    prices: Path | str | None
    """TOML file with prices of models."""
    seed: int
    """Seed of every random choice, the split included (default: 0)."""
    rpm: float | None
    """Most requests a minute to a model (more than 0; default: found out)."""
    tpm: float | None
    """Most tokens a minute to a model (more than 0; default: found out)."""
    input_tpm: float | None
    """Most input tokens a minute, where they are counted apart (more than 0)."""
    output_tpm: float | None
    """Most output tokens a minute, where they are counted apart (more than 0)."""
    concurrency: int
    """Most calls at the same time (1 to 4,096; default: 128)."""
    timeout: float | None
    """Longest wait for one answer, in seconds (more than 0; default: 60, more for long answers)."""
    budget: Budget | BudgetOptions
    """Caps of the run."""
    cache: bool
    """Use replies of other runs."""


class ScoreOptions(TypedDict, total=False):
    """What a scoring of prompts may be told."""

    data: Path | str | None
    """Items; a search splits them by the seed into train, dev and test."""
    base_url: str | None
    """Server of the model that answers (default: the provider's)."""
    optimizer_base_url: str | None
    """Server of the optimizer model (default: the provider's)."""
    placement: Literal["before", "after", "system"]
    """Where a prompt without {input} stands (default: before)."""
    max_tokens: int | None
    """Longest answer, in tokens (1 to 100,000; default: by the data)."""
    extract: str | None
    """Words that ask for the answer alone, in a second call."""
    extract_tokens: int
    """Longest answer of that second call, in tokens (1 to 10,000; default: 10)."""
    temperature: float | None
    """Temperature of the answers; `default` is the service's own (0 to 2; default: 0.0)."""
    optimizer_temperature: float | None
    """Temperature of the optimizer model; `default` is the service's own (0 to 2; default: 0.7)."""
    prices: Path | str | None
    """TOML file with prices of models."""
    seed: int
    """Seed of every random choice, the split included (default: 0)."""
    rpm: float | None
    """Most requests a minute to a model (more than 0; default: found out)."""
    tpm: float | None
    """Most tokens a minute to a model (more than 0; default: found out)."""
    input_tpm: float | None
    """Most input tokens a minute, where they are counted apart (more than 0)."""
    output_tpm: float | None
    """Most output tokens a minute, where they are counted apart (more than 0)."""
    concurrency: int
    """Most calls at the same time (1 to 4,096; default: 128)."""
    timeout: float | None
    """Longest wait for one answer, in seconds (more than 0; default: 60, more for long answers)."""
    budget: Budget | BudgetOptions
    """Caps of the run."""
    cache: bool
    """Use replies of other runs."""


class SessionOptions(TypedDict, total=False):
    """What a session may be told beside its models."""

    base_url: str | None
    """Server of the model that answers (default: the provider's)."""
    optimizer_base_url: str | None
    """Server of the optimizer model (default: the provider's)."""
    prices: Path | str | None
    """TOML file with prices of models."""
    rpm: float | None
    """Most requests a minute to a model (more than 0; default: found out)."""
    tpm: float | None
    """Most tokens a minute to a model (more than 0; default: found out)."""
    input_tpm: float | None
    """Most input tokens a minute, where they are counted apart (more than 0)."""
    output_tpm: float | None
    """Most output tokens a minute, where they are counted apart (more than 0)."""
    concurrency: int
    """Most calls at the same time (1 to 4,096; default: 128)."""
    timeout: float | None
    """Longest wait for one answer, in seconds (more than 0; default: 60, more for long answers)."""
    budget: Budget | BudgetOptions
    """Caps of the run."""
    cache: bool
    """Use replies of other runs."""
