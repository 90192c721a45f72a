"""Which tenants have had more than their share.

Served tokens are counted for each, as in VTC (Y. Sheng et al., OSDI 2024, arXiv 2401.00588); that a
tenant who comes back has no credit from long ago is here the half-life, where VTC lifts counters.
"""

import math

HALF_LIFE_SECONDS = 60.0
"""What was served a minute ago counts half: fairness is about now."""


class Shares:
    """Tokens computed for each tenant, the older the less.

    Invariant: ``_total_tokens`` is the sum of ``_tokens``, which keeps a tenant until one token of
    it is left.
    """

    def __init__(self) -> None:
        self._tokens: dict[str, float] = {}
        self._total_tokens = 0.0
        self._decayed_at = 0.0

    def serve(self, tenant: str, tokens: float, now: float) -> None:
        """Count *tokens* that are computed for *tenant*."""
        if now - self._decayed_at > HALF_LIFE_SECONDS / 8:
            self._decay(now)
        self._tokens[tenant] = self._tokens.get(tenant, 0.0) + tokens
        self._total_tokens += tokens

    def doublings_over(self, tenant: str) -> int:
        """Return how many times what the others had on average must be doubled to make what
        *tenant* has had.

        Whole doublings, so that small differences do not stand before more important ones.
        """
        own_tokens = self._tokens.get(tenant, 0.0)
        other_count = len(self._tokens) - 1
        if other_count < 1 or own_tokens <= 1:
            return 0
        other_tokens = max((self._total_tokens - own_tokens) / other_count, 1.0)
        return max(round(math.log2(own_tokens / other_tokens)), 0)

    def _decay(self, now: float) -> None:
        factor = 0.5 ** ((now - self._decayed_at) / HALF_LIFE_SECONDS)
        self._decayed_at = now
        self._tokens = {
            tenant: tokens * factor
            for tenant, tokens in self._tokens.items()
            if tokens * factor > 1
        }
        self._total_tokens = sum(self._tokens.values())
