"""Words stay in their rooms."""

from __future__ import annotations

import pytest

from tests.house.checks import vocabulary
from tests.house.checks.source import Source, read


def test_words_stay_in_their_rooms() -> None:
    found = vocabulary.violations(read())
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("store/tail.py", "from transformers.cache_utils import Cache"),
        ("flow.py", "def advance(past_key_values): ..."),
        ("recipe/text.py", "x = kwargs['layer_idx']"),
        ("score/window.py", "def fit(tokenizer): ..."),
        ("recipes/snapkv.py", "build_tokenizer()"),
        ("encode/ints.py", "with open('codes') as file: ..."),
        ("recipe/cite.py", "from pathlib import Path"),
        ("score/window.py", "torch.cuda.synchronize()"),
        ("cli/main.py", "if torch.cuda.is_available(): ..."),
    ],
)
def test_violations_are_found(path: str, text: str) -> None:
    assert vocabulary.violations([Source(path, text)])


def test_prose_and_their_own_rooms_pass() -> None:
    allowed = [
        Source(
            "store/tail.py", '"""Knows no transformers, no layer_idx and no open( file."""\n# tokenizer\n'
        ),
        Source("recipes/tova.py", "BIBTEX = 'transformers are multi-state rnns'"),
        Source("host/cache.py", "from transformers import Cache\ndef f(layer_idx): torch.cuda.synchronize()"),
        Source("store/file.py", "from pathlib import Path"),
        Source("encode/ints.py", "reopen(x)"),
    ]
    assert vocabulary.violations(allowed) == []
