"""The tree of errors that errors.py draws is that of its classes."""

from __future__ import annotations

from collections.abc import Iterator

from infra_scripts import errors


def test_the_drawn_tree_of_errors_is_that_of_the_classes() -> None:
    def draw(kind: type[Exception], *, depth: int) -> Iterator[tuple[int, str, int]]:
        yield depth, kind.__name__, getattr(kind, "exit_code", 0)
        for child in kind.__subclasses__():
            yield from draw(child, depth=depth + 1)

    drawn = []
    code = errors.InfraError.exit_code
    for line in (errors.__doc__ or "").splitlines():
        name = next((word for word in line.split() if word.endswith("Error")), "")
        if (name and line.endswith(name)) or "── " in line:
            rest = line.split(name, 1)[1].strip()
            code = int(rest.partition(":")[0]) if rest[:1].isdigit() else code
            drawn.append((line.index(name) // 4, name, code))
    assert drawn == list(draw(errors.InfraError, depth=0))
    assert all(name.endswith("Error") for _, name, _ in drawn)
