"""Names of clusters that cannot work are refused at once, before Dask waits or starts anything."""

import json
import os
import time

import pytest

from featx.cluster import connect
from featx.errors import OptionError


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("local:1e20", "local:N"),
        ("local:100000000000000000000", "processors"),
        ("gpus:100000", "processors"),
        ("file:none.json", "none.json"),
        ("file:.", "regular file"),
        ("file:pipe", "regular file"),
        ("file:loop", "loop"),
        ("file:text", "JSON"),
        ("file:binary", "binary"),
        ("file:list", "address"),
        ("file:other", "address"),
    ],
)
def test_clusters_that_cannot_exist(tmp_path, monkeypatch, name, fact):
    """The error says what is wrong, within a second."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "text").write_text("no JSON")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "list").write_text("[1]")
    (tmp_path / "other").write_text(json.dumps({"address": 3}))
    started = time.perf_counter()
    with pytest.raises(OptionError, match=fact), connect(name):
        pass
    assert time.perf_counter() - started < 5
