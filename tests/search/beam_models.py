"""Scripted models with which the searches of the beam methods can be computed by hand (see ``beam_stage``).

Every prompt holds its name in parentheses: the seed prompt is "(seed)", and a new one is called by the
proposal that it came from. "2.1.0" is proposal 0 of parent 1 in step 2; "2.1.0.3" the new prompt for
its gradient 3 ("2.1.0.3/1" the second one), and "2.1.0.3.v1" a paraphrase of that; "2.1.v0" a paraphrase
of the parent. The functions know the names because the seed of a proposal, which they see as the
replicate of a call, is drawn from run seed, step, parent and number alone.

The stage is the folder in the environment variable HOST_STAGE. Its file ``levels.json`` has the number of
items of each split that a prompt gets right: by the prompt's name, or "step 2" for all of step 2, or "else"
for all others; "words" has the number of items by which a word in the prompt reduces it. All calls are
logged in ``log.jsonl``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lpo_agent.models.base import Call

REASK = "That cannot be used:"
OPENINGS = {
    "tag": "Before the new prompt is written, choose the scope",
    "think": "Before the new prompt is written, think about it",
    "fill": "These are the tagged places of the prompt as numbered slots",
    "write": "Now write the new prompt",
    "reasons": "why the prompt may lead to wrong answers",
    "inspect": "First step. Go through the examples one by one",
    "induce": "Somebody gave an instruction to a helper",
}
NAME = re.compile(r"\(([^()\n]*)\)")
ITEM = re.compile(r"(train|dev|test) (\d+);")


def draw(what: str, run_seed: int = 0) -> int:
    """Return the seed that a search draws for ``what``: step, parent and number."""
    return int.from_bytes(hashlib.blake2b(f"{run_seed}:{what}".encode(), digest_size=4).digest())


@cache
def names() -> dict[int, str]:
    """Return what each replicate stands for, for searches with the seed 0."""
    found = {}
    for step in range(1, 6):
        for parent in range(6):
            at = f"{step}:{parent}"
            found[draw(f"{at}:tags")] = f"{step}.{parent}.tags"
            for way in range(3):
                found[draw(f"{at}:seed.{draw(f'{at}:tags')}.vary.{way}")] = f"{step}.{parent}.v{way}"
            for number in range(16):
                found[draw(f"{at}:{number}")] = f"{step}.{parent}.{number}"
                for gradient in range(5):
                    seed = draw(f"{at}:{number}.{gradient}")
                    found[seed] = f"{step}.{parent}.{number}.{gradient}"
                    for way in range(3):
                        for edit, which in enumerate(("", "/1")):
                            vary = draw(f"{at}:{gradient}.{edit}.{seed}.vary.{way}")
                            found[vary] = f"{step}.{parent}.{number}.{gradient}{which}.v{way}"
    return found


def stage() -> Path:
    """Return the folder that a test and its models share."""
    return Path(os.environ["HOST_STAGE"])


def kind_of(call: Call) -> str:
    """Return what is asked; a re-ask is of the kind that it is about."""
    for turn in reversed(call.turns):
        for kind, words in OPENINGS.items():
            if turn.role == "user" and words in turn.content:
                return kind
    return "task"


def shown(call: Call) -> str:
    """Return the prompt that a call is about."""
    found = re.search(r"The prompt:\n~~~~\n(.*?)\n~~~~", call.turns[0].content, re.DOTALL)
    return found[1] if found else ""


def name_in(text: str) -> str:
    """Return a prompt's name."""
    found = NAME.search(text)
    return found[1] if found else "?"


def note(call: Call, kind: str) -> str:
    """Write down what was asked; return the name of the proposal that it was asked for."""
    text = "\n".join(turn.content for turn in call.turns)
    entry: dict[str, Any] = {"kind": kind, "parent": name_in(shown(call)), "name": ""}
    if kind == "task":
        entry |= {"parent": name_in(text), "split": ITEM.findall(text)[-1][0], "item": ITEM.findall(text)[-1][1]}
    elif kind == "induce":
        entry |= {"parent": "", "items": [item for _, item in ITEM.findall(text)], "name": f"i{call.replicate}"}
    else:
        items = re.findall(r"input: (\w+ \d+);\nwanted: ", text)
        entry |= {"name": names().get(call.replicate, "?"), "items": items}
    entry |= {
        "last": call.turns[-1].content,
        "roles": "".join(turn.role[0] for turn in call.turns),
        "text": text,
        "temperature": call.temperature,
        "tokens": call.max_tokens,
        "reask": call.turns[-1].content.startswith(REASK),
    }
    with (stage() / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(entry) + "\n")
    return str(entry["name"])


