"""What a template may hold, judged by Jinja's syntax tree before anything of it is compiled or run.

The sandbox keeps templates from Python's objects; it does not keep them from taking all time or memory. What is allowed
here can do neither: nothing multiplies text, and a loop inside a loop goes over what belongs to the outer one's item.
So rendering takes time in proportion to what is rendered. All else is refused, with its line and a mend.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jinja2 import nodes

from server.core.errors import Finding

VARIABLES = frozenset(
    {"principles", "retrieved_principles", "demonstrations", "system", "exchanges", "question", "reminder", "fence"}
)
"""What a template may name; prompts are data, so nothing else reaches it."""
FILTERS = frozenset(
    {"capitalize", "count", "default", "first", "groupby", "items", "join", "last", "length", "lower", "map", "reject"}
    | {"rejectattr", "reverse", "select", "selectattr", "sort", "title", "trim", "truncate", "unique", "upper"}
)
TESTS = frozenset(
    {"==", "!=", "<", "<=", ">", ">=", "eq", "equalto", "ne", "lt", "le", "gt", "ge", "in", "defined", "undefined"}
    | {"none", "divisibleby", "even", "odd"}
)
MAX_CHARS = 64 * 1024

_MAX_NESTING = 12
_MAX_EXPRESSION = 100
_MAX_ARGUMENT_CHARS = 100
# Where names keep their value and nothing is computed with it.
_PASSING = (nodes.And, nodes.Or, nodes.Not, nodes.CondExpr)
_COMPUTING = (nodes.Compare, nodes.Operand, nodes.Concat, nodes.Add, nodes.Sub, nodes.Neg, nodes.Pos)
_LITERALS = (nodes.Const, nodes.TemplateData, nodes.List, nodes.Tuple, nodes.Slice)
_STANDS_ALONE = "a template stands alone; write the text here"
_KEEPS_NOTHING = "a template keeps no variables; write the expression where it is used"
_CALLS_NOTHING = "a template calls nothing; use a filter"
_REFUSED: dict[type[nodes.Node], tuple[str, str]] = {
    nodes.Include: ("{% include %}", _STANDS_ALONE),
    nodes.Import: ("{% import %}", _STANDS_ALONE),
    nodes.FromImport: ("{% from %}", _STANDS_ALONE),
    nodes.Extends: ("{% extends %}", _STANDS_ALONE),
    nodes.Block: ("{% block %}", _STANDS_ALONE),
    nodes.Macro: ("{% macro %}", _STANDS_ALONE),
    nodes.CallBlock: ("{% call %}", _CALLS_NOTHING),
    nodes.FilterBlock: ("{% filter %}", "write the filter at each expression"),
    nodes.Assign: ("{% set %}", _KEEPS_NOTHING),
    nodes.AssignBlock: ("{% set %}", _KEEPS_NOTHING),
    nodes.With: ("{% with %}", _KEEPS_NOTHING),
    nodes.Scope: ("{% autoescape %}", "nothing is escaped in a prompt; take it out"),
    nodes.Call: ("a call", _CALLS_NOTHING),
    nodes.Dict: ("a literal {}", "take it out"),
}


def check_tree(tree: nodes.Template, shown: str) -> list[Finding]:
    """Every fault of a template that findings call `shown`."""
    checker = _Checker(shown, [])
    checker.check_body(tree.body, _Scope(), 0)
    return checker.findings


@dataclass(frozen=True)
class _Scope:
    """The names that loops have bound: the innermost one's, empty outside of all, and all of them."""

    own: frozenset[str] = frozenset()
    bound: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Checker:
    shown: str
    findings: list[Finding]

    def check_body(self, statements: Sequence[nodes.Node], scope: _Scope, depth: int) -> None:
        """Check what stands at `depth` inside of other statements."""
        if statements and depth > _MAX_NESTING:
            self._find(statements[0], f"is nested deeper than {_MAX_NESTING} statements", "take a level out")
            return
        for statement in statements:
            self._check_statement(statement, scope, depth)

    def _check_statement(self, node: nodes.Node, scope: _Scope, depth: int) -> None:
        if isinstance(node, nodes.Output):
            for child in node.nodes:
                self._check_whole(child, scope)
        elif isinstance(node, nodes.If):
            for branch in (node, *node.elif_):
                self._check_whole(branch.test, scope)
                self.check_body(branch.body, scope, depth + 1)
            self.check_body(node.else_, scope, depth + 1)
        elif isinstance(node, nodes.For):
            self._check_loop(node, scope, depth)
        else:
            self._refuse(node)

    def _check_loop(self, node: nodes.For, scope: _Scope, depth: int) -> None:
        if node.recursive:
            self._find(node, "loops recursively", "write a loop for each level")
        self._check_whole(node.iter, scope)
        if scope.own and _root(node.iter) not in scope.own:
            mend = "inside a loop, loop over what belongs to its item, such as principle.scope; or close the outer loop"
            self._find(node, "loops inside a loop over something else", mend)
        targets = [node.target] if isinstance(node.target, nodes.Name) else node.target.find_all(nodes.Name)
        own = frozenset(name.name for name in targets)
        inner = _Scope(own | {"loop"}, scope.bound | own | {"loop"})
        if node.test is not None:
            self._check_whole(node.test, inner)
        self.check_body(node.body, inner, depth + 1)
        self.check_body(node.else_, scope, depth + 1)

    def _check_whole(self, node: nodes.Node, scope: _Scope) -> None:
        """Check an expression that is no part of another."""
        if _is_large(node):
            self._find(node, f"is an expression of more than {_MAX_EXPRESSION} parts", "split it up")
        else:
            self._check_expression(node, scope, is_plain=True)

    def _check_expression(self, node: nodes.Node, scope: _Scope, *, is_plain: bool) -> None:
        """Check `node`. What is plain is written or tested as it is; nothing is computed with it."""
        if isinstance(node, nodes.Name):
            self._check_name(node, scope, is_plain=is_plain)
        elif isinstance(node, nodes.Getattr | nodes.Getitem):
            self._check_entry(node, scope, is_plain=is_plain)
        elif isinstance(node, nodes.Filter | nodes.Test):
            self._check_filter(node, scope)
        elif isinstance(node, (*_PASSING, *_COMPUTING, *_LITERALS)):
            for child in node.iter_child_nodes():
                self._check_expression(child, scope, is_plain=is_plain and isinstance(node, _PASSING))
        else:
            self._refuse(node)

    def _check_name(self, node: nodes.Name, scope: _Scope, *, is_plain: bool) -> None:
        if node.name not in VARIABLES | scope.bound:
            message = f"names the unknown variable {node.name}; there are {', '.join(sorted(VARIABLES))}"
            self._find(node, message, "use one of these, or take it out")
        elif scope.own and node.name not in scope.own and not is_plain:
            mend = "inside a loop, compute with its own item only; the others may be written or tested as they are"
            self._find(node, f"computes with {node.name} inside a loop", mend)

    def _check_entry(self, node: nodes.Getattr | nodes.Getitem, scope: _Scope, *, is_plain: bool) -> None:
        name = node.attr if isinstance(node, nodes.Getattr) else None
        if isinstance(node, nodes.Getitem):
            name = node.arg.value if isinstance(node.arg, nodes.Const) else None
            self._check_expression(node.arg, scope, is_plain=False)
        if isinstance(name, str) and name.startswith("_"):
            self._find(node, f"asks for {name}", "a template sees fields of prompts only; take it out")
        self._check_expression(node.node, scope, is_plain=is_plain and not _is_slice(node))

    def _check_filter(self, node: nodes.Filter | nodes.Test, scope: _Scope) -> None:
        kind, known = ("filter", FILTERS) if isinstance(node, nodes.Filter) else ("test", TESTS)
        if node.name not in known:
            self._find(node, f"has the {kind} {node.name}", f"use another; there are {', '.join(sorted(known))}")
        if node.dyn_args is not None or node.dyn_kwargs is not None:
            self._find(node, f"spreads the arguments of {node.name}", "name each argument")
        if kind == "filter":
            self._check_growth(node)
        for argument in (*node.args, *(pair.value for pair in node.kwargs)):
            # A filter could copy a long argument once for every item.
            if kind == "filter" and node.name != "default" and not _is_short(argument):
                mend = f"give the text or number itself, up to {_MAX_ARGUMENT_CHARS} characters"
                self._find(node, f"gives {node.name} an argument that is computed or long", mend)
            else:
                self._check_expression(argument, scope, is_plain=False)
        if node.node is not None:
            self._check_expression(node.node, scope, is_plain=False)

    def _check_growth(self, node: nodes.Filter | nodes.Test) -> None:
        """Joining makes text longer by a factor, so nothing is joined again."""
        if node.name == "map" and (node.args or "attribute" not in {pair.key for pair in node.kwargs}):
            self._find(node, "has map without attribute=", 'take one field of each item, as map(attribute="text")')
        if node.name == "join" and any(inner.name == "join" for inner in node.find_all(nodes.Filter)):
            self._find(node, "joins what is joined already", "join once; loop over the outer list")

    def _refuse(self, node: nodes.Node) -> None:
        if isinstance(node, nodes.BinExpr):
            self._find(node, f"computes with {node.operator}", "a template adds and subtracts only; write the text out")
        else:
            construct, mend = _REFUSED.get(type(node), (type(node).__name__, "take it out"))
            self._find(node, f"has {construct}, which templates do not", mend)

    def _find(self, node: nodes.Node, message: str, mend: str) -> None:
        self.findings.append(Finding(self.shown, node.lineno or 0, "", message, mend))


def _root(node: nodes.Node) -> str | None:
    """The name of whose entries `node` is a part; None for what is put together anew."""
    while isinstance(node, nodes.Getattr | nodes.Getitem | nodes.Filter):
        if isinstance(node, nodes.Filter) and node.name in {"default", "join"}:
            return None
        assert node.node is not None, "only filter blocks have nothing to filter"
        node = node.node
    return node.name if isinstance(node, nodes.Name) else None


def _is_slice(node: nodes.Getattr | nodes.Getitem) -> bool:
    return isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice)


def _is_short(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Const) and len(str(node.value)) <= _MAX_ARGUMENT_CHARS


def _is_large(node: nodes.Node) -> bool:
    """Whether it has too many parts. Counted without recursion, since it may be as deep as it is large."""
    left: list[Iterable[nodes.Node]] = [[node]]
    count = 0
    while left and count <= _MAX_EXPRESSION:
        children = list(left.pop())
        count += len(children)
        left.extend(child.iter_child_nodes() for child in children)
    return count > _MAX_EXPRESSION
