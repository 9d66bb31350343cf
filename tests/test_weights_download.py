"""Downloads of Keras's release, from a server on this machine and never from elsewhere."""

import hashlib
import logging
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from featx.errors import WeightsError
from featx.network.weights import WeightsSource, download, fetch_imagenet, find_weights

CONTENT = {False: b"convolutions" * 50_000, True: b"and dense layers" * 50_000}
MD5 = {top: hashlib.md5(content).hexdigest() for top, content in CONTENT.items()}
NAMES = {
    False: "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
    True: "vgg19_weights_tf_dim_ordering_tf_kernels.h5",
}
#: The release as its users know it, written down before `release` puts small files in its place.
PINNED = {False: download.NOTOP, True: download.TOP}


@dataclass
class Server:
    """A server on this machine: what it holds, what it was asked for, how far it goes."""

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
            """Keep the tests' output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        state.url = f"http://127.0.0.1:{http.server_port}/vgg19/"
        thread = threading.Thread(target=http.serve_forever, args=[0.01])
        thread.start()
        yield state
        http.shutdown()
        thread.join()


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """Return two empty caches, Keras's and featx's, that are used in place of the user's own."""
    keras, own = tmp_path / "keras" / "models", tmp_path / "featx"
    keras.mkdir(parents=True)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("FEATX_CACHE", str(own))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return keras, own


@pytest.fixture
def release(server, caches, monkeypatch):
    """Put small files in the place of the release, and serve them."""
    monkeypatch.setattr(download, "IMAGENET_URL", server.url)
    for top, constant in [(False, "NOTOP"), (True, "TOP")]:
        small = download.Release(NAMES[top], MD5[top], PINNED[top].size)
        monkeypatch.setattr(download, constant, small)
        server.files[NAMES[top]] = CONTENT[top]
    return caches


def refusal(*, top=False):
    """Return the words with which a download fails."""
    with pytest.raises(WeightsError) as caught:
        fetch_imagenet(top=top)
    return str(caught.value)


def could_not(url, reason, own, *, top=False):
    """Spell the message of a download that failed."""
    size, only = ("575 MB", " with a layer up to block5_pool") if top else ("80 MB", "")
    return (
        f"Could not download {url}{NAMES[top]}: {reason}. Expected {size} of md5 {MD5[top]}, to be "
        f"kept in {own} (FEATX_CACHE moves it). Use --weights bundled{only}, or download the file "
        "by hand and use --weights FILE."
    )


def test_release_is_keras_own():
    """Names, digests and address are those in keras.applications.vgg19."""
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
    """A file is downloaded once, kept under its own name, and found again without asking."""
    _, own = release
    path = fetch_imagenet(top=top, progress=progress)
    assert path == own / NAMES[top]
    assert path.read_bytes() == CONTENT[top]
    assert fetch_imagenet(top=top, progress=progress) == path
    assert server.asked == [NAMES[top]]
    assert [file.name for file in own.iterdir()] == [NAMES[top]]
    assert capfd.readouterr() == ("", "")


def test_progress_bar_on_a_terminal(release, capsys, monkeypatch):
    """A person at a terminal sees a bar on stderr that reaches its end."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    fetch_imagenet(top=False, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "100%" in err


def test_download_is_logged(release, caplog):
    """Where a file comes from and goes to is logged, once."""
    _, own = release
    with caplog.at_level(logging.INFO):
        fetch_imagenet(top=False)
        fetch_imagenet(top=False)
    url = download.IMAGENET_URL + NAMES[False]
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("featx")]
    assert ours == [f"Downloading {url} (80 MB) to {own}"]


@pytest.mark.parametrize(
    ("layers", "top"), [(["block5_pool"], False), (["block1_pool", "fc1"], True), (["fc2"], True)]
)
def test_find_imagenet_takes_the_top_only_if_needed(release, layers, top):
    """fc1 and fc2 need the larger file; the identity is the sha256 of what arrived."""
    _, own = release
    source = find_weights("imagenet", layers)
    digest = hashlib.sha256(CONTENT[top]).hexdigest()
    assert source == WeightsSource("imagenet", own / NAMES[top], digest)


def test_half_a_file_never_has_the_name(release, server):
    """While the second half is on its way, the real name does not exist."""
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
    """What arrived with another md5 is not kept."""
    _, own = release
    server.files[NAMES[False]] = b"something else"
    reason = "what arrived has another md5, and was deleted"
    assert refusal() == could_not(server.url, reason, own)
    assert list(own.iterdir()) == []


@pytest.mark.parametrize("top", [False, True])
def test_not_found(release, server, top):
    """A server without the file is quoted, and fc1 is not promised to the bundled weights."""
    _, own = release
    server.files.clear()
    assert refusal(top=top) == could_not(server.url, "the server answered 404", own, top=top)
    assert list(own.iterdir()) == []


def test_no_server(release, monkeypatch):
    """A machine without internet is told what to do."""
    _, own = release
    url = "http://127.0.0.1:1/vgg19/"  # port 1: nobody listens
    monkeypatch.setattr(download, "IMAGENET_URL", url)
    reason = "the connection to 127.0.0.1:1 failed (ConnectionError)"
    assert refusal() == could_not(url, reason, own)


def test_connection_dropped(release, server):
    """A connection that breaks off leaves nothing behind."""
    _, own = release
    server.stop_at = 70_000
    host = server.url.split("/")[2]
    reason = f"the connection to {host} failed (ChunkedEncodingError)"
    assert refusal() == could_not(server.url, reason, own)
    assert list(own.iterdir()) == []


def test_cache_that_cannot_be_written(release, server, monkeypatch, tmp_path):
    """A cache that is a file, not a folder, is named with its reason."""
    blocked = tmp_path / "blocked"
    blocked.write_text("not a folder")
    monkeypatch.setenv("FEATX_CACHE", str(blocked))
    reason = f"{blocked} cannot be written: Not a directory"
    assert refusal() == could_not(server.url, reason, blocked)


def test_damaged_cache_is_downloaded_again(release, server):
    """A file in featx's cache whose md5 is wrong is replaced."""
    _, own = release
    own.mkdir()
    (own / NAMES[False]).write_bytes(b"damaged")
    assert fetch_imagenet(top=False).read_bytes() == CONTENT[False]
    assert server.asked == [NAMES[False]]


def test_keras_cache_is_used(release, server):
    """A file that Keras already downloaded is taken from where it is."""
    keras, own = release
    (keras / NAMES[False]).write_bytes(CONTENT[False])
    assert fetch_imagenet(top=False) == keras / NAMES[False]
    assert server.asked == []
    assert not own.exists()


def test_keras_cache_with_another_md5_is_not_used(release, caplog):
    """A file in Keras's cache that is not the release is left alone, and that is said."""
    keras, own = release
    stranger = keras / NAMES[False]
    stranger.write_bytes(b"my own training")
    assert fetch_imagenet(top=False) == own / NAMES[False]
    assert stranger.read_bytes() == b"my own training"
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warnings == [f"{stranger} is not Keras's release (another md5): not used."]
