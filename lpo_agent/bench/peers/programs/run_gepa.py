"""Runs GEPA (package ``gepa``) on the seed prompt, with its defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gepa
from gepa.core.adapter import EvaluationBatch

from .client import Job, Row, read_job

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COMPONENT = "prompt"


class Adapter:
    """Answers rows with a candidate prompt, and tells GEPA what was right and wrong, as its default adapter does."""

    propose_new_texts = None

    def __init__(self, job: Job) -> None:
        self.job = job

    def evaluate(
        self,
        batch: list[Row],
        candidate: dict[str, str],
        capture_traces: bool = False,  # noqa: FBT001, FBT002 - GEPA's
    ) -> Any:
        """Return the outputs and the scores of a batch."""
        found = self.job.answers([candidate[COMPONENT]] * len(batch), batch)
        traces = [(row, each) for row, each in zip(batch, found, strict=True)]
        return EvaluationBatch(
            outputs=[each["output"] for each in found],
            scores=[each["score"] for each in found],
            trajectories=traces if capture_traces else None,
        )

    def make_reflective_dataset(
        self, candidate: dict[str, str], eval_batch: Any, components_to_update: list[str]
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Return what the reflection model reads of a batch."""
        return {
            name: [
                {"Inputs": row.shown, "Generated Outputs": each["output"], "Feedback": feedback_on(row, each)}
                for row, each in eval_batch.trajectories
            ]
            for name in components_to_update
        }


def feedback_on(row: Row, answer: Mapping[str, Any]) -> str:
    """Return whether the answer is right, the target, and the metric's feedback."""
    judged = "The answer is correct." if answer["score"] >= 1 else "The answer is not correct."
    parts = [judged, f"The correct answer is: {row.target}", str(answer["feedback"])]
    return "\n".join(part for part in parts if part)


class Reporter:
    """Reports each candidate that is better on all dev rows than those before."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.best = float("-inf")

    def on_valset_evaluated(self, event: Mapping[str, Any]) -> None:
        """Look at the score of a candidate."""
        seed = self.best == float("-inf")
        if event["average_score"] > self.best:
            self.best = event["average_score"]
            self.job.report(event["candidate"][COMPONENT], self.best, seed=seed)


def main() -> None:
    """Search until the calls are used up."""
    job = read_job()
    job.report(job.prompt, None, seed=True)
    gepa.optimize(
        seed_candidate={COMPONENT: job.prompt},
        trainset=list(job.train),
        valset=list(job.dev),
        adapter=Adapter(job),
        reflection_lm="openai/optimizer",
        reflection_lm_kwargs={"api_base": f"{job.url}/v1", "api_key": job.token},
        max_metric_calls=job.most_scorings,
        callbacks=[Reporter(job)],
        raise_on_exception=False,
        seed=job.seed,
    )


if __name__ == "__main__":
    main()
