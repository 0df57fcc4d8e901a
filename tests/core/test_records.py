"""Payloads of records refuse what no instrument can have written."""

import numpy as np
import pytest

from qtwin.core.errors import UserError
from qtwin.core.records import Frames, TimeTags

TIMES, CHANNELS = np.array([5, 5, 9, 12]), np.array([1, 0, 1, 3], np.int16)


def test_tags_of_a_channel():
    tags = TimeTags(TIMES, CHANNELS, 0, 20_000)
    assert tags.of(1).tolist() == [5, 9] and tags.of(2).size == 0 and len(tags) == 4
    assert tags.seconds == 2e-8


@pytest.mark.parametrize(
    ("times", "channels", "stop", "word"),
    [
        (TIMES.astype(float), CHANNELS, 20, "int64"),
        (TIMES[::-1].copy(), CHANNELS, 20, "tag 1 at 9 ps comes before"),
        (TIMES, CHANNELS[:3], 20, "int16 for every time"),
        (TIMES, CHANNELS.astype(np.int64), 20, "int16"),
        (TIMES, CHANNELS, -1, "start"),
    ],
)
def test_tags_that_no_clock_writes(times, channels, stop, word):
    with pytest.raises(UserError, match=word):
        TimeTags(times, channels, 0, stop)


@pytest.mark.parametrize("counts", [np.zeros((4, 4)), np.zeros((2, 2, 2), complex)])
def test_frames_are_real_stacks(counts):
    with pytest.raises(UserError, match="frames, rows, columns"):
        Frames(counts)


def test_frames_count():
    assert len(Frames(np.zeros((3, 2, 5), np.uint8), exposure=1e-3)) == 3
