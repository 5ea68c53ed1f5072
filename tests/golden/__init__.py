"""Rendered prompts compared byte for byte. `UPDATE_GOLDEN=1 make unit` writes them anew; read the difference in git."""

import os
from pathlib import Path


def assert_golden(name: str, text: str) -> None:
    path = Path(__file__).parent / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
