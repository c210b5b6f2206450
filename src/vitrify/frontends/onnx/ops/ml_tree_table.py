"""Decision trees as tables of nodes, checked: every child exists, nothing is reached twice, leaves end it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vitrify.frontends.onnx.body import Array
from vitrify.frontends.onnx.call import Call

# mode: whether the answer is yes below the value, at it, above it
MODES = {
    "BRANCH_LEQ": (True, True, False), "BRANCH_LT": (True, False, False), "BRANCH_GTE": (False, True, True),
    "BRANCH_GT": (False, False, True), "BRANCH_EQ": (False, True, False), "BRANCH_NEQ": (True, False, True),
}  # fmt: skip
NAMES = tuple(MODES)  # in the order of TreeEnsemble's numbers; 6 asks for membership of a set
MEMBER = 6


@dataclass
class Trees:
    """Nodes of all trees in one table. A leaf is its own child; ``missing`` is the answer for NaN."""

    feature: Array
    value: Array
    below: Array
    equal: Array
    above: Array
    missing: Array
    yes: Array
    no: Array
    leaf: Array
    roots: Array
    depth: int = 0
    number: dict[tuple[int, int], int] = field(default_factory=dict)


class _Rows:
    """Nodes as they are added."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, float, str, bool, int, int]] = []

    def add(self, feature: int, value: float, mode: str, missing: bool, yes: int, no: int) -> int:
        self.rows.append((feature, value, mode, missing, yes, no))
        return len(self.rows) - 1

    def leaf(self) -> int:
        here = len(self.rows)
        return self.add(0, 0.0, "LEAF", False, here, here)

    def trees(self, roots: Sequence[int], dtype: np.dtype[np.generic]) -> Trees:
        feature, value, mode, missing, yes, no = (list(c) for c in zip(*self.rows, strict=True))
        parts = [MODES.get(str(m), (False, False, False)) for m in mode]
        below, equal, above = (np.array([p[i] for p in parts], bool) for i in range(3))
        different = below & above & ~equal  # NaN differs from everything
        return Trees(
            np.array(feature, np.int64), np.array(value, dtype), below, equal, above,
            np.array(missing, bool) | different, np.array(yes, np.int64), np.array(no, np.int64),
            np.array([m == "LEAF" for m in mode]), np.array(roots, np.int64),
        )  # fmt: skip


def _depth(trees: Trees) -> int:
    """How many comparisons lead to the deepest leaf. The nodes have no cycle."""
    level, depth = trees.roots, 0
    while len(inner := level[~trees.leaf[level]]):
        level = np.unique(np.concatenate([trees.yes[inner], trees.no[inner]]))
        depth += 1
    return depth


def _check_trees(n: Call, trees: Trees, names: Sequence[str]) -> None:
    """Each node hangs from one parent, and is no tree's root then."""
    seen = np.zeros(len(trees.feature), bool)
    level = trees.roots
    while len(level):
        ordered = np.sort(level)
        again = np.concatenate([ordered[1:][ordered[1:] == ordered[:-1]], level[seen[level]]])
        n.check(not len(again), f"{names[again[0]] if len(again) else ''} is reached twice: the nodes are no tree")
        seen[level] = True
        inner = level[~trees.leaf[level]]
        level = np.concatenate([trees.yes[inner], trees.no[inner]])


