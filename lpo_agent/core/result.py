"""The result of a run: the JSON object of the contract, schema 1, and the verdict in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from lpo_agent.core.beam_options import LocalityMode
from lpo_agent.core.scores import Score
from lpo_agent.core.stats import paired_interval, paired_p_value

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMA = 1
ALPHA = 0.05

EndStatus = Literal["completed", "stopped", "failed", "interrupted"]
"""How a run ended."""
RunStatus = Literal["running", "completed", "stopped", "failed", "interrupted"]
"""How a run ended, or that it goes on."""
Verdict = Literal["improved", "no_significant_improvement", "not_tested"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SeedResult(_Part):
    """The prompt that was given, without tags, and its scores."""

    prompt: str
    dev: Score | None
    test: Score | None


class EditResult(_Part):
    """A place where a prompt differs from the seed prompt, and what that is worth.

    ``start`` and ``end``: code points of the seed prompt; ``old`` and ``new``: the text there.
    ``worth``: mean score with the edit minus the mean without it, on the same ``n`` training items, with a
    95 % interval; None where it was not measured.
    """

    start: int
    end: int
    old: str
    new: str
    worth: float | None = None
    ci95: tuple[float, float] | None = None
    n: int = 0


class BestResult(_Part):
    """The prompt to use: the seed itself (step 0) unless another one was shown to be better.

    ``marked_parent`` is the prompt it was made from, with ``<edit>`` tags around what was changed.
    ``edits``: all of its differences to the seed prompt.
    """

    prompt: str
    dev: Score | None
    test: Score | None
    marked_parent: str | None
    step: int
    edits: tuple[EditResult, ...] = ()


class TestDelta(_Part):
    """Best minus seed on the same ``n`` untouched test items: mean, 95 % interval, p-value."""

    __test__ = False

    mean: float
    ci95: tuple[float, float]
    p_value: float = Field(ge=0.0, le=1.0)
    n: int


class FrontPoint(_Part):
    """A prompt of the front: no other one that was scored on dev is at least as good in all of
    score, ``words`` and ``tokens``, and better in one.

    ``tokens``: those of one call, prompt and answer, estimated as a quarter of their characters.
    """  # noqa: D205 - one sentence

    prompt: str
    dev: Score
    words: int
    tokens: float


class PowerResult(_Part):
    """What the test split can show: a gain of ``shows`` is found with a chance of 80 % on ``test_n`` items.

    For the gain that is ``looked_for``, ``needed`` items would do. ``discordant``: the share of
    items on which two prompts were taken to differ.
    """

    looked_for: float
    test_n: int
    shows: float
    needed: int
    discordant: float


class SpanResult(_Part):
    """A place of the seed prompt that was edited: ``tried`` edits there, ``paid`` of them scored more.

    ``start`` and ``end``: code points of the seed prompt (equal: a place for new text). ``gain``: the mean
    change of the score over these edits.
    """

    start: int
    end: int
    tried: int
    paid: int
    gain: float


class LocalityResult(_Part):
    """How local the edits were; ``kind`` says how binding tags were.

    ``checked`` edits were compared with their parents' untagged text, ``violations`` of them changed
    some of it (the accepted edits of lpo and local-search, all tagged ones of ape, apo and pe2; with
    kind "nudge" that is measured and allowed). ``tagged_fraction``: mean share of words inside tags.
    ``length_ratio``: words of the best prompt over words of the seed prompt.

    Of ``proposals``, ``global_fallbacks`` were made without tags because tags could not be had, and
    ``lost`` gave nothing. Of ``tag_replies`` (tagged prompts, filled slots) ``malformed`` could not be
    used. ``leakage``: mean share of untagged words that a tagged proposal changed; see
    :class:`lpo_agent.core.diff.Measures`.
    """

    kind: LocalityMode = "enforce"
    checked: int
    violations: int
    tagged_fraction: float | None
    length_ratio: float
    proposals: int = 0
    global_fallbacks: int = 0
    lost: int = 0
    tag_replies: int = 0
    malformed: int = 0
    leakage: float | None = None
    leakage_max: float | None = None


class SearchResult(_Part):
    """How the search went. ``candidates``: different prompts scored, beside the seed.

    ``best_step``: the step that the best prompt on dev came from, None where that is the seed prompt
    (``seed_was_best``). ``scorings``: pairs of prompt and row that the search scored;
    ``optimizer_calls``: what the optimizer model was asked in it. ``calls``: model calls for both,
    cached ones too, as if made one after another; ``curve``: such calls, and the best mean by
    then on the items that the method selects by (``curve_on``); ``calls_to``: those until 50, 90 and
    100 % of the final gain. ``spans``: the places that were edited, for methods that learn from that.
    The rest are means over the proposals.
    """

    candidates: int = 0
    best_step: int | None = None
    seed_was_best: bool = True
    scorings: int | None = None
    optimizer_calls: int | None = None
    calls: int | None = None
    calls_to: dict[str, int] | None = None
    curve: tuple[tuple[int, float], ...] = ()
    curve_on: Literal["dev", "train"] = "dev"
    spans: tuple[SpanResult, ...] = ()
    tags: float | None = None
    tag_words: float | None = None
    changed: float | None = None
    length_ratio: float | None = None
    repetition: float | None = None


class UsageResult(_Part):
    """What the run cost. ``usd`` is None when the price of a model is not known.

    ``unsure_tokens`` and ``unsure_usd`` are the most that broken calls may have cost beside that;
    budgets count them.
    """

    calls: int
    cached_calls: int
    failed_calls: int
    input_tokens: int
    output_tokens: int
    usd: float | None
    wall_s: float
    unsure_tokens: int = 0
    unsure_usd: float = 0.0


class RunResult(_Part):
    """What `lpo optimize --json` prints and `optimize()` returns.

    ``challenger`` is the best other prompt when it was not shown to be better than the seed.
    ``confirmation``: the found prompt minus the seed on dev items that nothing was chosen by.
    ``front``: the prompts worth choosing from, by score, length and cost. ``power``: what the test can show.
    """

    schema_version: int = Field(default=SCHEMA, alias="schema")
    run_id: str
    status: EndStatus
    stop_reason: str
    verdict: Verdict
    seed: SeedResult
    best: BestResult
    challenger: BestResult | None = None
    test_delta: TestDelta | None
    confirmation: TestDelta | None = None
    front: tuple[FrontPoint, ...] = ()
    power: PowerResult | None = None
    locality: LocalityResult
    search: SearchResult = SearchResult()
    usage: UsageResult
    method: str
    notes: tuple[str, ...] = ()

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class EvaluateResult(_Part):
    """What `lpo evaluate --json` prints: the score of one prompt on every item of a file."""

    schema_version: int = Field(default=SCHEMA, alias="schema")
    run_id: str
    status: EndStatus
    stop_reason: str
    score: Score
    unscored: tuple[tuple[str, str], ...] = ()
    usage: UsageResult
    calls_per_s: float

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class CompareResult(_Part):
    """What `lpo compare --json` prints: B minus A on the same items."""

    schema_version: int = Field(default=SCHEMA, alias="schema")
    run_id: str
    status: EndStatus
    stop_reason: str
    a: Score
    b: Score
    delta: TestDelta | None
    usage: UsageResult

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class MarkSpan(_Part):
    """A part of a prompt that the next edit would change, and why.

    ``start`` and ``end``: code points of the prompt (equal: a place for new text). ``influence``: the mean score with
    it minus the mean without it, where that was measured.
    """

    start: int
    end: int
    text: str
    reason: str
    influence: float | None = None


class MarkResult(_Part):
    """What `lpo mark --json` prints: the prompt with ``<edit>`` tags around what a first step would edit."""

    schema_version: int = Field(default=SCHEMA, alias="schema")
    run_id: str
    status: EndStatus
    stop_reason: str
    prompt: str
    marked: str
    spans: tuple[MarkSpan, ...]
    usage: UsageResult

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def delta(differences: Sequence[float]) -> TestDelta | None:
    """Return the paired comparison of two prompts, or None without a common item."""
    if not differences:
        return None
    return TestDelta(
        mean=sum(differences) / len(differences),
        ci95=paired_interval(differences),
        p_value=paired_p_value(differences),
        n=len(differences),
    )


def verdict(tested: TestDelta | None, *, has_test: bool) -> Verdict:
    """Judge a run by its one look at the test split: improved at the 5 % level, two-sided, or not.

    Without a comparison the verdict depends on whether there was a test split to compare on: a
    search that found nothing to compare has not improved anything.
    """
    if not has_test:
        return "not_tested"
    if tested is not None and tested.p_value < ALPHA and tested.mean > 0:
        return "improved"
    return "no_significant_improvement"
