"""How GPUs are dealt out: which engines, how many of each, for which phase."""

from collections.abc import Sequence

import msgspec

from twofold_sim.profiles import Profile

STEP_TOKENS = (2048, 512, 256)
"""What workers for both phases are tried with beside the ``max_batched_tokens`` of their profile:
the fewer tokens of a prompt a step computes, the less it holds those up that decode."""


class Pairing(msgspec.Struct, frozen=True, kw_only=True):
    """The kinds of engines of a cluster: one for each phase, or one for both."""

    prefill: Profile | None = None
    """None: aggregated, whoever decodes has computed the prompt as well."""
    decode: Profile

    @property
    def is_aggregated(self) -> bool:
        return self.prefill is None

    @property
    def engines(self) -> tuple[Profile, ...]:
        """Return the kinds, the one that computes prompts first."""
        return (self.decode,) if self.prefill is None else (self.prefill, self.decode)

    @property
    def gpu_count(self) -> int:
        """Return the GPUs of the smallest cluster of this kind."""
        return self.decode.gpu_count + (self.prefill.gpu_count if self.prefill else 0)

    def __str__(self) -> str:
        if self.prefill is None:
            tokens = self.decode.max_batched_tokens
            return f"both on TP {self.decode.gpu_count} in steps of {tokens} tokens"
        return f"prefill on TP {self.prefill.gpu_count}, decode on TP {self.decode.gpu_count}"


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster of a pairing."""

    pairing: Pairing
    prefill_count: int = 0
    """Workers that prefill only; 0 exactly if the pairing is aggregated."""
    decode_count: int

    @property
    def gpu_count(self) -> int:
        prefill = self.pairing.prefill
        prefill_gpus = self.prefill_count * prefill.gpu_count if prefill else 0
        return prefill_gpus + self.decode_count * self.pairing.decode.gpu_count

    def __str__(self) -> str:
        prefill, decode = self.pairing.prefill, self.pairing.decode
        if prefill is None:
            return (
                f"{self.decode_count} x TP {decode.gpu_count} for both, "
                f"in steps of {decode.max_batched_tokens} tokens"
            )
        return (
            f"{self.prefill_count} x TP {prefill.gpu_count} prefill, "
            f"{self.decode_count} x TP {decode.gpu_count} decode"
        )


def pairings(profiles: Sequence[Profile], gpu_count: int) -> list[Pairing]:
    """Return the pairings of *profiles* that find room on so many GPUs.

    A transfer between unequal engines needs a decode engine whose tensor parallelism is a multiple
    of the prefill engine's, and the same blocks.
    """
    found = [Pairing(decode=each) for profile in profiles for each in _in_steps(profile)]
    found += [
        Pairing(prefill=prefill, decode=decode)
        for prefill in profiles
        for decode in profiles
        if decode.gpu_count % prefill.gpu_count == 0 and decode.block_tokens == prefill.block_tokens
    ]
    return [pairing for pairing in found if pairing.gpu_count <= gpu_count]


def layouts(pairing: Pairing, gpu_count: int) -> list[Layout]:
    """Return the layouts of *pairing* to which no worker can be added, by their prefill workers."""
    prefill, decode = pairing.prefill, pairing.decode
    if prefill is None:
        decode_count = gpu_count // decode.gpu_count
        return [Layout(pairing=pairing, decode_count=decode_count)] if decode_count else []
    found = []
    for prefill_count in range(1, gpu_count // prefill.gpu_count + 1):
        decode_count, unused = divmod(
            gpu_count - prefill_count * prefill.gpu_count, decode.gpu_count
        )
        if decode_count and unused < prefill.gpu_count:
            found.append(
                Layout(pairing=pairing, prefill_count=prefill_count, decode_count=decode_count)
            )
    return found


def _in_steps(profile: Profile) -> list[Profile]:
    """Return *profile* as it is, and with fewer tokens in a step."""
    return [profile] + [
        msgspec.structs.replace(profile, max_batched_tokens=tokens)
        for tokens in STEP_TOKENS
        if tokens < profile.max_batched_tokens
    ]
