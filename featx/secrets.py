"""URLs without user names, passwords and signatures, as they are stored and shown.

A text that a user typed, or a message of another library, comes in; the text without secrets
goes out. Whatever featx writes or prints about a URL passes through here.
"""

import re
from urllib.parse import unquote

__all__ = ["without_secrets"]

# A URL, after the name of a cache or of none; and URLs in a sentence.
_WHOLE = re.compile(r"(\w+::)*[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_IN_TEXT = re.compile(r"[a-z][a-z0-9+.-]*://[^\s'\"<>]*", re.IGNORECASE)
_LOGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#]*)@", re.IGNORECASE)
# In these, a text before @ is a user; in others, only one with a colon, because
# abfs://CONTAINER@ACCOUNT is not secret.
_WITH_USERS = {"http", "https", "ftp", "ftps", "sftp", "ssh", "smb", "webdav", "webhdfs", "hdfs"}
_PLAIN_NAMES = {"zip", "tar", "github", "gitlab", "git", "memory", "file", "local"}

# Parameters that servers accept instead of a login, in lower case.
_SECRET = re.compile(
    r"x-(amz|goog|oss|cos|ms|bce)-.*|(google|aws|oss)access(key)?id|(x-)?signature|sig|hdn(ts|ea)"
    r"|key-pair-id|policy|jwt|(client[_-]?)?secret|pass(word|wd)?|pwd|credentials?|auth(orization)?"
    r"|((access|auth|id|api|session|sas|security|private)[_-]?)?token|(api|access|auth)[_-]?key"
)
# Those that only belong to a signature if there is one.
_SIGNED = re.compile(r"expires|s[epvrst]|spr|sip|srt|ses|sk(oid|tid|t|e|s|v)")


def without_secrets(text: str) -> str:
    """Return a text in which URLs have no user names, passwords and signing parameters.

    All other parameters keep their order and their spelling, so different images keep
    different URLs.

    Examples
    --------
    >>> without_secrets("https://me:pass@host/a.png?id=1&X-Amz-Signature=0f#top")
    'https://host/a.png?id=1#top'
    >>> without_secrets("zip://a?sig=1.png::/photos.zip"), without_secrets("cat/1.jpg?sig=1")
    ('zip://a?sig=1.png::/photos.zip', 'cat/1.jpg?sig=1')
    """
    if "://" not in text:
        return text
    if _WHOLE.match(text):
        return "::".join(map(_public, text.split("::")))
    return _IN_TEXT.sub(lambda url: without_secrets(url[0]), text)


def _public(url: str) -> str:
    """Return one part of a URL, such as an archive, without secrets."""
    scheme = url.partition("://")[0].lower()
    if not _WHOLE.match(url) or scheme in _PLAIN_NAMES:
        return url
    login = _LOGIN.match(url)
    if login and (scheme in _WITH_USERS or ":" in login[2]):
        url = f"{login[1]}://{url[login.end() :]}"
    address, sharp, fragment = url.partition("#")
    address, mark, query = address.partition("?")
    return f"{address}{_kept(mark, query)}{_kept(sharp, fragment)}"


def _kept(mark: str, query: str) -> str:
    """Return the parameters that are not secret, after a mark if there are any."""
    names = {each: unquote(each.partition("=")[0]).lower() for each in query.split("&")}
    secret = {each for each, name in names.items() if "=" in each and _SECRET.fullmatch(name)}
    if not secret:
        return mark + query
    secret |= {each for each, name in names.items() if _SIGNED.fullmatch(name)}
    kept = "&".join(each for each in query.split("&") if each not in secret)
    return mark + kept if kept else ""
