"""Settings of a training: allowed values, frozen layers and learning rates of layers."""

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
def test_a_number_out_of_range_is_refused(flag, value):
    """The message has the flag and the value."""
    name = f"--{flag.replace('_', '-')} "
    with pytest.raises(OptionError, match=f"{name}.*{re.escape(str(value))}"):
        TrainingSettings(**{flag: value})


def test_the_ends_of_the_ranges_are_allowed():
    """Both ends of each closed range, and values close to the open ends."""
    ones = dict.fromkeys(("block_decay", "epochs", "patience", "batch_size"), 1)
    TrainingSettings(dropout=0.0, weight_decay=0.0, **ones)
    TrainingSettings(seed=2**32 - 1, dropout=0.999, lr=1e-30)


@pytest.mark.parametrize("setting", ["augment", "optimizer", "schedule", "class_weight"])
def test_an_unknown_choice_is_refused(setting):
    """The message has the flag and the value."""
    with pytest.raises(OptionError, match=f"'adam'.*--{setting.replace('_', '-')}"):
        TrainingSettings(**{setting: "adam"})


def test_an_unknown_layer_is_refused():
    """The message has the most similar name."""
    with pytest.raises(UnknownLayerError, match="'block4_pool'"):
        TrainingSettings(freeze_until="block4_pol")


def test_default_learning_rates():
    """They depend on the optimizer."""
    assert TrainingSettings(optimizer="sgd").rate == 1e-3
    assert TrainingSettings(optimizer="adamw").rate == 1e-4
    assert TrainingSettings(lr=0.3).rate == 0.3


@pytest.mark.parametrize(
    ("cut", "last"),
    [("block5_pool", "block4_pool"), ("block2_conv1", "block1_pool"), ("fc2", "block5_pool")],
)
def test_all_blocks_but_the_last_are_frozen_by_default(cut, last):
    """The default depends on the last layer of the network."""
    assert TrainingSettings().frozen(cut)[-1] == last
    assert TrainingSettings().frozen("block1_pool") == ()


def test_layers_up_to_freeze_until_are_frozen():
    """In order, with layers that have no weights."""
    assert TrainingSettings(freeze_until="none").frozen("block5_pool") == ()
    frozen = TrainingSettings(freeze_until="block1_conv2").frozen("fc2")
    assert frozen == ("block1_conv1", "block1_conv2")
    frozen = TrainingSettings(freeze_until="block3_pool").frozen("block3_pool")
    assert [name for name in frozen if "conv" in name] == CONVOLUTIONS[:8]
    assert frozen[-1] == "block3_pool"


def test_layers_behind_the_network_cannot_be_frozen():
    """The message has both flags."""
    settings = TrainingSettings(freeze_until="block4_pool")
    with pytest.raises(OptionError, match=r"--freeze-until block4_pool.*--layer block2_pool"):
        settings.frozen("block2_pool")


def test_the_learning_rate_falls_from_block_to_block():
    """Rates fall by the factor block_decay; layers of the head have the full rate."""
    settings = TrainingSettings(freeze_until="none", block_decay=0.1)
    cut = "block5_pool"
    scales = [settings.scale(name, cut) for name in CONVOLUTIONS]
    expected = [1e-5] * 2 + [1e-4] * 2 + [1e-3] * 4 + [1e-2] * 4 + [1e-1] * 4
    assert scales == pytest.approx(expected)
    assert settings.scale("head_logits", cut) == settings.scale("head_dense1", cut) == 1
    # The first factor is that of the network's last block.
    assert settings.scale("block2_conv1", "block2_conv2") == pytest.approx(0.1)
    fully_connected = [settings.scale(name, "fc2") for name in ("fc2", "fc1", "block5_conv4")]
    assert fully_connected == pytest.approx([0.1, 0.01, 0.001])


def test_gradual_unfreezing():
    """The head is trained first, then one more block in each epoch."""
    settings = TrainingSettings(freeze_until="none", gradual=True, block_decay=1.0)
    trained = [
        [name for name in CONVOLUTIONS[:8] if settings.scale(name, "block3_pool", epoch)]
        for epoch in range(1, 6)
    ]
    assert [len(names) for names in trained] == [0, 4, 6, 8, 8]
    assert all(settings.scale("head_logits", "block3_pool", epoch) == 1 for epoch in range(1, 6))
    assert TrainingSettings(freeze_until="none").scale("block1_conv1", "block3_pool", 1) > 0


@pytest.mark.parametrize(
    ("head", "widths"), [("linear", ()), ("mlp:64", (64,)), ("mlp:1024,1024", (1024, 1024))]
)
def test_a_head_is_read(head, widths):
    """A linear head has no hidden layers."""
    assert hidden_sizes(head) == widths


@pytest.mark.parametrize(
    "head", ["", "mlp", "mlp:", "mlp:0", "mlp:-3", "mlp:8,", "mlp:8.5", "linear:8", "svm:8"]
)
def test_an_unknown_head_is_refused(head):
    """The message has the flag and the value."""
    with pytest.raises(OptionError, match=f"'{re.escape(head)}'.*--head"):
        hidden_sizes(head)
