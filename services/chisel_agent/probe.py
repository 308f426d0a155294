"""Asked of a base interpreter, by running this text with it: what it is, what it has, and whether
that satisfies given requirements. Standard library only; prints one JSON object.

    python -c TEXT                  what it is
    python -c TEXT check FILE       is every requirement in FILE met by what is installed?
    python -c TEXT fits SPECIFIER   is its version one of these? null when it cannot tell
"""

import importlib.metadata
import json
import os
import platform
import sys


def describe() -> dict[str, object]:
    installed = sorted(
        {(d.metadata["Name"] or "", d.version or "") for d in importlib.metadata.distributions()}
    )
    folders = [path for path in sys.path if path.endswith("-packages") and os.path.isdir(path)]
    return {
        "version": platform.python_version(),
        "implementation": sys.implementation.cache_tag,
        "platform": platform.platform(terse=True) + " " + platform.machine(),
        "executable": sys.executable,
        "prefix": sys.prefix,
        "packages": folders,
        "installed": installed,
        "pip": importlib.util.find_spec("pip") is not None,
    }


def satisfied(path: str) -> bool:
    """False also for everything but plain requirements: then the installer decides."""
    try:
        from packaging.requirements import InvalidRequirement, Requirement
    except ImportError:
        try:
            from pip._vendor.packaging.requirements import (  # type: ignore[assignment]
                InvalidRequirement,
                Requirement,
            )
        except ImportError:
            return False
    with open(path, encoding="utf-8") as file:
        lines = json.load(file)
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            return False
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        if requirement.url or requirement.extras:
            return False
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            return False
        if not requirement.specifier.contains(version, prereleases=True):
            return False
    return True


def fits(specifier: str) -> bool | None:
    try:
        from packaging.specifiers import InvalidSpecifier, SpecifierSet
    except ImportError:
        try:
            from pip._vendor.packaging.specifiers import (  # type: ignore[assignment]
                InvalidSpecifier,
                SpecifierSet,
            )
        except ImportError:
            return None
    try:
        return SpecifierSet(specifier).contains(platform.python_version(), prereleases=True)
    except InvalidSpecifier:
        return False


def main() -> None:
    import importlib.util  # noqa: F401 - importing `metadata` alone does not promise it

    answer: object
    match sys.argv[1:]:
        case ["check", path]:
            answer = satisfied(path)
        case ["fits", specifier]:
            answer = fits(specifier)
        case _:
            answer = describe()
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
