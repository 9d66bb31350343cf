"""Passwords and signatures are removed from URLs, and nothing else is."""

import pytest

from featx.images import Url
from featx.secrets import without_secrets

LEFT = "https://host/a b.png"


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("https://user:pass@host/a b.png", LEFT),
        ("HTTPS://token@host/a b.png".lower(), LEFT),
        (f"{LEFT}?X-Amz-Algorithm=a&X-Amz-Credential=k%2F2&X-Amz-Signature=0f", LEFT),
        (f"{LEFT}?GoogleAccessId=a&Expires=1&Signature=b", LEFT),
        (f"{LEFT}?X-Goog-Signature=1", LEFT),
        (f"{LEFT}?AWSAccessKeyId=a&Expires=1&Signature=b", LEFT),
        (f"{LEFT}?sv=2020&st=1&se=2&sr=b&sp=r&sig=xyz%3D", LEFT),
        (f"{LEFT}?Policy=a&Signature=b&Key-Pair-Id=c", LEFT),
        (f"{LEFT}?access_token=a&api-key=b&Password=c&x%2Damz%2Dsecurity%2Dtoken=d", LEFT),
        (f"{LEFT}#access_token=1", LEFT),
        (f"{LEFT}?a=1&token=x&b=%20#c", f"{LEFT}?a=1&b=%20#c"),
        ("s3://key:secret@bucket/a.png", "s3://bucket/a.png"),
        ("simplecache::https://u:p@host/a.zip?sig=1", "simplecache::https://host/a.zip"),
        ("zip://a/b.png::https://u:p@host/a.zip?sig=1", "zip://a/b.png::https://host/a.zip"),
        ("Cannot open 'ftp://u:p@host/a?sig=1&n=2'.", "Cannot open 'ftp://host/a?n=2'."),
    ],
)
def test_secrets_are_removed(url, public):
    assert without_secrets(url) == public


@pytest.mark.parametrize(
    "url",
    [
        f"{LEFT}?id=1",
        f"{LEFT}?id=2&st=1&se=2&expires=3",  # no signature, so these are names like others
        f"{LEFT}?",
        f"{LEFT}?size=large&key=a/b.png#here",
        "https://host/@user/a.png?at=me@home",
        "abfs://container@account.dfs.core.windows.net/a.png",
        "github://org:repo@main/a.png",
        "zip://a@b?sig=1.png::/photos?token=1.zip",
        "cats/me:pass@home?sig=1.jpg",
        "/data/a.png?token=1",
    ],
)
def test_all_else_is_kept(url):
    assert without_secrets(url) == url


def test_a_url_shows_no_secret_and_keeps_it():
    """Text, repr and a member of a folder show the public URL; `text` is what is fetched."""
    url = Url("https://me:pass@host/photos?v=2&token=0f")
    member = Url("s3://key:secret@bucket/photos") / "cat/1.jpg"
    assert (str(url), repr(url)) == ("https://host/photos?v=2", "Url('https://host/photos?v=2')")
    assert str(member) == "s3://bucket/photos/cat/1.jpg"
    assert member.text == "s3://key:secret@bucket/photos/cat/1.jpg"
