"""Prints results as text: what changed, the scores, the verdict, and which commands to use next.

Lines have at most 100 columns; prompts are wrapped, never shortened.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lpo_agent.bench import to_markdown
from lpo_agent.cli import words
from lpo_agent.cli.diff import diff_text, marked_text
from lpo_agent.report import duration, explain_verdict
from lpo_agent.results import BenchResult, CompareResult, EvaluateResult, HeadroomResult, MarkResult, RunResult

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Never, TextIO

    from lpo_agent import PlanEstimate
    from lpo_agent.results import EditResult, MarkSpan, Result, Score, TestDelta, UsageResult

WIDEST: Final = 100
INDENT: Final = (0, 0, 0, 2)
REASONS: Final = 5


class _PipeConsole(Console):
    """A console that raises BrokenPipeError if nobody reads its output; rich itself would exit with code 1."""

    def on_broken_pipe(self) -> Never:
        """Raise the current BrokenPipeError again."""
        raise BrokenPipeError


def console(stream: TextIO) -> Console:
    """Return a console on ``stream`` with the terminal's width (80 if it has none), at most 100 columns."""
    found = _PipeConsole(file=stream, highlight=False, markup=False, emoji=False)
    found.width = min(found.width, WIDEST)
    return found


def coloured(out: Console) -> bool:
    """Return whether the console shows colours."""
    return out.is_terminal and out.color_system is not None and not out.no_color


def show_result(out: Console, result: Result) -> None:
    """Print the result of a finished run."""
    match result:
        case RunResult():
            _show_optimized(out, result)
        case EvaluateResult():
            _show_evaluated(out, result)
        case CompareResult():
            _show_compared(out, result)
        case MarkResult():
            _show_marked(out, result)
        case HeadroomResult():
            _show_headroom(out, result)
        case BenchResult():
            out.print(Text(to_markdown(result)), soft_wrap=True, end="")


def _show_optimized(out: Console, result: RunResult) -> None:
    found = result.challenger or result.best
    colour = coloured(out)
    if found.marked_parent is not None:
        _block(
            out,
            LAST_EDIT["nudge" if result.locality.kind == "nudge" else "enforce"],
            marked_text(found.marked_parent, colour=colour),
        )
    if found.prompt != result.seed.prompt:
        what = "best prompt" if result.challenger is None else "challenger, which was not shown to be better"
        _block(out, f"From the seed prompt to the {what}", diff_text(result.seed.prompt, found.prompt, colour=colour))
    _worths(out, found.edits)
    _block(out, "Best prompt", Text(words.visible(result.best.prompt)))
    _heading(out, "Scores")
    out.print(Padding(_scores(result), INDENT, expand=False))
    if result.faults is not None:
        _line(out, f"seed prompt: {words.faults(result.faults)}")
    if result.confirmation is not None:
        fresh = words.count(result.confirmation.n, "dev item")
        _line(out, f"{FOUND} minus seed on {fresh} not used to choose it: {words.difference(result.confirmation)}")
    if result.test_delta is not None:
        _line(out, f"{FOUND} minus seed, item by item on test: {words.difference(result.test_delta)}")
    _block(out, "Verdict", Text("\n".join(verdict_lines(result))))
    _heading(out, "Run")
    for line in locality_lines(result):
        _line(out, line)
    _spending(out, result.usage)
    for note in result.notes:
        _line(out, f"note: {words.one_line(note)}")
    _next(out, result)


FOUND: Final = "found prompt"


def _worths(out: Console, edits: Sequence[EditResult]) -> None:
    """Print by how much each edit changes the score, where that was measured, the best edit first."""
    known = [(edit.worth, edit) for edit in edits if edit.worth is not None]
    if not known:
        return
    _heading(out, f"What each edit is worth (score with it minus without it, on {known[0][1].n} training items)")
    for worth, edit in sorted(known, key=lambda pair: (-pair[0], pair[1].start)):
        old, new = (words.one_line(text) for text in (edit.old, edit.new))
        what = f"added {new!r}" if not old else f"left out {old!r}" if not new else f"{old!r} became {new!r}"
        low, high = edit.ci95 or (worth, worth)
        _line(out, f"{worth:+.2f} (95 % interval {low:+.2f}..{high:+.2f}): {what}")


LAST_EDIT: Final = {
    "enforce": "Last edit: only the text inside <edit> could change",
    "nudge": "Last edit: the model was asked to change the text inside <edit> (advice, not enforced)",
}


