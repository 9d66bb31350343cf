"""Each setting is declared once: in one settings class, and as one option of the command line."""

import ast
import functools
import inspect
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import typer.main

import featx
from featx.cli import app

SOURCE = Path(featx.__file__).parent

# Settings of the same name and type that several classes declare, and why none inherits them.
SEPARATE = {
    "overwrite": "existing output is resumed, or an error",
    "output": "a model, or a table of predictions",
    "progress": "counts the images of an extraction, or of a prediction",
    "manifest": "an alternative to `images`, or to the `inputs` of an evaluation",
    "path_column": "of the manifest, or of the table of labels",
    "rename": "of the file of `weights`, or of `init`",
    "precision": "of the network that a model uses, or that is fine-tuned",
    "scale": "the scale of the codes, or the scales that a sweep tries",
    "trust": "of a model that classifies, or of the model of a report",
    "seed": "of the classifiers, or of fine-tuning",
    "class_weight": "of the classifiers, or of the loss of the network",
    "batch_size": "of an extraction, or of stochastic gradient descent",
    "positive": "a class of the images, or of the model, which has a default",
}
# Functions that read a file have parameters, not settings: they select rows, layers and checks.
READERS = {"check_store", "export", "read_arrays", "read_frame"}


@functools.cache
def modules():
    """Return the parsed files of the library, by path."""
    paths = sorted(SOURCE.rglob("*.py"))
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def settings_classes():
    """Yield path, class and own fields of every settings class."""
    for path, module in modules().items():
        for node in module.body:
            if isinstance(node, ast.ClassDef) and node.name.endswith("Settings"):
                fields = {
                    each.target.id: (
                        ast.unparse(each.annotation),
                        ast.unparse(each.value) if each.value else None,
                    )
                    for each in node.body
                    if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
                }
                yield path, node, fields


def decorators(node):
    return {
        ast.unparse(each.func if isinstance(each, ast.Call) else each)
        for each in node.decorator_list
    }


def functions():
    """Yield path and node of every top-level function outside of the command line."""
    for path, module in modules().items():
        if "cli" not in path.relative_to(SOURCE).parts:
            for node in module.body:
                if isinstance(node, ast.FunctionDef):
                    yield path, node


def parameters(node):
    arguments = node.args
    return [each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]


def test_settings_of_one_type_and_default_are_inherited():
    """A field with the same type and default is declared by one class, unless it differs in use."""
    declared = defaultdict(list)
    for _, node, fields in settings_classes():
        for name, (annotation, default) in fields.items():
            declared[name, annotation, default].append(node.name)
    repeated = {key[0]: names for key, names in declared.items() if len(names) > 1}
    assert set(repeated) <= set(SEPARATE), repeated


def test_every_settings_class_documents_the_fields_that_it_declares():
    """The section Parameters of a class has an entry for each of its own fields."""
    for path, node, fields in settings_classes():
        text = ast.get_docstring(node) or ""
        entries = {
            name.strip()
            for line in text.splitlines()
            if " : " in line and not line[0].isspace()
            for name in line.partition(" : ")[0].split(",")
        }
        assert set(fields) <= entries, (path.name, node.name)


def test_verbs_list_no_settings_of_their_own():
    """A decorated function takes only the settings or the job, and no **settings."""
    found = {}
    for _, node in functions():
        for decorator in decorators(node) & {"takes_fields_of", "prepared_by"}:
            assert len(parameters(node)) == 1
            assert node.args.vararg is None
            assert node.args.kwarg is None
            found.setdefault(decorator, []).append(node.name)
    verbs = {
        "compare",
        "evaluate",
        "explain",
        "extract",
        "finetune",
        "fit",
        "plan",
        "predict",
        "sweep",
    }
    assert verbs <= set(found["prepared_by"])
    assert {name for name in found["takes_fields_of"] if name.startswith("prepare_")}


def test_public_functions_have_no_setting_as_a_parameter():
    """A public function that is not a verb has no parameter with the name of a setting."""
    settings = {name for _, _, fields in settings_classes() for name in fields}
    names = set(featx.__all__)
    repeated = {}
    for path, node in functions():
        is_public = node.name in names and not decorators(node) & {"takes_fields_of", "prepared_by"}
        if is_public and node.name not in READERS and path.parent.name != "figures":
            used = settings & set(parameters(node)) - {"output", "overwrite", "trust"}
            if used or node.args.kwarg is not None:
                repeated[node.name] = used
    assert not repeated


def test_no_function_passes_many_settings_on():
    """No function of the library has more than four parameters that are settings of a verb."""
    settings = {
        name
        for _, node, fields in settings_classes()
        if node.name in {"ClassifierSettings", "FitSettings", "TrainingSettings"}
        for name in fields
    } - {"layer", "output"}
    for path, node in functions():
        used = settings & set(parameters(node))
        assert len(used) <= 4, (path.name, node.name, used)


@pytest.fixture(scope="module")
def options():
    """The names of the options and arguments of every command."""
    commands = typer.main.get_command(app.app).commands
    return {name: {each.name for each in command.params} for name, command in commands.items()}


def test_every_option_is_declared_in_one_place():
    """No two options have the same help, since verbs share the declaration of an option."""
    helps = Counter(
        text.value
        for path, module in modules().items()
        if path.parent.name == "cli"
        for node in ast.walk(module)
        if isinstance(node, ast.Call)
        for text in help_of(node)
    )
    assert len(helps) > 90
    assert helps.most_common(1)[0][1] == 1, helps.most_common(3)


def help_of(call):
    """Return the help, a constant, of a call that declares an option or an argument."""
    name = ast.unparse(call.func).rpartition(".")[2]
    if name == "option" or (name == "partial" and ast.unparse(call.args[0]) == "option"):
        texts = call.args[1:2] if name == "partial" else call.args[:1]
    else:
        texts = [each.value for each in call.keywords if each.arg == "help"]
    return [text for text in texts if isinstance(text, ast.Constant)]


@pytest.mark.parametrize(
    ("command", "verb"),
    [
        ("compare", featx.compare),
        ("evaluate", featx.evaluate),
        ("explain", featx.explain),
        ("extract", featx.extract),
        ("finetune", featx.finetune),
        ("fit", featx.fit),
        ("plan", featx.plan),
        ("predict", featx.predict),
        ("sweep", featx.sweep),
    ],
)
def test_every_setting_has_one_option(options, command, verb):
    """Each parameter of a verb is one option, unless it is an argument or cannot be typed."""
    names = set(inspect.signature(verb).parameters)
    typed = options[command] | {"progress", "show_download"}
    renamed = {"settings": "set", "init": "weights"}
    first = next(iter(inspect.signature(verb).parameters))
    missing = {name for name in names - {first} if not {name, renamed.get(name)} & typed}
    assert not missing
