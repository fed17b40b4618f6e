"""Runs MIPROv2 or GEPA of DSPy on a ``dspy.Predict`` with the seed prompt as its instructions, with their defaults.

With test rows in the job, it answers these with a program that was found before, and does not search.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dspy
from dspy.utils.callback import BaseCallback

from .client import AT_ONCE, Job, Row, read_job

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROOM = 128
"""Additional tokens of an answer, for DSPy's own form."""
LIGHT = 100
"""The rows of dev that MIPROv2 chooses on by default, at most."""


def model(job: Job, role: str, **settings: Any) -> Any:
    """Return a model of the endpoint."""
    return dspy.LM(f"openai/{role}", api_base=f"{job.url}/v1", api_key=job.token, **settings)


def output_name(rows: Sequence[Row]) -> str:
    """Return the name of the field for the answer, which no row has as a variable."""
    name = "answer"
    while any(name in row.variables for row in rows):
        name += "_"
    return name


def program_of(job: Job, name: str) -> Any:
    """Return the program with the seed prompt."""
    row = (*job.train, *job.test)[0]
    fields: dict[str, Any] = {variable: (str, dspy.InputField()) for variable in row.variables}
    fields[name] = (str, dspy.OutputField())
    return dspy.Predict(dspy.make_signature(fields, job.bare_prompt))


def examples(rows: Sequence[Row], name: str) -> list[Any]:
    """Return rows as DSPy has them."""
    return [
        dspy.Example(**row.variables, **{name: row.target}, row_id=row.id).with_inputs(*row.variables) for row in rows
    ]


def shown(program: Any) -> str:
    """Return the program as the text that DSPy sends: the messages for an item, with the names of its inputs."""
    signature = program.signature
    inputs = {name: f"{{{name}}}" for name in signature.input_fields}
    messages = dspy.ChatAdapter().format(signature, program.demos, inputs)
    return "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in messages)


class Best:
    """Reports each program that is better on dev than those before."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.score = float("-inf")

    def see(self, program: Any, score: float) -> None:
        """Look at a program and its score."""
        seed = self.score == float("-inf")
        if score > self.score:
            self.score = score
            self.job.report(shown(program), score, state=program.dump_state(), seed=seed)


class Watch(BaseCallback):  # type: ignore[misc] # mypy does not read DSPy
    """Sees each evaluation of a program on all rows that MIPROv2 chooses on."""

    def __init__(self, best: Best, rows: int) -> None:
        self.best, self.rows = best, rows
        self.started: dict[str, Any] = {}

    def on_evaluate_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Note which program is evaluated on all rows."""
        rows = inputs.get("devset") or instance.devset
        if len(rows) >= self.rows:
            self.started[call_id] = inputs["program"].deepcopy()

    def on_evaluate_end(self, call_id: str, outputs: Any, exception: Exception | None = None) -> None:
        """See its score, which DSPy gives in percent."""
        program = self.started.pop(call_id, None)
        if program is not None and exception is None:
            self.best.see(program, outputs.score / 100)


class Reporter:
    """Sees each candidate that DSPy's GEPA has scored on dev."""

    def __init__(self, best: Best, program: Any) -> None:
        self.best, self.program = best, program

    def on_valset_evaluated(self, event: Mapping[str, Any]) -> None:
        """Look at the score of a candidate."""
        program = self.program.deepcopy()
        for name, predictor in program.named_predictors():
            predictor.signature = predictor.signature.with_instructions(event["candidate"][name])
        self.best.see(program, event["average_score"])


def mipro(job: Job, program: Any, name: str) -> Any:
    """Search with MIPROv2."""
    best = Best(job)
    dspy.configure(callbacks=[Watch(best, min(len(job.dev), LIGHT))])

    def metric(gold: Any, found: Any, trace: Any = None) -> float:
        return job.judge(gold.row_id, getattr(found, name) or "")[0]

    optimizer = dspy.MIPROv2(metric=metric, prompt_model=model(job, "optimizer"), task_model=dspy.settings.lm)
    trainset, valset = examples(job.train, name), examples(job.dev, name)
    found = optimizer.compile(program, trainset=trainset, valset=valset, seed=optimizer.seed + job.seed)
    job.report(shown(found), best.score, state=found.dump_state())


def gepa(job: Job, program: Any, name: str) -> Any:
    """Search with DSPy's GEPA."""

    def metric(gold: Any, found: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> Any:
        score, feedback = job.judge(gold.row_id, getattr(found, name) or "")
        return dspy.Prediction(score=score, feedback=f"The correct answer is: {gold[name]}\n{feedback}".strip())

    optimizer = dspy.GEPA(
        metric=metric,
        max_metric_calls=job.most_scorings,
        reflection_lm=model(job, "optimizer"),
        seed=job.seed,
        gepa_kwargs={"callbacks": [Reporter(Best(job), program)]},
    )
    optimizer.compile(program, trainset=examples(job.train, name), valset=examples(job.dev, name))


SEARCHES: dict[str, Callable[[Job, Any, str], Any]] = {"dspy-mipro": mipro, "dspy-gepa": gepa}


def answer_test(job: Job, program: Any, name: str) -> None:
    """Answer the test rows with the program of the job; an item that it fails on gets no answer."""
    program.load_state(job.state)
    run = dspy.Parallel(num_threads=AT_ONCE, max_errors=len(job.test) + 1, disable_progress_bar=True)
    found = run([(program, row.variables) for row in job.test])
    outputs = [getattr(each, name, None) or "" for each in found]
    job.post("/outputs", {"outputs": {row.id: output for row, output in zip(job.test, outputs, strict=True)}})


def main() -> None:
    """Search, or answer the test rows."""
    job = read_job()
    dspy.configure(lm=model(job, "task", temperature=job.temperature, max_tokens=job.max_tokens + ROOM))
    name = output_name((*job.train, *job.test))
    program = program_of(job, name)
    if job.test:
        answer_test(job, program, name)
    else:
        job.report(shown(program), None, state=program.dump_state(), seed=True)
        SEARCHES[job.peer](job, program, name)


if __name__ == "__main__":
    main()