def locality_lines(result: RunResult) -> list[str]:
    """Return how local the edits were."""
    found = result.locality
    method = f"method {result.method}, locality {found.kind}"
    if found.kind in {"off", "think"}:
        return [f"{method}: {words.count(found.proposals, 'proposal')}, no marks"]
    checked, violations = words.count(found.checked, "edit"), words.count(found.violations, "change")
    lines = [f"{method}; {checked} checked: {violations} outside the marks"]
    if found.kind == "nudge" and found.leakage is not None:
        lines.append(f"untagged words changed: {found.leakage:.0%} on average, {found.leakage_max or 0:.0%} at most")
    if found.malformed:
        lines.append(
            f"{found.malformed} of {words.count(found.tag_replies, 'reply').replace('replys', 'replies')} with tags or "
            f"slots were malformed; {words.count(found.global_fallbacks, 'proposal')} made without tags for that"
        )
    if found.lost:
        lines.append(f"{words.count(found.lost, 'proposal')} gave nothing usable")
    return lines


def _scores(result: RunResult) -> Table:
    table = _table("prompt", "split", "mean", "items", "95 % interval", "unscored")
    rows: list[tuple[str, str, Score | None]] = []
    for split in ("dev", "test"):
        rows += [("seed", split, getattr(result.seed, split)), ("best", split, getattr(result.best, split))]
        if result.challenger is not None:
            rows.append(("challenger", split, getattr(result.challenger, split)))
    for who, split, score in rows:
        if score is not None:
            mean, interval = words.mean(score.mean), words.interval(score.ci95)
            table.add_row(who, split, mean, str(score.n), interval, str(score.unscored))
    return table


def verdict_lines(result: RunResult) -> list[str]:
    """Return the verdict with its evidence and an explanation."""
    verdict, delta = explain_verdict(result), result.test_delta
    return [verdict.title if delta is None else f"{verdict.title}: {_evidence(delta)}", *verdict.meaning]


def _evidence(delta: TestDelta) -> str:
    low, high = delta.ci95
    over = words.count(delta.n, "untouched test item")
    return f"{words.p_value(delta.p_value)}, 95 % interval {low:+.2f}..{high:+.2f} on {over}"


def _show_evaluated(out: Console, result: EvaluateResult) -> None:
    _heading(out, "Score")
    _line(out, words.score(result.score))
    for reason, count in Counter(reason for _, reason in result.unscored).most_common(REASONS):
        _line(out, f"unscored, {words.count(count, 'item')}: {words.one_line(reason)}")
    _heading(out, "Run")
    _spending(out, result.usage)
    _line(out, f"{result.calls_per_s:.1f} calls/s")
    _next(out, result)


def _show_compared(out: Console, result: CompareResult) -> None:
    _heading(out, "Scores")
    for name, score in (("A", result.a), ("B", result.b)):
        _line(out, f"{name}: {words.score(score)}")
    if result.delta is not None:
        _line(out, f"B minus A on the same {words.count(result.delta.n, 'item')}: {words.difference(result.delta)}")
        _block(out, "Verdict", Text(_compared(result.delta)))
    _heading(out, "Run")
    _spending(out, result.usage)
    _next(out, result)


def _compared(delta: TestDelta) -> str:
    if delta.p_value >= 0.05:
        return "no significant difference: it may be chance; this does not show that both are equally good"
    better, worse = ("B", "A") if delta.mean > 0 else ("A", "B")
    return f"{better} is better than {worse} on these items; a difference as large is rarely chance"


def _show_marked(out: Console, result: MarkResult) -> None:
    """Print the marked prompt and the reason for each of its spans."""
    _block(out, "Marked prompt", marked_text(result.marked, colour=coloured(out)))
    _heading(out, "Why")
    for number, span in enumerate(result.spans, start=1):
        _line(out, f"{number}. {_quoted(result.prompt, span)}: {words.one_line(span.reason)}")
    _heading(out, "Run")
    _spending(out, result.usage)
    _next(out, result)


