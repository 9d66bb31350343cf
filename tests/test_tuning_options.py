"""What a fine-tuning is asked to do: values that cannot be, frozen layers, rates of layers."""

import re

import pytest

from featx.errors import OptionError, UnknownLayerError
from featx.finetuning.settings import TrainingSettings, hidden_sizes

CONVOLUTIONS = [
    f"block{block}_conv{conv}"
    for block, n in enumerate((2, 2, 4, 4, 4), 1)
    for conv in range(1, n + 1)
]


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("dropout", -0.1),
        ("dropout", 1.0),
        ("dropout", float("nan")),
        ("lr", 0.0),
        ("lr", -1e-3),
        ("lr", float("nan")),
        ("block_decay", 0.0),
        ("block_decay", 1.5),
        ("weight_decay", -1e-4),
        ("epochs", 0),
        ("patience", 0),
        ("batch_size", 0),
        ("seed", -1),
        ("seed", 2**32),
    ],
)
def test_a_number_that_cannot_be_is_refused_with_its_flag(flag, value):
    name = f"--{flag.replace('_', '-')}"
    with pytest.raises(OptionError, match=f"{name} {re.escape(str(value))}.*Expected {name}"):
        TrainingSettings(**{flag: value})


def test_the_ends_of_the_ranges_are_allowed():
    TrainingSettings(
        dropout=0.0, block_decay=1.0, weight_decay=0.0, epochs=1, patience=1, batch_size=1
    )
    TrainingSettings(seed=2**32 - 1, dropout=0.999, lr=1e-30)


@pytest.mark.parametrize("flag", ["augment", "optimizer", "schedule", "class_weight"])
def test_a_word_that_is_none_is_refused_with_those_that_are(flag):
    words = {
        "augment": "none, flip, lecture, strong",
        "optimizer": "sgd, adamw",
        "schedule": "constant, cosine, plateau, step",
        "class_weight": "--class-weight balanced",
    }
    with pytest.raises(OptionError, match=rf"'adam'\. .*Use .*{words[flag]}"):
        TrainingSettings(**{flag: "adam"})


def test_a_layer_that_is_none_is_refused_with_the_nearest():
    with pytest.raises(UnknownLayerError, match="Did you mean 'block4_pool'"):
        TrainingSettings(freeze_until="block4_pol")


def test_rates_by_default():
    assert TrainingSettings(optimizer="sgd").rate == 1e-3
    assert TrainingSettings(optimizer="adamw").rate == 1e-4
    assert TrainingSettings(lr=0.3).rate == 0.3


def test_layers_up_to_the_frozen_one_are_frozen():
    assert TrainingSettings(freeze_until="none").frozen("block5_pool") == ()
    assert TrainingSettings(freeze_until="block1_conv2").frozen("fc2") == (
        "block1_conv1",
        "block1_conv2",
    )
    frozen = TrainingSettings(freeze_until="block3_pool").frozen("block3_pool")
    assert [name for name in frozen if "conv" in name] == CONVOLUTIONS[:8]
    assert frozen[-1] == "block3_pool"


def test_layers_behind_the_cut_cannot_be_frozen():
    tuning = TrainingSettings(freeze_until="block4_pool")
    with pytest.raises(OptionError, match="--freeze-until block4_pool lies behind --layer block2"):
        tuning.frozen("block2_pool")


def test_each_block_has_a_share_of_the_rate_behind_it():
    tuning = TrainingSettings(freeze_until="none", block_decay=0.1)
    cut = "block5_pool"
    shares = [tuning.scale(name, cut) for name in CONVOLUTIONS]
    by_hand = [1e-5] * 2 + [1e-4] * 2 + [1e-3] * 4 + [1e-2] * 4 + [1e-1] * 4
    assert shares == pytest.approx(by_hand)
    assert tuning.scale("head_logits", cut) == tuning.scale("head_dense1", cut) == 1
    # The last block is the cut's: nothing behind it takes a share.
    assert tuning.scale("block2_conv1", "block2_conv2") == pytest.approx(0.1)
    fully_connected = [tuning.scale(name, "fc2") for name in ("fc2", "fc1", "block5_conv4")]
    assert fully_connected == pytest.approx([0.1, 0.01, 0.001])


def test_blocks_thaw_one_by_one():
    tuning = TrainingSettings(freeze_until="none", gradual=True, block_decay=1.0)
    thawed = [
        [name for name in CONVOLUTIONS if tuning.scale(name, "block3_pool", epoch)]
        for epoch in range(1, 6)
    ]
    # conv 8 is the last of block 3; blocks 4 and 5 lie behind the cut.
    assert [len([n for n in names if n in CONVOLUTIONS[:8]]) for names in thawed] == [0, 4, 6, 8, 8]
    assert all(tuning.scale("head_logits", "block3_pool", epoch) == 1 for epoch in range(1, 6))
    assert TrainingSettings(freeze_until="none").scale("block1_conv1", "block3_pool", 1) > 0


@pytest.mark.parametrize(
    ("head", "widths"), [("linear", ()), ("mlp:64", (64,)), ("mlp:1024,1024", (1024, 1024))]
)
def test_a_head_is_read(head, widths):
    assert hidden_sizes(head) == widths


@pytest.mark.parametrize(
    "head", ["", "mlp", "mlp:", "mlp:0", "mlp:-3", "mlp:8,", "mlp:8.5", "linear:8", "svm:8"]
)
def test_a_head_that_is_none_is_refused(head):
    with pytest.raises(OptionError, match=r"Expected --head linear, .* --head mlp:1024,1024"):
        hidden_sizes(head)
