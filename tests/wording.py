"""Collect every sentence that the source of featx can print, by module.

`python tests/wording.py` writes tests/messages.txt. Review that file as text, whenever a
message changes; no other test asserts sentences.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SNAPSHOT = Path(__file__).parent / "messages.txt"
#: Stands for a value that is known only at run time.
VALUE = "{…}"


def spelled(node: ast.AST) -> str:
    """Return the text of a string or f-string; of a number with its noun, the plural."""
    match node:
        case ast.JoinedStr(values=values):
            text = "".join(map(spelled, values))
        case ast.Constant(value=str(text)):
            pass
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            text = spelled(left) + spelled(right)
        case ast.FormattedValue(value=ast.Call() as call):
            text = spelled(call)
        case ast.Call(func=ast.Name("counted"), args=[_, one]):
            text = f"{VALUE} {spelled(one)}s"
        case ast.Call(func=ast.Name("counted"), args=[_, _, many]):
            text = f"{VALUE} {spelled(many)}"
        case _:
            text = VALUE
    return text


def strings(source: str) -> Iterator[str]:
    """Yield the text of every string of a module that is not a docstring, in order."""
    tree = ast.parse(source)
    skipped = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            skipped.add(id(body[0].value))
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr | ast.BinOp) and id(node) not in skipped:
            inside = {id(each) for each in ast.walk(node)} - {id(node)}
            skipped |= inside
    found = [
        (node.lineno, node.col_offset, spelled(node))
        for node in ast.walk(tree)
        if id(node) not in skipped
        and (
            isinstance(node, ast.JoinedStr)
            or (isinstance(node, ast.Constant) and isinstance(node.value, str))
            or (isinstance(node, ast.BinOp) and '"' in ast.unparse(node).replace("'", '"'))
        )
    ]
    for _, _, text in sorted(found):
        yield " ".join(text.split())


def is_sentence(text: str) -> bool:
    """Return whether a string is text for people: two words at least, and not a type."""
    return (
        " | " not in text
        and len(re.findall(r"(?<![\w-])[A-Za-z]{2,}(?![\w-])", text)) >= 2
        and " " in text
    )


def messages() -> dict[str, list[str]]:
    """Return the sentences of each file of featx, in the order of the source."""
    found = {}
    for path in sorted((ROOT / "featx").rglob("*.py")):
        own = [text for text in strings(path.read_text(encoding="utf-8")) if is_sentence(text)]
        if own:
            found[path.relative_to(ROOT).as_posix()] = own
    return found


def snapshot() -> str:
    """Return what tests/messages.txt should hold."""
    return "\n".join(
        "\n".join([f"## {name}", *(f"- {text}" for text in own), ""])
        for name, own in messages().items()
    )


if __name__ == "__main__":
    SNAPSHOT.write_text(snapshot(), encoding="utf-8")
