"""The results of runs as JSON objects (schema 1), and the verdict on an optimization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

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
"""How a run ended, or that it is in progress."""
Verdict = Literal["improved", "no_significant_improvement", "not_tested"]
GUIDED: Final = "guided"
"""The kind of runs that an assistant guides step by step; their log holds submissions in place of events."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SeedResult(_Part):
    """The seed prompt without tags, and its scores."""

    prompt: str
    dev: Score | None
    test: Score | None


class EditResult(_Part):
    """One difference between a prompt and the seed prompt, and its measured worth.

    ``start`` and ``end``: offsets in code points of the seed prompt; ``old`` and ``new``: its text there, and
    the text that replaces it. ``worth``: mean score with the edit minus mean score without it, on the same
    ``n`` training items; ``ci95``: its 95 % interval. Both are None if the edit was not measured.
    """

    start: int
    end: int
    old: str
    new: str
    worth: float | None = None
    ci95: tuple[float, float] | None = None
    n: int = 0


class BestResult(_Part):
    """The prompt to use: the seed itself (step 0), unless another prompt was shown to be better.

    ``marked_parent``: the prompt that it was made from, with ``<edit>`` tags around the edited spans.
    ``edits``: all of its differences to the seed prompt.
    """

    prompt: str
    dev: Score | None
    test: Score | None
    marked_parent: str | None
    step: int
    edits: tuple[EditResult, ...] = ()


class TestDelta(_Part):
    """A paired comparison on the same ``n`` items: mean difference, 95 % interval, two-sided p-value."""

    __test__ = False

    mean: float
    ci95: tuple[float, float]
    p_value: float = Field(ge=0.0, le=1.0)
    n: int


class FrontPoint(_Part):
    """A prompt of the Pareto front of dev score (higher is better), ``words`` and ``tokens`` (lower is better).

    ``tokens``: the mean tokens of one call, prompt and answer, estimated as a quarter of their characters.
    """

    prompt: str
    dev: Score
    words: int
    tokens: float


class PowerResult(_Part):
    """The power of the test split: a true gain of ``shows`` is detected with power 80 % on ``test_n`` items.

    To detect the gain ``looked_for``, ``needed`` items are enough. ``discordant``: the assumed share of items
    on which two prompts differ.
    """

    looked_for: float
    test_n: int
    shows: float
    needed: int
    discordant: float


class FaultCounts(_Part):
    """What is wrong with answers. Of ``rows``, ``right`` have the full score.

    ``form``: the number of answers with a fault of form (the right answer was not read, no label or several, empty,
    cut off, too long). ``content``: the number of readable but wrong ones. ``kinds``: these by their kind, see
    :data:`lpo_agent.search.faults.Fault`. ``lost_by_form`` and ``lost_by_content``: what they cost of the mean score.
    """

    rows: int
    right: int
    form: int
    content: int
    kinds: dict[str, int] = {}
    lost_by_form: float = 0.0
    lost_by_content: float = 0.0


class PlanResult(_Part):
    """How the calls of a run were divided before its start; ``probe``: calls to choose the method."""

    probe: int = 0
    search: int
    choose: int
    test: int


class SpanResult(_Part):
    """A place of the seed prompt that was edited ``tried`` times; ``paid`` of these edits raised the score.

    ``start`` and ``end``: offsets in code points of the seed prompt; equal for an insertion point. ``gain``:
    the mean change of the score over these edits.
    """

    start: int
    end: int
    tried: int
    paid: int
    gain: float