def trees_of_attributes(n: Call, values: Array | None) -> Trees:
    """The trees of TreeEnsembleClassifier and TreeEnsembleRegressor."""
    a = n.attributes
    a.ignore("nodes_hitrates", "nodes_hitrates_as_tensor")
    tree, node = a.integers("nodes_treeids") or [], a.integers("nodes_nodeids") or []
    modes, feature = a.texts("nodes_modes") or [], a.integers("nodes_featureids") or []
    yes, no = a.integers("nodes_truenodeids") or [], a.integers("nodes_falsenodeids") or []
    missing = a.integers("nodes_missing_value_tracks_true") or [0] * len(node)
    limits = np.zeros(len(node), np.float32) if values is None else values
    lengths = [len(c) for c in (tree, node, modes, feature, yes, no, limits, missing)]
    n.check(len(set(lengths)) == 1 and lengths[0] > 0, f"the nodes' attributes have the lengths {lengths}")
    number = {key: i for i, key in enumerate(zip(tree, node, strict=True))}
    names = [f"node {b} of tree {t}" for t, b in zip(tree, node, strict=True)]
    n.check(len(number) == len(node), "two nodes of a tree have one id")
    rows = _Rows()
    for i, mode in enumerate(modes):
        n.check(mode in MODES or mode == "LEAF", f"{names[i]} has the mode {mode!r}")
        n.check(mode == "LEAF" or feature[i] >= 0, f"{names[i]} reads column {feature[i]}")
        children = []
        for child in (yes[i], no[i]):
            there = i if mode == "LEAF" else number.get((tree[i], child), -1)
            n.check(there >= 0, f"{names[i]} leads to node {child}, which there is none of")
            children.append(there)
        here = 0 if mode == "LEAF" else feature[i]
        rows.add(here, limits[i], mode, bool(missing[i]) and mode != "LEAF", *children)
    roots: dict[int, int] = {}
    for i, t in enumerate(tree):
        roots.setdefault(t, i)  # a tree's first node
    trees = rows.trees(list(roots.values()), limits.dtype)
    _check_trees(n, trees, names)
    trees.depth, trees.number = _depth(trees), number
    return trees


def trees_of_ensemble(n: Call) -> tuple[Trees, tuple[Array, Array, Array]]:
    """The trees of TreeEnsemble, and node, target and weight of what each leaf gives."""
    a = n.attributes
    a.ignore("nodes_hitrates")
    source = _Ensemble(n)
    roots = a.integers("tree_roots") or []
    n.check(bool(roots), "no tree_roots")
    for root in roots:
        source.check(root, False, "a root")
    starts = [source.copy_of(root, source.is_single(root)) for root in roots]
    trees = source.rows.trees(starts, source.splits.dtype)
    trees.depth = _depth(trees)
    nodes, leaves = np.array(source.leaf_nodes, np.int64), np.array(source.leaf_numbers, np.int64)
    return trees, (nodes, source.targets[leaves], source.weights[leaves])


Link = tuple[int, list[int], list[int]]  # a node, and where its children's numbers will be