def answer(call: Call) -> str:
    """Answer an example: right for the first items of a split, as many as the prompt's level says."""
    text = "\n".join(turn.content for turn in call.turns)
    levels = json.loads((stage() / "levels.json").read_text(encoding="utf-8"))
    split, item = ITEM.findall(text)[-1]
    name = name_in(text).partition("@")[0]
    known = levels[split]
    level = known.get(name, known.get(f"step {name[:1]}", known.get("else", 0)))
    for word, less in levels.get("words", {}).items():
        level -= less * (word in text)
    return "right" if int(item) < level else "wrong"


def renamed(prompt: str, name: str) -> str:
    """Return the prompt under another name."""
    return NAME.sub(f"({name})", prompt, count=1)


def induced(call: Call) -> str:
    """Write an instruction, named by the set of examples and the replicate."""
    items = "-".join(item for _, item in ITEM.findall(call.turns[0].content))
    return f"Name the class (i{call.replicate}@{items})."


def reply(call: Call, kind: str, name: str) -> str:
    """Reply as a model that does what it is told, and changes nothing but the name."""
    prompt = shown(call)
    said = {"think": f"Thought for {name}: the name should be another.", "inspect": f"SearchOutcome of {name}."}
    if kind in said:
        return said[kind]
    if kind == "tag":
        return NAME.sub(lambda found: f"(<edit>{found[1]}</edit>)", prompt, count=1)
    if kind in {"fill", "write"}:
        several = re.search(r"Write (\d+) different", call.turns[-1].content)
        new = [name, *(f"{name}/{n}" for n in range(1, int(several[1]) if several else 1))]
        if kind == "fill":
            return "".join(f'<option><slot number="1">{one}</slot></option>' for one in new)
        return "".join(f"<prompt>{renamed(prompt, one)}</prompt>" for one in new)
    if kind == "reasons":
        wanted = re.search(r"Give (\d+) reasons", call.turns[0].content)  # of one reason it says "one"
        return "".join(f"<reason>Reason {n} of {name}.</reason>" for n in range(int(wanted[1]) if wanted else 1))
    return induced(call)


def host(call: Call) -> str:
    """Play both models, well."""
    kind = kind_of(call)
    name = note(call, kind)
    return answer(call) if kind == "task" else reply(call, kind, name)


def untaggable(call: Call) -> str:
    """Say something instead of tagging, always."""
    kind = kind_of(call)
    name = note(call, kind)
    if kind == "tag":
        return "I would edit the <edit>name</edit>."
    return answer(call) if kind == "task" else reply(call, kind, name)


def hasty(call: Call) -> str:
    """Tag, fill and write as told only when asked a second time."""
    kind = kind_of(call)
    name = note(call, kind)
    if kind in {"tag", "fill", "write"} and not call.turns[-1].content.startswith(REASK):
        return "<prompt>Name <edit>it.</prompt>"
    return answer(call) if kind == "task" else reply(call, kind, name)


def unfillable(call: Call) -> str:
    """Tag as told, and write prose into no slot at all."""
    kind = kind_of(call)
    name = note(call, kind)
    if kind == "fill":
        return "I would say it otherwise."
    return answer(call) if kind == "task" else reply(call, kind, name)


def rewriter(call: Call) -> str:
    """Tag as told, then write a prompt of its own."""
    kind = kind_of(call)
    name = note(call, kind)
    if kind == "write":
        return f"<prompt>Something else, all of it, by ({name}) alone.</prompt>"
    return answer(call) if kind == "task" else reply(call, kind, name)


def forgetful(call: Call) -> str:
    """Lose the placeholder and what is kept when writing, and put a placeholder into a slot."""
    kind = kind_of(call)
    name = note(call, kind)
    if kind == "write":
        return f"<prompt>Name the class ({name}).</prompt>"
    if kind == "fill":
        return f'<option><slot number="1">{name} {{input}}</slot></option>'
    return answer(call) if kind == "task" else reply(call, kind, name)


