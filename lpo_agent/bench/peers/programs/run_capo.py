"""Runs CAPO (package ``promptolution``) from the seed prompt, with its defaults."""

from __future__ import annotations

import random
import re
from typing import Any

import numpy as np
import pandas as pd
from promptolution.llms.api_llm import APILLM
from promptolution.optimizers.capo import CAPO
from promptolution.predictors.base_predictor import BasePredictor
from promptolution.tasks.reward_tasks import RewardTask
from promptolution.utils.callbacks import BaseCallback
from promptolution.utils.prompt_creation import create_prompts_from_task_description

from .client import Job, Row, read_job

STEPS = 100_000
"""More than any cap allows."""
BLOCK = 30
"""The package's default size of a block."""
SHOTS = 5
"""Its default number of examples in a prompt, at most; it fails if fewer rows are set aside for them."""
SET_ASIDE = 0.1
"""Its default share of the rows that are set aside for examples."""


class Predictor(BasePredictor):  # type: ignore[misc] # mypy does not read the package
    """Answers rows with the whole prompt as a template; the reply is the prediction."""

    def __init__(self, llm: Any, job: Job, rows: dict[str, Row]) -> None:
        super().__init__(llm)
        self.job, self.rows = job, rows

    def predict(self, prompts: Any, xs: list[str], system_prompts: Any = None) -> tuple[list[str], list[str]]:
        """Return the replies, and inputs with replies."""
        texts = [prompts] * len(xs) if isinstance(prompts, str) else list(prompts)
        rows = [self.rows[x] for x in xs]
        found = self.job.answers([template(t, r) for t, r in zip(texts, rows, strict=True)], rows)
        outputs = [each["output"] for each in found]
        return outputs, [f"{x}\n{output}" for x, output in zip(xs, outputs, strict=True)]

    def _extract_preds(self, preds: list[str]) -> list[str]:
        return preds


def template(prompt: str, row: Row) -> str:
    """Return the prompt with the place of the item after it; text in braces stays what it is."""
    text = "".join(f"{{{part}}}" if odd else part for part, odd in _braces(prompt))
    if len(row.variables) == 1:
        return f"{text}\n{{{next(iter(row.variables))}}}"
    return text + "".join(f"\n{name}: {{{name}}}" for name in row.variables)


def _braces(prompt: str) -> list[tuple[str, bool]]:
    """Return the parts of a text, with those that look like a placeholder told apart."""
    parts = re.split(r"(?<!\{)(\{[A-Za-z_]\w*\})(?!\})", prompt)
    return [(part, number % 2 == 1) for number, part in enumerate(parts)]


class Reporter(BaseCallback):  # type: ignore[misc] # as above
    """Reports the best prompt after each step."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def on_step_end(self, optimizer: Any) -> bool:
        """Look at the prompts, which are sorted by score."""
        best = template(optimizer.prompts[0].construct_prompt(), self.job.train[0])
        self.job.report(best, float(optimizer.scores[0]))
        return True


def main() -> None:
    """Search until the calls are used up."""
    job = read_job()
    random.seed(job.seed)
    np.random.seed(job.seed)  # noqa: NPY002 - the package uses numpy's global generator
    rows = {row.shown: row for row in (*job.train, *job.dev)}
    meta = APILLM(api_url=f"{job.url}/v1", model_id="optimizer", api_key=job.token, max_tokens=1024)
    predictor = Predictor(meta, job, rows)
    aside = max(SHOTS, int(SET_ASIDE * len(rows)))
    table = pd.DataFrame([{"x": text, "y": row.target, "row_id": row.id} for text, row in rows.items()])
    task = RewardTask(
        table,
        reward_function=lambda pred, row_id: job.judge(row_id, pred)[0],
        x_column="x",
        y_column="y",
        reward_columns=["row_id"],
        task_description=job.bare_prompt,
        n_subsamples=min(BLOCK, max(1, len(rows) - aside)),
        eval_strategy="sequential_block",
        seed=job.seed,
    )
    job.report(template(job.bare_prompt, job.train[0]), None, seed=True)
    made = create_prompts_from_task_description(task_description=job.bare_prompt, llm=meta)
    prompts = [job.bare_prompt, *made[:-1]]
    optimizer = CAPO(
        predictor=predictor,
        task=task,
        meta_llm=meta,
        initial_prompts=prompts,
        df_few_shots=task.pop_datapoints(n=aside),
        callbacks=[Reporter(job)],
    )
    optimizer.optimize(n_steps=STEPS)


if __name__ == "__main__":
    main()
