"""What a test split can show: the sizes of gains and of samples for McNemar's test (Connor 1987).

A gain shows in items that one prompt has right and the other wrong. How many there are is not known
before the end; :data:`DISCORDANT` of all is taken, or as many as the gain itself needs.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final

DISCORDANT: Final = 0.25
POWER: Final = 0.8
ALPHA: Final = 0.05
_ALPHA_Z: Final = NormalDist().inv_cdf(1 - ALPHA / 2)
_POWER_Z: Final = NormalDist().inv_cdf(POWER)


def items_needed(gain: float, discordant: float = DISCORDANT) -> int:
    """Return how many paired items show a true ``gain`` (0 < gain <= 1) with a chance of 80 % at the 5 % level."""
    share = max(gain, discordant)
    root = _ALPHA_Z * math.sqrt(share) + _POWER_Z * math.sqrt(share - gain * gain)
    return math.ceil(root * root / (gain * gain))


def gain_shown(items: int, discordant: float = DISCORDANT) -> float:
    """Return the smallest gain, in steps of 0.001, for which ``items`` are enough; 1 where none is."""
    low, high = 1, 1000
    while low < high:
        middle = (low + high) // 2
        if items_needed(middle / 1000, discordant) <= items:
            high = middle
        else:
            low = middle + 1
    return low / 1000
