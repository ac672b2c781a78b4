"""batch_is_loop: a row of a left-padded batch is served as if it were alone."""

from __future__ import annotations

from keyvalise import KVCache
from tests.support import drive
from tests.support.cases import Case
from tests.support.compare import assert_close

LENGTHS = (79, 56, 23)


def test_a_row_of_a_batch_equals_the_row_alone(case: Case) -> None:
    model, text = case.model, drive.text(*LENGTHS)
    widths = (63, 1, 1, 1, 12, 1)
    batch = drive.run(model, KVCache(model, case.text), text.calls(*widths))
    for row, pad in enumerate(text.pads):
        alone = drive.run(model, KVCache(model, case.text), text.row(row).calls(63 - pad, *widths[1:]))
        for i, (got, want) in enumerate(zip(batch.logits, alone.logits, strict=True)):
            own = got[row : row + 1, -want.shape[1] :]
            assert_close(own, want, case.bound, what=f"row {row}, call {i}")
            for layer, rows in alone.kept[i].items():
                assert batch.kept[i][layer][row] == rows[0], f"row {row}, call {i}, layer {layer}"
