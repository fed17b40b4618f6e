"""How good is an answer? The named metrics, a language model as judge, and the caller's own.

A metric gives a value in [0, 1] and, where it helps, a few words of feedback for the critic.
"""

from __future__ import annotations

import inspect
import json
import math
import re
import string
import unicodedata
from collections import Counter
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, runtime_checkable

from anyio import to_thread

from lpo_agent.agents.asking import ask
from lpo_agent.data import labels_of
from lpo_agent.errors import ConfigError, LpoError, ReplyError
from lpo_agent.loading import load_function
from lpo_agent.prompts import fenced, load

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from lpo_agent.core.messages import Row
    from lpo_agent.models.base import Model

LONGEST_FEEDBACK: Final = 200
_ARTICLES: Final = {"a", "an", "the"}
_NUMBER: Final = r"(?:(?<![\w.)])[-+])?\$?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:(?<=\d)\.(?=\d)|(?<!\d)\.(?=\d))?\d+"
