"""The options of the beam methods APE, APO and PE2, and of tagging where the LPO paper leaves a choice open.

The defaults are the numbers of the original papers and of their code:

* APE: Zhou et al. 2022 (arXiv 2211.01910), its ``simple_ape`` (5 sets of 5 examples, 10 instructions
  each); iterative paraphrase with the beam of PE2's re-implementation (temperature 0.7).
* APO: ProTeGi, Pryzant et al. 2023 (arXiv 2305.03495), the released code's defaults.
* PE2: Ye et al. 2024 (arXiv 2311.05661), the released scripts.
* Tags: Local Prompt Optimization, Jain and Chowdhary 2025 (arXiv 2504.20355), section 2.2; what the
  paper leaves open is decided here and described at the field.
"""

from __future__ import annotations

import math
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

LocalityMode = Literal["off", "think", "nudge", "enforce"]
Selection = Literal["all", "bf", "ucb", "ucb-e", "sr", "s-sr", "sh"]

AUTO_WORDS: Final = 50
"""With ``max_words`` -1, a new prompt may always have this many words,"""
ROOM: Final = 1.5
"""or this many times the words of the seed prompt, whichever is more."""


def _number(default: Any, text: str, **limits: Any) -> Any:
    return Field(default=default, description=text, **limits)


