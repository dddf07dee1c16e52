"""Read the cluster YAML and say everything that is wrong with it at once.

`load_config` returns a valid `ClusterConfig` or raises `ConfigError` with one line a mistake: `FILE:LINE: key.path:
what is wrong, what was expected`. Only what an option of `model.py` asks for is looked at, a file and its nesting are
bounded, and no YAML tag constructs anything: an untrusted file costs a bounded amount of work. Texts are taken as they
are written (`mode: off` is the word, not YAML 1.1's false).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from rocinante import limits
from rocinante.config import check
from rocinante.config.flows import flow_options
from rocinante.config.model import (
    AuthOptions,
    ClusterConfig,
    Controller,
    Datacenter,
    FlowOptions,
    IngressLimits,
    LogOptions,
    RestOptions,
    Rotation,
    StorageEngine,
    StorageOptions,
    Timers,
)
from rocinante.config.values import Problems, Section
from rocinante.errors import ConfigError
from rocinante.identity import endpoint

_SECTIONS: Final[dict[str, type]] = {
    "timers": Timers,
    "rotation": Rotation,
    "storage": StorageOptions,
    "limits": IngressLimits,
    "flows": FlowOptions,
    "log": LogOptions,
    "rest": RestOptions,
    "auth": AuthOptions,
}
_CLUSTER_KEYS: Final = ("name", "datacenter", "controllers", *_SECTIONS, "datacenters")
_CONTROLLER_KEYS: Final = ("name", "address", "port", "rest", "wwwroot")
_DATACENTER_KEYS: Final = ("name", "controllers")
_ENDPOINT_KEYS: Final = ("address", "port")


def load_config(path: str | Path) -> tuple[ClusterConfig, list[str]]:
    """The configuration in the file, and warnings (one line each) about what will work but not as written.

    Raises ConfigError, whose `problems` list every mistake that was found, in the order of the lines.
    """
    problems = Problems(str(path))
    root = _compose(Path(path), problems)
    problems.stop_if_any()
    config = _artifact(Section(root, "", problems)) if root is not None else None
    problems.stop_if_any()
    if config is None:
        raise ConfigError([f"{path}:1: artifact: the file is empty, expected artifact: {{cluster: …}}"])
    return config, problems.warnings


class _BoundedLoader(yaml.SafeLoader):
    """Composes nodes only (nothing is constructed), and not endlessly many or endlessly deep."""

    nodes = 0
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        self.nodes += 1
        self.depth += 1
        if self.nodes > limits.CONFIG_NODES_MAX:
            raise yaml.MarkedYAMLError(problem=f"more than {limits.CONFIG_NODES_MAX} values", problem_mark=mark)
        if self.depth > limits.CONFIG_DEPTH_MAX:
            raise yaml.MarkedYAMLError(
                problem=f"nested deeper than {limits.CONFIG_DEPTH_MAX} levels", problem_mark=mark
            )
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def _compose(path: Path, problems: Problems) -> yaml.Node | None:
    """The file's one document as nodes with line marks; None when it holds none."""
    try:
        with path.open("rb") as file:
            content = file.read(limits.CONFIG_FILE_BYTES_MAX + 1)
    except OSError as error:
        problems.add(0, "", f"cannot be read: {error.strerror}")
        return None
    if len(content) > limits.CONFIG_FILE_BYTES_MAX:
        problems.add(0, "", f"is larger than {limits.CONFIG_FILE_BYTES_MAX} bytes: not a cluster configuration")
        return None
    try:
        text = content.decode("utf-8-sig")
        loader = _BoundedLoader(text)
        try:
            return loader.get_single_node()
        finally:
            loader.dispose()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problems.add(line, "", "is not UTF-8 text")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problems.add(mark.line + 1 if mark else 0, "", f"not YAML: {_reason(error)}")
    except yaml.YAMLError as error:
        problems.add(0, "", f"not YAML: {' '.join(str(error).split())}")
    return None


def _reason(error: yaml.MarkedYAMLError) -> str:
    return ", ".join(" ".join(text.split()) for text in (error.context, error.problem) if text)


