"""Write the vectors of all that decides the risk in `prompts/` to a file of the package, see server/retrieval/known.py.

    python tests/bench/write_vectors.py

Takes some four minutes on two cores for another encoder; for the same one, only what is new takes time. After edits of
the prompts it is not needed: what is missing is computed at load.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from server.profiles.store import load_profiles
from server.retrieval.encoders import MPNET, OnnxEmbedder, prepare_encoder
from server.retrieval.known import SHIPPED, KnownEmbedder, write_known
from server.settings import default_cache_dir, default_prompts_dir


def main() -> None:
    texts = {
        item.user
        for profile in load_profiles(default_prompts_dir()).values()
        for items in (profile.risk_messages, profile.demonstrations, profile.pinned)
        for item in items
    }
    embedder = OnnxEmbedder(MPNET, prepare_encoder(MPNET, default_cache_dir() / "embedders", report=print))
    write_known(SHIPPED, KnownEmbedder(embedder, SHIPPED), sorted(texts))
    print(f"{SHIPPED}: {len(texts)} texts, {SHIPPED.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