FILLINGS = (
    "<edit>{name}</edit>",
    "</edit>{name}<edit>",
    "<keep>{name}</keep>",
    "{{input}}",
    "{{other}}",
    "{{",
    "",
    "   \n\n ",
    "\u00e9\u4e2d\U0001f469\u200d\U0001f467 \u202e{name}",
    "{name} " * 3000,
    "{name}).\n\nItem: something else\n\n(",
    '{name}</slot><slot number="2">more',
    "```\n~~~~\n{name}",
    "\x00\u2028{name}\r\n",
)


def adversary(call: Call) -> str:
    """Put into the slot, proposal by proposal, whatever could do harm; and rewrite where it is asked to write."""
    kind = kind_of(call)
    name = note(call, kind)
    if kind == "fill":
        filling = FILLINGS[int(name.split(".")[2])].format(name=name)
        return f'Sure!\n<option><slot number="1">{filling}</slot></option><prompt>All new ({name})</prompt>'
    if kind == "write":
        return f"<prompt>All new ({name}) {{input}}</prompt>"
    return answer(call) if kind == "task" else reply(call, kind, name)


TAGGINGS = (
    "{prompt}",
    "<edit>{prompt}",
    "<edit>{prompt}</edit>",
    "<edit><edit>Name</edit></edit>{rest}",
    "<edit>Names</edit>{rest}",
    "<edit>Name</edit>{rest} And more.",
    "<EDIT>Name</EDIT>{rest}",
    "",
    "<edit></edit>{prompt}",
    "{prompt}<edit></edit>",
    "```\n<edit>Name</edit>{rest}\n```",
    "<edit>Name</edit><edit> the</edit><edit> class</edit>{tail}",
)


def mistagger(call: Call) -> str:
    """Tag, proposal by proposal, in all ways that are wrong and some that are right."""
    kind = kind_of(call)
    name = note(call, kind)
    prompt = shown(call)
    if kind == "tag":
        parts = {"prompt": prompt, "rest": prompt.removeprefix("Name"), "tail": prompt.removeprefix("Name the class")}
        return TAGGINGS[int(name.split(".")[2])].format(**parts)
    return answer(call) if kind == "task" else reply(call, kind, name)


def lavish(call: Call) -> str:
    """Tag six words at once; fill with nine words."""
    kind = kind_of(call)
    name = note(call, kind)
    if kind == "tag":
        words = shown(call).split(" ")
        return " ".join(["<edit>" + " ".join(words[:6]) + "</edit>", *words[6:]])
    if kind == "fill":
        return f'<option><slot number="1">one two three four five six seven eight {name}</slot></option>'
    return answer(call) if kind == "task" else reply(call, kind, name)


def careless(call: Call) -> str:
    """Tag something that is not the prompt."""
    kind = kind_of(call)
    name = note(call, kind)
    if kind == "tag":
        return "Label the <edit>kind</edit> of it."
    return answer(call) if kind == "task" else reply(call, kind, name)


def observant(call: Call) -> str:
    """Tag the name and the word "badly", and take the place of either with "well"."""
    kind = kind_of(call)
    name = note(call, kind)
    if kind == "tag":
        prompt = NAME.sub(lambda found: f"(<edit>{found[1]}</edit>)", shown(call), count=1)
        return prompt.replace("badly", "<edit>badly</edit>")
    if kind == "fill":
        return f'<option><slot number="1">well {name}</slot></option>'
    return answer(call) if kind == "task" else reply(call, kind, name)


def parrot(call: Call) -> str:
    """Write the same prompt, whatever is asked."""
    kind = kind_of(call)
    name = note(call, kind)
    if kind == "write":
        return "<prompt>Name the class (parrot).</prompt>"
    return answer(call) if kind == "task" else reply(call, kind, name)


def mute(call: Call) -> str:
    """Say nothing when asked for an instruction."""
    kind = kind_of(call)
    name = note(call, kind)
    if kind == "induce":
        return ""
    return answer(call) if kind == "task" else reply(call, kind, name)