def _artifact(top: Section) -> ClusterConfig | None:
    top.only(("artifact",))
    artifact = top.section("artifact", required=True)
    if artifact is None:
        return None
    artifact.only(("cluster", "cleanupOnFailure"))
    cleanup = artifact.boolean("cleanupOnFailure", default=False)
    cluster = artifact.section("cluster", required=True)
    if cluster is None:
        return None
    cluster.only(_CLUSTER_KEYS)
    name = cluster.name("name")
    datacenter = cluster.name("datacenter", default="dc1")
    uses = check.Uniqueness(cluster.problems)
    controllers = _controllers(cluster, uses)
    datacenters = _datacenters(cluster, datacenter, uses)
    sections = {key: _options(cluster, key, model) for key, model in _SECTIONS.items()}
    check.relations(cluster, sections["timers"], sections["rotation"])
    if cluster.problems.found or name is None or datacenter is None:
        return None
    return ClusterConfig(name, controllers, datacenter, cleanup, datacenters, **sections)


def _options(cluster: Section, key: str, model: type) -> Any:
    """An instance of one of the option dataclasses; what is absent or wrong (and reported) has its default."""
    if key == "storage" and (word := cluster.word(key)) is not None:
        # The short form of DESIGN section 6: `storage: memory`.
        engine = cluster.choice_of(key, word, StorageEngine)
        return StorageOptions(engine=StorageEngine(engine)) if engine else StorageOptions()
    section = cluster.section(key)
    if section is None:
        return model()
    return flow_options(section) if model is FlowOptions else section.options(model)


def _controllers(cluster: Section, uses: check.Uniqueness) -> tuple[Controller, ...]:
    items = cluster.items("controllers", maximum=limits.CONFIG_CONTROLLERS_MAX)
    controllers = []
    roots: dict[str, tuple[int, str]] = {}
    for position, item in enumerate(items, 1):
        controller = _controller(item, position, uses, roots)
        if controller is not None:
            controllers.append(controller)
    check.warn_wwwroots(cluster.problems, roots)
    if len(controllers) == len(items):
        check.warn_size(cluster, len(items))
    return tuple(controllers)


def _controller(
    item: Section, position: int, uses: check.Uniqueness, roots: dict[str, tuple[int, str]]
) -> Controller | None:
    if not item.is_mapping("address, port and rest"):
        return None
    item.only(_CONTROLLER_KEYS)
    name = item.name("name", default=f"node{position}")
    address = item.address("address")
    port = item.integer("port", None, 1, 65_535, "a port")
    rest = item.integer("rest", None, 1, 65_535, "a port")
    root = item.path_value("wwwroot", "an absolute path")
    if root is not None and not root.is_dir():
        roots.setdefault(str(root), (item.line_of("wwwroot"), item.path_of("wwwroot")))
        root = None
    if name is not None:
        uses.name(item, name)
    if address is not None:
        for key, number in (("port", port), ("rest", rest)):
            if number is not None:
                uses.endpoint(item, key, address, number)
    if name is None or address is None or port is None or rest is None:
        return None
    return Controller(name, address, port, rest, root)


def _datacenters(cluster: Section, own: str | None, uses: check.Uniqueness) -> tuple[Datacenter, ...]:
    """The other datacenters. They have names of their own, and no address twice, nor one of this cluster."""
    names = check.Uniqueness(cluster.problems)
    found = []
    for item in cluster.items("datacenters", minimum=0, maximum=limits.CONFIG_DATACENTERS_MAX):
        if not item.is_mapping("name and controllers"):
            continue
        item.only(_DATACENTER_KEYS)
        name = item.name("name")
        if name is not None and name == own:
            item.complain("name", f"{name!r} is this datacenter, expected another")
        elif name is not None:
            names.name(item, name)
        places = [_place(it, uses) for it in item.items("controllers", maximum=limits.CONFIG_CONTROLLERS_MAX)]
        if name is not None:
            found.append(Datacenter(name, tuple(filter(None, places))))
    return tuple(found)


def _place(item: Section, uses: check.Uniqueness) -> str:
    """Where a controller of another datacenter listens; nothing after a complaint."""
    if not item.is_mapping("address and port"):
        return ""
    item.only(_ENDPOINT_KEYS)
    address = item.address("address")
    port = item.integer("port", None, 1, 65_535, "a port")
    if address is None or port is None:
        return ""
    uses.endpoint(item, "port", address, port)
    return endpoint(address, port)
