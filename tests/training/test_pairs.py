"""Which pairs an epoch visits, in which order, and what a batch holds."""

from itertools import pairwise

import pytest
import torch
from tiny import FIRST_ID, FRAMES, SIZE, STRIDE, tiny_edited

from tempcons.training.pairs import AnchorPairDataModule, EpochShuffle, anchor_pairs, neighbour_pairs
from tempcons.training.phase import stack_pair

IDS = [FIRST_ID + STRIDE * k for k in range(FRAMES)]
ANCHOR = IDS[FRAMES // 2]


def visited(pairs: str, pairs_per_step: int = 1, epoch: int = 0) -> list[tuple[int, int]]:
    edited = tiny_edited()
    data = AnchorPairDataModule(edited, edited.codes, edited.frames, pairs, pairs_per_step, seed=0)
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return [tuple(pair) for batch in loader for pair in batch["frame_ids"].tolist()]


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("pairs_per_step", [1, 3])
def test_an_epoch_visits_every_other_frame_once(epoch, pairs_per_step):
    assert sorted(visited("anchor", pairs_per_step, epoch)) == [(ANCHOR, i) for i in IDS if i != ANCHOR]


def test_neighbours_are_each_visited_once():
    assert sorted(visited("neighbour")) == list(pairwise(IDS))


def test_both_is_both():
    assert sorted(visited("both")) == sorted(visited("anchor") + visited("neighbour"))


def test_pair_lists_by_hand():
    assert anchor_pairs(4, 1) == [(1, 0), (1, 2), (1, 3)]
    assert neighbour_pairs(range(4)) == [(0, 1), (1, 2), (2, 3)]


def test_order_depends_on_seed_and_epoch_alone():
    def order(seed: int, epoch: int) -> list[int]:
        sampler = EpochShuffle(20, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)
    assert sorted(order(3, 4)) == list(range(20))


def test_in_rounds_all_come_once_before_any_comes_again():
    sampler = EpochShuffle(15, 2, rounds=3)
    order = [at % 5 for at in sampler]
    assert len(sampler) == 15
    rounds = [order[k : k + 5] for k in (0, 5, 10)]
    assert [sorted(r) for r in rounds] == [list(range(5))] * 3
    assert rounds[0] != rounds[1] or rounds[1] != rounds[2]
    with pytest.raises(ValueError, match="15 pairs can't be 4 rounds"):
        EpochShuffle(15, 2, rounds=4)


def test_a_batch_holds_the_frames_its_ids_name():
    edited = tiny_edited()
    data = AnchorPairDataModule(edited, edited.codes, edited.aligned, "both", 2, seed=1)
    for batch in data.train_dataloader():
        assert batch["direct"].shape[1:] == (2, 3, SIZE, SIZE)
        at = [[IDS.index(i) for i in pair] for pair in batch["frame_ids"].tolist()]
        assert torch.equal(batch["codes"], edited.codes[torch.tensor(at)])
        for name, store in (("direct", edited.frames), ("input", edited.aligned), ("target", edited.aligned)):
            wanted = torch.stack([store.pictures(pair) for pair in at])
            assert torch.equal(batch[name], wanted), name
            assert batch[name].min() >= -1 and batch[name].max() <= 1


def test_stacking_puts_the_anchors_first():
    pairs = torch.tensor([[10, 11], [20, 21], [30, 31]])
    assert stack_pair(pairs).tolist() == [10, 20, 30, 11, 21, 31]
