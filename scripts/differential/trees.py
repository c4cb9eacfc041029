"""Ensembles of decision trees of ai.onnx.ml."""

import dataclasses

import numpy as np
from onnx import numpy_helper

from .learning import ML, TRANSFORMS, floats, labelled, rows
from .microsoft import case_of
from .registry import operator
from .schema import F32, F64, U8

MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]


def grown(c, width, mode, deep=3):
    """A tree: a branch is a tuple (mode, feature, threshold, missing, true, false), a leaf None."""
    if not deep or c.random.chance(0.25):
        return None
    mode = mode or c.random.pick(range(len(MODES)))
    # Halves, which the features are now and then.
    split = c.random.int(-4, 4) / 2
    return (mode, c.random.int(0, width - 1), split, c.random.int(0, 1), grown(c, width, mode, deep - 1),
            grown(c, width, mode, deep - 1))


def forest(c, width):
    mode = c.random.pick([0, 0, None])
    return [grown(c, width, mode) for _ in range(c.random.int(1, 3))]


def earlier(case, dtype):
    """The case with the equivalent of features in `dtype` before version 5, which says only that there is a newer one.

    onnxruntime refuses that version.
    """
    other = dataclasses.replace(case, opset=min(case.opset, 3), inputs=[np.atleast_2d(case.inputs[0]).astype(dtype)])
    case.equivalent = other, lambda outputs: outputs
    return case


def features(c):
    """Rows, in floats now and then with NaN."""
    x = rows(c, style=c.random.pick(["plain", "whole", "nan"]))
    return np.round(x * 2) / 2 if x.dtype.kind == "f" and c.random.chance(0.3) else x


def listed(trees):
    """The attributes of the nodes, and the leaves as (tree, node)."""
    names = ("treeids", "nodeids", "modes", "featureids", "values", "missing_value_tracks_true", "truenodeids",
             "falsenodeids")
    table, leaves = {name: [] for name in names}, []

    def add(tree, node):
        place = len([one for one in table["treeids"] if one == tree])
        mode, feature, value, missing, yes, no = node or (None, 0, 0.0, 0, None, None)
        row = [tree, place, "LEAF" if node is None else MODES[mode], feature, value, missing, 0, 0]
        for name, value in zip(names, row):
            table[name].append(value)
        index = len(table["treeids"]) - 1
        if node is None:
            leaves.append((tree, place))
        else:
            table["truenodeids"][index], table["falsenodeids"][index] = add(tree, yes), add(tree, no)
        return place

    for tree, node in enumerate(trees):
        add(tree, node)
    return {f"nodes_{name}": values for name, values in table.items()}, leaves


def voted(c, prefix, leaves, targets):
    """Attributes with one weight or more of each leaf."""
    rows = [(*leaf, target) for leaf in leaves for target in sorted(c.random.some(targets, 1))]
    trees, nodes, ids = (list(column) for column in zip(*rows))
    low = c.random.pick([0.0, -2.0])
    return {f"{prefix}_treeids": trees, f"{prefix}_nodeids": nodes, f"{prefix}_ids": ids,
            f"{prefix}_weights": floats(c, len(rows), low)}


@operator("TreeEnsembleRegressor", domain=ML)
def tree_regressor(c):
    x, targets = features(c), c.random.int(1, 3)
    attributes, leaves = listed(forest(c, x.shape[-1]))
    attributes.update(voted(c, "target", leaves, range(targets)), n_targets=targets)
    if c.random.chance(0.6):
        attributes["aggregate_function"] = c.random.pick(["SUM", "AVERAGE", "MIN", "MAX"])
    if c.random.chance(0.4):
        attributes["base_values"] = floats(c, targets)
    if c.random.chance(0.4):
        attributes["post_transform"] = c.random.pick(TRANSFORMS[:4])
    return earlier(case_of(c, [x], attributes), F32)


@operator("TreeEnsembleClassifier", domain=ML)
def tree_classifier(c):
    x, classes = features(c), c.random.int(2, 4)
    attributes, leaves = listed(forest(c, x.shape[-1]))
    one = c.random.int(0, 1)
    votes = [one] if classes == 2 and c.random.chance(0.5) else range(classes)
    attributes.update(voted(c, "class", leaves, votes))
    if c.random.chance(0.3) and set(votes) != {one}:
        attributes["base_values"] = floats(c, classes)
    if c.random.chance(0.5):
        attributes["post_transform"] = c.random.pick(TRANSFORMS[:4])
    return earlier(labelled(c, [x], attributes, classes, "classlabels_int64s"), x.dtype)


@operator("TreeEnsemble", domain=ML)
def tree_ensemble(c):
    dtype = c.random.pick([F32, F64])
    x = np.atleast_2d(rows(c, dtype, style=c.random.pick(["plain", "whole", "nan"])))
    trees, targets = forest(c, x.shape[-1]), c.random.int(1, 3)
    # A root is a branch.
    trees = [tree or (0, 0, 0.0, 0, None, None) for tree in trees]
    nodes, leaves = [], []

    def add(node):
        if node is None:
            leaves.append((c.random.int(0, targets - 1), c.random.float()))
            return len(leaves) - 1, 1
        place = len(nodes)
        nodes.append(None)
        mode, feature, split, missing, yes, no = node
        (yes, yes_leaf), (no, no_leaf) = add(yes), add(no)
        nodes[place] = (mode, feature, split, missing, yes, yes_leaf, no, no_leaf)
        return place, 0

    roots = [add(tree)[0] for tree in trees]
    modes, ids, splits, missing, yes, yes_leaf, no, no_leaf = (list(column) for column in zip(*nodes))
    attributes = {
        "tree_roots": roots, "n_targets": targets, "nodes_featureids": ids, "nodes_truenodeids": yes,
        "nodes_falsenodeids": no, "nodes_trueleafs": yes_leaf, "nodes_falseleafs": no_leaf,
        "nodes_missing_value_tracks_true": missing, "leaf_targetids": [target for target, _ in leaves],
        "nodes_modes": numpy_helper.from_array(np.asarray(modes, U8)),
        "nodes_splits": numpy_helper.from_array(np.asarray(splits, dtype)),
        "leaf_weights": numpy_helper.from_array(np.asarray([weight for _, weight in leaves], dtype)),
    }
    if c.random.chance(0.5):
        attributes["aggregate_function"] = c.random.int(0, 3)
    if c.random.chance(0.4):
        attributes["post_transform"] = c.random.int(0, 3)
    return case_of(c, [x], attributes, types=[dtype])