class BeamOptions(BaseModel):
    """All options of one beam method; see each field's description. Defaults of fields are those of PE2."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # the search
    beam: int = _number(4, "prompts kept after each step", ge=1, le=256)
    pool: Literal["all", "beam", "new"] = _number(
        "all", "what the beam is chosen from: all prompts so far (backtracking), old beam and new ones, or new ones"
    )
    stop_at_perfect: bool = _number(default=True, text="end once a prompt has all dev items right")
    selection: Selection = _number(
        "all", "how the beam is chosen: on all items, on equal random parts (bf), or by a bandit (ProTeGi, section 2.3)"
    )
    select_on: Literal["dev", "train"] = _number("dev", "the split that selection scores on (ProTeGi's code: train)")
    eval_budget: int = _number(
        2048, "scorings a selection may use: bf, s-sr, sh; sr counts them for the prompts outside the beam", ge=1
    )
    eval_rounds: int = _number(8, "rounds of ucb and ucb-e", ge=1)
    eval_prompts: int = _number(8, "prompts pulled in each round of ucb, ucb-e and s-sr", ge=1)
    eval_items: int = _number(32, "items of each round of ucb and ucb-e", ge=1)
    ucb_c: float = _number(1.0, "exploration weight of ucb and ucb-e", ge=0)

    # evidence
    minibatch: int = _number(
        0, "training items to find errors in, the same for all parents of a step; 0: as many as are needed", ge=0
    )
    look: int = _number(10, "training items scored at a time until there are enough errors (minibatch 0)", ge=1)
    enough: int = _number(0, "number of errors that is enough (minibatch 0); 0: errors x max(proposals, 2) / 2", ge=0)
    errors: int = _number(2, "wrong examples shown for each proposal", ge=0, le=100)
    ape_errors: bool = _number(default=False, text="ape: show wrong examples to the paraphraser and the tagger")

    # proposals
    reasons: int = _number(1, "apo: reasons in one critique", ge=1, le=50)
    split_reasons: bool = _number(
        default=True, text="apo: each reason is a gradient; otherwise all reasons of a critique are one gradient"
    )
    edits: int = _number(1, "apo: new prompts for each gradient", ge=1, le=50)
    paraphrases: int = _number(0, "apo: paraphrases of each new prompt and of the parent", ge=0, le=50)
    expansion: int = _number(0, "apo: highest number of successors of a parent, drawn at random; 0: all", ge=0)
    max_words: int = _number(
        -1,
        "word limit of a new prompt that the model is asked to keep; 0: no limit; -1: 50, or 1.5 times the seed",
        ge=-1,
    )
    step_size: int = _number(
        0, "number of words that the model is asked to change at most (PE2's step size); 0: no limit", ge=0
    )
    history: bool = _number(default=False, text="pe2: show the parent's ancestors with their scores (its momentum)")
    induce: int = _number(0, "ape: sets of examples from which instructions are induced before step 1", ge=0, le=1000)
    induce_each: int = _number(10, "ape: instructions induced from each set", ge=1, le=1000)
    induce_items: int = _number(5, "ape: examples in a set", ge=1, le=100)

    # temperatures and lengths
    critique_temperature: float = _number(0.5, "of critiques and of reasoning", ge=0, le=2)
    rewrite_temperature: float = _number(0.7, "of new prompts", ge=0, le=2)
    vary_temperature: float = _number(0.7, "of paraphrases", ge=0, le=2)
    induce_temperature: float = _number(0.9, "of induced instructions", ge=0, le=2)
    critique_tokens: int = _number(1500, "longest critique, in tokens", ge=1)
    rewrite_tokens: int = _number(300, "longest new prompt, in tokens; more if the seed prompt is longer", ge=1)

    # tags: what the paper leaves open
    tags: int = _number(4, "highest number of tags in a prompt; 0: no limit (the paper has none)", ge=0, le=1000)
    tag_words: int = _number(5, "highest number of words in a tag (the paper's rule)", ge=1, le=1000)
    tag_growth: int = _number(
        0, "highest number of words in the replacement of a tag; 0: no limit (the paper has none)", ge=0
    )
    tag_schedule: Literal["constant", "linear", "cosine"] = _number(
        "constant", "how tags and tag_growth shrink over the steps (GPO, Tang et al. 2024: cosine)"
    )
    tag_floor: float = _number(0.2, "share of tags and tag_growth left in the last step (GPO: about 0.2)", gt=0, le=1)
    tag_per: Literal["proposal", "parent"] = _number(
        "proposal", "tag for each proposal, or once for each parent of a step"
    )
    tag_when: Literal["after", "before"] = _number("after", "tag after or before the critique (apo, pe2)")
    tag_conversation: Literal["shared", "separate"] = _number(
        "shared", "propose in the conversation that tagged, or in a new one that quotes the tags"
    )
    tag_temperature: float = _number(-1.0, "of tagging and of thinking; -1: that of new prompts", ge=-1, le=2)
    tag_check: Literal["auto", "strict", "text", "off"] = _number(
        "auto",
        "a tagged reply must be the prompt without its tags and keep to the rules (strict), only the former (text), "
        "or hold one pair of tags (off, nudge only); auto: off with nudge, as in the paper, else strict",
    )
    tag_reasks: int = _number(1, "how often a malformed reply is requested again", ge=0, le=10)
    tag_fallback: Literal["global", "drop"] = _number(
        "global", "after that: propose without tags (counted separately), or not at all"
    )

    def shrunk(self, step: int, steps: int) -> BeamOptions:
        """The options for ``step`` of ``steps`` (from 1). ``tag_schedule`` lowers ``tags`` and ``tag_growth``."""
        share = budget_share(self.tag_schedule, step, steps, self.tag_floor)
        if share >= 1:
            return self
        scaled = {
            name: max(1, round(share * value)) for name in ("tags", "tag_growth") if (value := getattr(self, name)) > 0
        }
        return self.model_copy(update=scaled)

    def with_check(self, locality: LocalityMode) -> BeamOptions:
        """The options with ``tag_check`` decided: what "auto" means depends on the kind of locality."""
        if self.tag_check != "auto":
            return self
        return self.model_copy(update={"tag_check": "off" if locality == "nudge" else "strict"})

    def word_cap(self, seed_words: int) -> int:
        """Return the number of words that a new prompt should stay under, 0 for no cap."""
        return max(AUTO_WORDS, math.ceil(ROOM * seed_words)) if self.max_words < 0 else self.max_words


DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    "ape": {"induce": 5, "stop_at_perfect": False},
    "apo": {
        "pool": "beam",
        "stop_at_perfect": False,
        "selection": "bf",
        "minibatch": 64,
        "errors": 4,
        "paraphrases": 2,
        "expansion": 8,
        "max_words": 0,
        "critique_temperature": 0.7,
        "critique_tokens": 1024,
        "rewrite_tokens": 1024,
    },
    "pe2": {},
}
STEPS: Final = {"ape": 3, "apo": 6, "pe2": 3}
PROPOSALS: Final = 4


def beam_options_for(method: str, given: dict[str, Any]) -> BeamOptions:
    """Return the method's defaults, with the values in ``given`` in their place; raises pydantic's ValidationError."""
    return BeamOptions.model_validate(DEFAULTS[method] | given)


def budget_share(schedule: str, step: int, steps: int, floor: float) -> float:
    """Return the share of an edit budget left at ``step`` of ``steps`` (from 1): 1 at first, ``floor`` at last.

    Cosine decay is GPO's best schedule (Tang et al. 2024, arXiv 2402.17564).
    """
    if schedule == "constant" or steps <= 1:
        return 1.0
    done = (step - 1) / (steps - 1)
    left = 1 - done if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return floor + (1 - floor) * left