class LocalityResult(_Part):
    """How local the edits were; ``kind`` says how binding the tags were.

    ``checked``: the number of edits whose untagged text was compared with their parent's; ``violations``: how
    many of them changed it. Checked are the accepted edits of lpo and local-search, and all tagged edits of
    ape, apo and pe2; with kind "nudge", violations are measured but allowed. ``tagged_fraction``: mean share
    of words inside tags. ``length_ratio``: words of the best prompt divided by words of the seed prompt.

    Of ``proposals``, ``global_fallbacks`` were made without tags because the model gave no valid tags, and
    ``lost`` gave nothing usable. Of ``tag_replies`` (tagged prompts and filled slots) ``malformed`` could not
    be used. ``leakage``: mean share of untagged words that a tagged proposal changed, and ``leakage_max`` the
    highest; see :class:`lpo_agent.core.diff.Measures`.
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
    """Statistics of the search. ``candidates``: the number of different prompts scored, without the seed.

    ``best_step``: the step that made the best prompt on dev, None if that is the seed prompt
    (``seed_was_best``). ``scorings``: the pairs of prompt and row that were scored; ``optimizer_calls``: calls
    of the optimizer model; ``calls``: model calls for both. Calls include cached ones and are counted as if
    they were made one after another. ``curve``: points of (calls, best mean score up to then) on the items
    that the method selects by (``curve_on``); ``calls_to``: the calls after which 50, 90 and 100 % of the
    final gain were reached. ``spans``: the places that were edited, for methods that learn from them. The
    remaining fields are means over all proposals (see :class:`lpo_agent.core.diff.Measures`).
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
    """The cost of the run. ``usd`` is None if the price of a model is not known.

    ``unsure_tokens`` and ``unsure_usd``: the highest additional cost of calls that broke off, for which the
    service may have charged; budgets count it.
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
    """The result that `lpo optimize --json` prints and `optimize()` returns.

    ``challenger``: the best other prompt, if it was not shown to be better than the seed. ``test_delta``: the
    found prompt minus the seed on the test items. ``confirmation``: the same on dev items that were not used
    to choose it. ``plan``: None for methods that are not fitted to the budget. ``faults``: what was wrong with the
    first answers of the seed prompt on train and dev. ``front``:
    the Pareto front of the finalists by score, length and cost. ``power``: which gain the test split can detect.
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
    plan: PlanResult | None = None
    faults: FaultCounts | None = None
    front: tuple[FrontPoint, ...] = ()
    power: PowerResult | None = None
    locality: LocalityResult
    search: SearchResult = SearchResult()
    usage: UsageResult
    method: str
    notes: tuple[str, ...] = ()

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class EvaluateResult(_Part):
    """The result that `lpo evaluate --json` prints: the score of one prompt on every item of a file.

    ``unscored``: pairs of item id and reason.
    """

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
    """The result that `lpo compare --json` prints: prompt B minus prompt A on the same items."""

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


class AgreementResult(_Part):
    """Of ``n`` items that were asked a second time, ``same`` got the same score."""

    n: int
    same: int


class QuickVariant(_Part):
    """A quick change of the prompt, and what it did: ``delta`` is its score minus that of the prompt."""

    name: str
    prompt: str
    score: Score
    delta: TestDelta | None


class GainEstimate(_Part):
    """How much a good prompt may gain in mean score: a ``likely`` value, and an interval from ``low`` to ``high``.

    ``low``: what a quick change is sure to bring, at the 95 % level. ``high``: the gain if no item were wrong, at the
    end of the 95 % interval.
    """

    likely: float
    low: float
    high: float


class HeadroomResult(_Part):
    """What `lpo headroom --json` prints: what goes wrong with a prompt, and whether optimizing it is worth it.

    ``agreement``: None if no item was asked again. ``worth``: "yes", "perhaps" or "no"; ``reasons`` say why.
    """

    schema_version: int = Field(default=SCHEMA, alias="schema")
    run_id: str
    status: EndStatus
    stop_reason: str
    score: Score
    faults: FaultCounts
    agreement: AgreementResult | None
    variants: tuple[QuickVariant, ...]
    gain: GainEstimate | None
    worth: Literal["yes", "perhaps", "no"]
    reasons: tuple[str, ...]
    power: PowerResult | None
    usage: UsageResult
    notes: tuple[str, ...] = ()

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def delta(differences: Sequence[float]) -> TestDelta | None:
    """Return the paired comparison of two prompts from their differences by item, None without any."""
    if not differences:
        return None
    return TestDelta(
        mean=sum(differences) / len(differences),
        ci95=paired_interval(differences),
        p_value=paired_p_value(differences),
        n=len(differences),
    )


def verdict(tested: TestDelta | None, *, has_test: bool) -> Verdict:
    """Return the verdict on a run from its only test on the test split: two-sided, at the 5 % level.

    ``tested`` is None if there was nothing to compare. With a test split that means that the search found no
    other prompt, which is no improvement; without one, nothing was tested.
    """
    if not has_test:
        return "not_tested"
    if tested is not None and tested.p_value < ALPHA and tested.mean > 0:
        return "improved"
    return "no_significant_improvement"
