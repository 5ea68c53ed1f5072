"""What is compared: profiles, and ablations of one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: a profile as its server knows it.

    `patch` is what an ablation changes of the profile that it extends (JSON merge patch, RFC 7396), and `embedder`
    names what compares texts in place of the server's own.
    """

    id: str
    title: str
    profile: str
    patch: Mapping[str, Any] | None = None
    embedder: str | None = None
