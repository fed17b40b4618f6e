"""Statistical power of the test split: which gain a number of items can detect by McNemar's test (Connor 1987).

The test uses only discordant items, which one prompt has right and the other wrong. Their share is not known
before the test, so :data:`DISCORDANT` is assumed, or the gain itself if that is larger.
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
    """Return the paired items needed to detect a true ``gain`` (0 < gain <= 1) with power 80 % at the 5 % level."""
    share = max(gain, discordant)
    root = _ALPHA_Z * math.sqrt(share) + _POWER_Z * math.sqrt(share - gain * gain)
    return math.ceil(root * root / (gain * gain))


def gain_shown(items: int, discordant: float = DISCORDANT) -> float:
    """Return the smallest gain, in steps of 0.001, that ``items`` can detect; 1 if they cannot detect any."""
    low, high = 1, 1000
    while low < high:
        middle = (low + high) // 2
        if items_needed(middle / 1000, discordant) <= items:
            high = middle
        else:
            low = middle + 1
    return low / 1000
