"""Downloads of Keras's release, from a local server."""

import hashlib
import logging
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from featx.errors import WeightsError
from featx.network import WeightsSource, find_weights
from featx.network.weights import download
from featx.network.weights.download import fetch_imagenet

CONTENT = {False: b"convolutions" * 50_000, True: b"and dense layers" * 50_000}
MD5 = {top: hashlib.md5(content).hexdigest() for top, content in CONTENT.items()}
NAMES = {
    False: "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
    True: "vgg19_weights_tf_dim_ordering_tf_kernels.h5",
}
#: The real release, before the fixture `release` replaces it with small files.
PINNED = {False: download.NOTOP, True: download.TOP}


@dataclass
class Server:
    """A local server: its files, the requests it received, and where it stops."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    stop_at: int | None = None  # bytes after which the connection is dropped
    half_sent: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    def answer(self, handler):
        """Send a file in two halves, or 404."""
        name = handler.path.removeprefix("/vgg19/")
        self.asked.append(name)
        if name not in self.files:
            handler.send_error(404)
            return
        body = self.files[name]
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        half = self.stop_at or len(body) // 2
        handler.wfile.write(body[:half])
        handler.wfile.flush()
        self.half_sent.set()
        self.go_on.wait(10)
        if self.stop_at is None:
            handler.wfile.write(body[half:])


@pytest.fixture
def server():
    """Serve nothing yet, without a pause between the halves."""
    state = Server()
    state.go_on.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state.answer(self)

        def log_message(self, *_):
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        state.url = f"http://127.0.0.1:{http.server_port}/vgg19/"
        thread = threading.Thread(target=http.serve_forever, args=[0.01])
        thread.start()
        yield state
        http.shutdown()
        thread.join()


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """Return empty caches of Keras and featx that replace those of the user."""
    keras, own = tmp_path / "keras" / "models", tmp_path / "featx"
    keras.mkdir(parents=True)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("FEATX_CACHE", str(own))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return keras, own


@pytest.fixture
def release(server, caches, monkeypatch):
    """Replace the release with small files, and serve them."""
    monkeypatch.setattr(download, "IMAGENET_URL", server.url)
    for top, constant in [(False, "NOTOP"), (True, "TOP")]:
        small = download.Release(NAMES[top], MD5[top], PINNED[top].size)
        monkeypatch.setattr(download, constant, small)
        server.files[NAMES[top]] = CONTENT[top]
    return caches


def assert_failed(own, *facts, top=False):
    """Check that a download fails with an error that holds some facts."""
    with pytest.raises(WeightsError) as caught:
        fetch_imagenet(top=top)
    message = str(caught.value)
    general = [NAMES[top], PINNED[top].size, MD5[top], str(own), "FEATX_CACHE", "--weights FILE"]
    assert [fact for fact in (*general, *facts) if fact not in message] == [], message
    assert ("block5_pool" in message) == top


def test_release_is_keras_own():
    """Names, digests and the address equal those in keras.applications.vgg19."""
    vgg19 = pytest.importorskip("keras.src.applications.vgg19")
    source = Path(vgg19.__file__).read_text("utf-8")
    for release in PINNED.values():
        assert f'"{release.name}"' in source
        assert f'file_hash="{release.md5}"' in source
    assert download.IMAGENET_URL + PINNED[False].name == vgg19.WEIGHTS_PATH_NO_TOP
    assert download.IMAGENET_URL + PINNED[True].name == vgg19.WEIGHTS_PATH


@pytest.mark.parametrize("top", [False, True])
@pytest.mark.parametrize("progress", [False, True])
def test_download(release, server, capfd, top, progress):
    """A file is downloaded once, with its final name, and then found in the cache."""
    _, own = release
    path = fetch_imagenet(top=top, progress=progress)
    assert path == own / NAMES[top]
    assert path.read_bytes() == CONTENT[top]
    assert fetch_imagenet(top=top, progress=progress) == path
    assert server.asked == [NAMES[top]]
    assert [file.name for file in own.iterdir()] == [NAMES[top]]
    assert capfd.readouterr() == ("", "")


def test_progress_bar_on_a_terminal(release, capsys, monkeypatch):
    """In a terminal, a progress bar on stderr reaches 100 %."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    fetch_imagenet(top=False, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "100%" in err