class _Ensemble:
    """TreeEnsemble's attributes; its nodes are copied from the roots on, each once."""

    def __init__(self, n: Call) -> None:
        a = n.attributes
        self.n = n
        self.rows = _Rows()
        self.leaf_nodes: list[int] = []
        self.leaf_numbers: list[int] = []
        self.splits = _tensor(n, "nodes_splits", None)
        self.modes = _tensor(n, "nodes_modes", None)
        self.feature, self.yes, self.no = (
            a.integers(f"nodes_{name}") or [] for name in ("featureids", "truenodeids", "falsenodeids")
        )
        self.yes_leaf, self.no_leaf = a.integers("nodes_trueleafs") or [], a.integers("nodes_falseleafs") or []
        self.missing = a.integers("nodes_missing_value_tracks_true") or [0] * len(self.feature)
        columns = (
            self.splits, self.modes, self.feature, self.yes, self.no, self.yes_leaf, self.no_leaf, self.missing,
        )  # fmt: skip
        lengths = [len(c) for c in columns]
        n.check(len(set(lengths)) == 1 and lengths[0] > 0, f"the nodes' attributes have the lengths {lengths}")
        self.targets = np.array(a.integers("leaf_targetids") or [], np.int64)
        self.weights = _tensor(n, "leaf_weights", None)
        same = len(self.targets) == len(self.weights) > 0
        n.check(same, f"{len(self.targets)} leaf_targetids and {len(self.weights)} leaf_weights")
        self.sets = self._sets()
        self._copied: set[int] = set()

    def _sets(self) -> dict[int, Array]:
        """The members of each node's set; NaN ends a set."""
        values = _tensor(self.n, "membership_values", self.splits[:0])
        askers = [i for i, mode in enumerate(self.modes) if mode == MEMBER]
        ends = np.flatnonzero(np.isnan(values))
        fits = len(ends) == len(askers) and (not len(values) or bool(np.isnan(values[-1])))
        self.n.check(fits, f"membership_values has {len(ends)} sets for {len(askers)} nodes")
        starts = [0, *(int(e) + 1 for e in ends[:-1])]
        return {i: np.unique(values[s:e]) for i, s, e in zip(askers, starts, ends, strict=False)}

    def check(self, child: int, leaf: bool, parent: str) -> None:
        count = len(self.targets) if leaf else len(self.feature)
        what = "leaf" if leaf else "node"
        self.n.check(0 <= child < count, f"{parent} leads to {what} {child}, which there is none of")

    def is_single(self, root: int) -> bool:
        """A tree that is one leaf, which both branches of its root name."""
        return bool(self.yes_leaf[root] and self.no_leaf[root] and self.yes[root] == self.no[root])

    def _leaf(self, leaf: int) -> int:
        here = self.rows.leaf()
        self.leaf_nodes.append(here)
        self.leaf_numbers.append(leaf)
        return here

    def copy_of(self, root: int, single: bool) -> int:
        if single:
            self.check(self.yes[root], True, f"node {root}")
            return self._leaf(self.yes[root])
        holder = [-1]
        waiting = [(root, holder)]  # a node to copy, and where its number goes
        links: list[Link] = []
        while waiting:
            node, slot = waiting.pop()
            self.n.check(node not in self._copied, f"node {node} is reached twice: the nodes are no tree")
            self._copied.add(node)
            yes, no = [-1], [-1]
            sides = ((yes, self.yes[node], self.yes_leaf[node]), (no, self.no[node], self.no_leaf[node]))
            for side, child, is_leaf in sides:
                self.check(child, bool(is_leaf), f"node {node}")
                if is_leaf:
                    side[0] = self._leaf(child)
                else:
                    waiting.append((child, side))
            slot[0] = self._node(node, links, yes, no)
        for place, yes, no in links:
            feature, value, mode, missing, _, _ = self.rows.rows[place]
            self.rows.rows[place] = (feature, value, mode, missing, yes[0], no[0])
        return holder[0]

    def _node(self, node: int, links: list[Link], yes: list[int], no: list[int]) -> int:
        mode = int(self.modes[node])
        self.n.check(0 <= mode <= MEMBER, f"node {node} has the mode {mode}")
        feature, missing = self.feature[node], bool(self.missing[node])
        self.n.check(feature >= 0, f"node {node} reads column {feature}")
        if mode == MEMBER:
            return self._search(feature, missing, self.sets[node], links, yes, no)
        place = self.rows.add(feature, self.splits[node], NAMES[mode], missing, -1, -1)
        links.append((place, yes, no))
        return place

    def _search(
        self, feature: int, missing: bool, members: Array, links: list[Link], yes: list[int], no: list[int]
    ) -> int:
        """Membership as a search: the greater half or the lesser, down to one member. NaN ends at the last."""
        if len(members) <= 1:
            value = members[0] if len(members) else np.nan
            place = self.rows.add(feature, value, "BRANCH_EQ", missing, -1, -1)
            links.append((place, yes, no))
            return place
        middle = (len(members) - 1) // 2
        low = self._search(feature, missing, members[: middle + 1], links, yes, no)
        high = self._search(feature, missing, members[middle + 1 :], links, yes, no)
        return self.rows.add(feature, members[middle], "BRANCH_LEQ", False, low, high)


def _tensor(n: Call, name: str, default: Array | None) -> Array:
    array = n.attributes.tensor(name)
    if array is None:
        if default is None:
            n.invalid(f"attribute {name!r} is missing")
        return default
    return array.reshape(-1)