def _show_headroom(out: Console, result: HeadroomResult) -> None:
    """Print what goes wrong, what quick changes do, and whether a search is worth it."""
    faults, again = result.faults, result.agreement
    _heading(out, "The prompt")
    _line(out, words.score(result.score))
    _line(out, words.faults(faults))
    if faults.form:
        kinds = [f"{count} {FAULTS.get(kind, kind)}" for kind, count in faults.kinds.items() if kind != "wrong"]
        _line(out, f"wrong form: {'; '.join(kinds)}")
    if again is not None:
        _line(out, f"asked again, {again.same} of {words.count(again.n, 'item')} got the same score")
    if any(each.delta is not None for each in result.variants):
        _heading(out, "What quick changes bring")
    for each in result.variants:
        if each.delta is not None:
            _line(out, f"{each.name}: {words.difference(each.delta)}, on {words.count(each.delta.n, 'item')}")
    if result.gain is not None:
        gain = result.gain
        _heading(out, "What a good prompt may gain")
        _line(out, f"about {gain.likely:.2f} is likely, {gain.low:.2f}..{gain.high:.2f} is possible")
    _block(out, f"Is a search worth it? {result.worth.capitalize()}", Text("\n".join(result.reasons)))
    _heading(out, "Run")
    _spending(out, result.usage)
    for note in result.notes:
        _line(out, f"note: {words.one_line(note)}")
    _next(out, result)


FAULTS: Final = {
    "unread": "hold the right answer, which was not read",
    "several": "name several labels",
    "no answer": "name no possible answer",
    "cut off": "seem to be cut off",
    "too long": "are too long",
    "empty": "are empty",
}
"""The faults of form in words."""


def _quoted(text: str, span: MarkSpan) -> str:
    if span.start == span.end:
        before = words.one_line(text[max(0, span.start - 20) : span.start])
        return f"place after {before!r}" if before else "place at the beginning"
    return repr(words.visible(span.text))


def _size(plan: PlanEstimate) -> str:
    if plan.search_calls is not None:
        return f"{words.count(plan.search_calls, 'call')} for the search"
    return f"{words.shape(plan.branches, plan.steps)}, {words.count(plan.proposals, 'proposal')} each"


def show_estimate(out: Console, plan: PlanEstimate) -> None:
    """Print the plan of a `--dry-run`."""
    _heading(out, "Plan (no model was called)")
    if plan.kind == "optimize":
        _line(out, f"method {plan.method}: {_size(plan)}")
        _line(out, f"{plan.train} train, {plan.dev} dev and {plan.test} test items")
        _line(out, f"{plan.calls_low:,} to {plan.calls_high:,} calls")
    else:
        _line(out, f"{words.count(plan.dev, 'item')}, {words.count(plan.calls_high, 'call')}")
    _line(out, f"at most about {plan.input_tokens:,} tokens in, {plan.output_tokens:,} out: {words.money(plan.usd)}")
    if plan.seconds is not None:
        _line(out, f"at least {duration(plan.seconds)} at the limits that were given, if all calls are made")
    for note in plan.notes:
        _line(out, f"note: {words.one_line(note)}")


def show_prompt(out: Console, text: str) -> None:
    """Print a prompt, indented."""
    _indented(out, Text(words.visible(text)))


def _spending(out: Console, usage: UsageResult) -> None:
    _line(out, f"{words.calls(usage)}; {words.tokens(usage)}")
    _line(out, f"cost: {words.money(usage.usd)}; time: {duration(usage.wall_s)}")


def _next(out: Console, result: RunResult | EvaluateResult | CompareResult | MarkResult | HeadroomResult) -> None:
    _line(out, f"{result.status}: {words.one_line(result.stop_reason)}")
    _line(out, f"run {result.run_id}; see it again with: lpo show {result.run_id}")
    if isinstance(result, RunResult):
        _line(out, f"save the best prompt with: lpo show {result.run_id} --out best.txt")
        _line(out, f"write an HTML report with: lpo report {result.run_id}")
    if result.status != "completed":
        _line(out, f"continue with: lpo resume {result.run_id}")


def _heading(out: Console, title: str) -> None:
    out.print(Text(f"\n{title}", "bold"))


def _block(out: Console, title: str, body: Text) -> None:
    _heading(out, title)
    _indented(out, body)


def _line(out: Console, text: str) -> None:
    _indented(out, Text(text))


def _indented(out: Console, body: Text) -> None:
    """Print a text wrapped and indented, without blanks at the end of a line."""
    for line in body.wrap(out, out.width - INDENT[-1], overflow="fold"):
        line.rstrip()
        out.print(Text(" " * INDENT[-1]).append_text(line), soft_wrap=True)


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def rows_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a plain table."""
    table = _table(*columns)
    for row in rows:
        table.add_row(*(Text(words.one_line(cell)) for cell in row))
    return table