def test_download_is_logged(release, caplog):
    """A download is logged once, with its address and folder."""
    _, own = release
    with caplog.at_level(logging.INFO):
        fetch_imagenet(top=False)
        fetch_imagenet(top=False)
    url = download.IMAGENET_URL + NAMES[False]
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("featx")]
    (message,) = ours
    assert all(fact in message for fact in (url, "80 MB", str(own)))


@pytest.mark.parametrize(
    ("layers", "top"), [(["block5_pool"], False), (["block1_pool", "fc1"], True), (["fc2"], True)]
)
def test_find_imagenet_takes_the_top_only_if_needed(release, layers, top):
    """Only fc1 and fc2 need the larger file; the identity is the sha256 of the file."""
    _, own = release
    source = find_weights("imagenet", layers)
    digest = hashlib.sha256(CONTENT[top]).hexdigest()
    assert source == WeightsSource("imagenet", own / NAMES[top], digest)


def test_half_a_file_never_has_the_name(release, server):
    """The final name does not exist before the download is complete."""
    _, own = release
    server.go_on.clear()
    thread = threading.Thread(target=fetch_imagenet, kwargs={"top": False})
    thread.start()
    assert server.half_sent.wait(10)
    assert not (own / NAMES[False]).exists()
    server.go_on.set()
    thread.join()
    assert (own / NAMES[False]).read_bytes() == CONTENT[False]


def test_wrong_md5(release, server):
    """A file with another md5 is deleted."""
    _, own = release
    server.files[NAMES[False]] = b"something else"
    assert_failed(own, server.url, "md5")
    assert list(own.iterdir()) == []


@pytest.mark.parametrize("top", [False, True])
def test_not_found(release, server, top):
    """The status of the server is reported, and the bundled weights only without fc1 and fc2."""
    _, own = release
    server.files.clear()
    assert_failed(own, server.url, "404", top=top)
    assert list(own.iterdir()) == []


def test_no_server(release, monkeypatch):
    """Without a connection the error names the host."""
    _, own = release
    url = "http://127.0.0.1:1/vgg19/"  # no server uses port 1
    monkeypatch.setattr(download, "IMAGENET_URL", url)
    assert_failed(own, url, "127.0.0.1:1 ", "ConnectionError")


def test_connection_dropped(release, server):
    """A connection that breaks leaves no file behind."""
    _, own = release
    server.stop_at = 70_000
    assert_failed(own, server.url.split("/")[2], "ChunkedEncodingError")
    assert list(own.iterdir()) == []


def test_cache_that_cannot_be_written(release, server, monkeypatch, tmp_path):
    """A cache that cannot be written is an error with the path and the reason."""
    blocked = tmp_path / "blocked"
    blocked.write_text("not a folder")
    monkeypatch.setenv("FEATX_CACHE", str(blocked))
    assert_failed(blocked, "Not a directory")


def test_damaged_cache_is_downloaded_again(release, server):
    """A file with a wrong md5 in the cache of featx is replaced."""
    _, own = release
    own.mkdir()
    (own / NAMES[False]).write_bytes(b"damaged")
    assert fetch_imagenet(top=False).read_bytes() == CONTENT[False]
    assert server.asked == [NAMES[False]]


def test_keras_cache_is_used(release, server):
    """A file in the cache of Keras is used."""
    keras, own = release
    (keras / NAMES[False]).write_bytes(CONTENT[False])
    assert fetch_imagenet(top=False) == keras / NAMES[False]
    assert server.asked == []
    assert not own.exists()


def test_keras_cache_with_another_md5_is_not_used(release, caplog):
    """Another file in the cache of Keras is not changed, with a warning."""
    keras, own = release
    stranger = keras / NAMES[False]
    stranger.write_bytes(b"my own training")
    assert fetch_imagenet(top=False) == own / NAMES[False]
    assert stranger.read_bytes() == b"my own training"
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert str(stranger) in warning
