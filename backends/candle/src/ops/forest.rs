//! Ensembles of decision trees, checked at load.
//!
//! * F1: every branch leads to a node of the ensemble, and each branch is reached by one path, so that an evaluation
//!   ends after at most as many steps as the tree has nodes.
//! * F2: the target of every score is less than the number of targets.
//!
//! Numbers are compared and summed in f64, which holds every f32 exactly.

use std::collections::HashMap;

use crate::compute::context::{Checkpoint, ExecContext};
use crate::ops::node::Node;
use crate::tensor::element::ElementType;
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// The largest number of targets.
const MAX_TARGETS: usize = 1 << 24;

/// How a branch compares a feature to its threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    LessOrEqual,
    Less,
    GreaterOrEqual,
    Greater,
    Equal,
    NotEqual,
    /// Whether the feature is in a set.
    Member,
}

impl Mode {
    /// The mode of a number in TreeEnsemble.
    pub(super) fn numbered(number: u8) -> Result<Self, Error> {
        const MODES: [Mode; 7] = [
            Mode::LessOrEqual,
            Mode::Less,
            Mode::GreaterOrEqual,
            Mode::Greater,
            Mode::Equal,
            Mode::NotEqual,
            Mode::Member,
        ];
        let mode = MODES.get(usize::from(number)).copied();
        mode.ok_or_else(|| Error::invalid_encoding(format!("the mode {number} is not between 0 and 6")))
    }

    /// The mode of a name; `None` for a leaf.
    fn named(name: &str) -> Result<Option<Self>, Error> {
        Ok(Some(match name {
            "LEAF" => return Ok(None),
            "BRANCH_LEQ" => Self::LessOrEqual,
            "BRANCH_LT" => Self::Less,
            "BRANCH_GTE" => Self::GreaterOrEqual,
            "BRANCH_GT" => Self::Greater,
            "BRANCH_EQ" => Self::Equal,
            "BRANCH_NEQ" => Self::NotEqual,
            _ => return Err(Error::invalid_encoding("attribute nodes_modes has a mode that ONNX does not define")),
        }))
    }
}

/// Where a branch leads.
#[derive(Debug, Clone, Copy)]
pub(super) enum Next {
    Branch(u32),
    Leaf(u32),
}

/// A node that compares.
#[derive(Debug, Clone, Copy)]
pub(super) struct Branch {
    pub(super) feature: u32,
    pub(super) mode: Mode,
    /// Whether a NaN takes the true branch.
    pub(super) missing: bool,
    pub(super) threshold: f64,
    /// The range in `members` that is the set of [`Mode::Member`].
    pub(super) set: (u32, u32),
    pub(super) if_true: Next,
    pub(super) if_false: Next,
}

/// How the scores of the trees are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

/// An ensemble.
pub(super) struct Forest {
    pub(super) branches: Vec<Branch>,
    pub(super) members: Vec<f64>,
    /// The range in `weights` of the scores of each leaf.
    pub(super) leaves: Vec<(u32, u32)>,
    /// Targets and scores.
    pub(super) weights: Vec<(u32, f64)>,
    pub(super) roots: Vec<Next>,
    pub(super) targets: usize,
    pub(super) aggregate: Aggregate,
}

impl Forest {
    /// Checks F1 and F2. With `leaves_shared`, several branches may lead to one leaf.
    pub(super) fn check(&self, leaves_shared: bool) -> Result<(), Error> {
        if self.targets == 0 || self.targets > MAX_TARGETS {
            let why = format!("there are {} targets; the number must be between 1 and {MAX_TARGETS}", self.targets);
            return Err(Error::invalid_encoding(why));
        }
        if self.weights.iter().any(|&(target, _)| target as usize >= self.targets) {
            return Err(Error::invalid_encoding(format!(
                "a score has a target that is not below {}, the number of targets",
                self.targets
            )));
        }
        let mut branches = vec![false; self.branches.len()];
        let mut leaves = vec![false; self.leaves.len()];
        let mut reached = 0;
        let mut stack: Vec<Next> = Vec::new();
        for &root in &self.roots {
            stack.push(root);
            while let Some(next) = stack.pop() {
                let (seen, shared) = match next {
                    Next::Branch(index) => (branches.get_mut(index as usize), false),
                    Next::Leaf(index) => (leaves.get_mut(index as usize), leaves_shared),
                };
                let seen =
                    seen.ok_or_else(|| Error::invalid_encoding("a branch leads to a node that does not exist"))?;
                if *seen && !shared {
                    return Err(Error::invalid_encoding("a node of a tree is reached by two paths, or from itself"));
                }
                reached += usize::from(!*seen);
                *seen = true;
                if let Next::Branch(index) = next
                    && let Some(branch) = self.branches.get(index as usize)
                {
                    stack.extend([branch.if_true, branch.if_false]);
                }
            }
        }
        if reached < branches.len() + leaves.len() {
            return Err(Error::invalid_encoding("a node of a tree is reached from no root"));
        }
        Ok(())
    }

    /// Bytes of memory that the ensemble takes.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.branches)
            + size_of_val(&*self.members)
            + size_of_val(&*self.leaves)
            + size_of_val(&*self.weights)
            + size_of_val(&*self.roots)
    }

    /// Checks that a row of `columns` features has every feature that a branch compares.
    pub(super) fn fits(&self, columns: usize) -> Result<(), Error> {
        match self.branches.iter().map(|branch| branch.feature as usize).max() {
            Some(last) if last >= columns => Err(Error::invalid_argument(format!(
                "a row has {columns} features, and a tree compares feature {last}"
            ))),
            _ => Ok(()),
        }
    }

    /// Computes the scores of one row, whose number of features [`fits`](Self::fits), into `scores`, which must be 0.
    /// Sets `seen` for each target with a score.
    pub(super) fn score(
        &self,
        row: &[f64],
        scores: &mut [f64],
        seen: &mut [bool],
        checkpoint: &mut Checkpoint,
        cx: &ExecContext<'_>,
    ) -> Result<(), Error> {
        seen.fill(false);
        for &root in &self.roots {
            let (begin, end) = self.leaves[self.leaf(root, row, checkpoint, cx)? as usize];
            let weights = &self.weights[begin as usize..end as usize];
            checkpoint.step(weights.len() + 1, cx)?;
            for &(target, weight) in weights {
                let (score, seen) = (&mut scores[target as usize], &mut seen[target as usize]);
                *score = match self.aggregate {
                    Aggregate::Sum | Aggregate::Average => *score + weight,
                    _ if !*seen => weight,
                    Aggregate::Min => score.min(weight),
                    Aggregate::Max => score.max(weight),
                };
                *seen = true;
            }
        }
        if self.aggregate == Aggregate::Average {
            scores.iter_mut().for_each(|score| *score /= self.roots.len() as f64);
        }
        Ok(())
    }

    /// The leaf that a row reaches.
    fn leaf(&self, root: Next, row: &[f64], checkpoint: &mut Checkpoint, cx: &ExecContext<'_>) -> Result<u32, Error> {
        let (mut next, mut depth) = (root, 0_usize);
        loop {
            let index = match next {
                Next::Leaf(leaf) => return Ok(leaf),
                Next::Branch(index) => index,
            };
            depth += 1;
            if depth % 1024 == 0 {
                checkpoint.step(8 * 1024, cx)?;
            }
            let branch = &self.branches[index as usize];
            let (x, threshold) = (row[branch.feature as usize], branch.threshold);
            let if_true = match branch.mode {
                Mode::LessOrEqual => x <= threshold,
                Mode::Less => x < threshold,
                Mode::GreaterOrEqual => x >= threshold,
                Mode::Greater => x > threshold,
                Mode::Equal => x == threshold,
                Mode::NotEqual => x != threshold,
                Mode::Member => {
                    let set = &self.members[branch.set.0 as usize..branch.set.1 as usize];
                    checkpoint.step(set.len(), cx)?;
                    set.contains(&x)
                }
            };
            next = if if_true || (branch.missing && x.is_nan()) { branch.if_true } else { branch.if_false };
        }
    }
}

/// Numbers of an attribute that is a list of f32 or, from version 3 on, a tensor of f32 or f64 under another name.
pub(super) fn numbers(node: &Node<'_>, name: &str) -> Result<Vec<f64>, Error> {
    if let Some(tensor) = node.tensor(&format!("{name}_as_tensor"))? {
        return tensor_numbers(&tensor);
    }
    Ok(node.floats(name)?.unwrap_or_default().iter().map(|&number| f64::from(number)).collect())
}

/// The numbers of a tensor of floats.
pub(super) fn tensor_numbers(tensor: &Value) -> Result<Vec<f64>, Error> {
    Ok(match tensor.ty() {
        ElementType::F16 => tensor.elements::<half::f16>()?.iter().map(|number| number.to_f64()).collect(),
        ElementType::F32 => tensor.elements::<f32>()?.iter().map(|&number| f64::from(number)).collect(),
        ElementType::F64 => tensor.elements::<f64>()?.to_vec(),
        _ => return Err(crate::tensor::value::no_type(tensor)),
    })
}

/// Checks that a list has `expected` entries, or none if it may be empty.
pub(super) fn check_len(name: &str, found: usize, expected: usize, may_be_empty: bool) -> Result<(), Error> {
    if found == expected || (may_be_empty && found == 0) {
        return Ok(());
    }
    Err(Error::invalid_encoding(format!("attribute {name} has {found} entries, not {expected}")))
}

/// The ensemble of a TreeEnsembleRegressor or TreeEnsembleClassifier. `prefix` is that of the attributes of the leaves'
/// scores.
pub(super) fn read_forest(
    node: &Node<'_>,
    prefix: &str,
    targets: usize,
    aggregate: Aggregate,
) -> Result<Forest, Error> {
    let ints = |name: &str| Ok::<_, Error>(node.ints(name)?.unwrap_or_default());
    let modes = node.strings("nodes_modes")?.unwrap_or_default();
    let count = modes.len();
    let (trees, ids) = (ints("nodes_treeids")?, ints("nodes_nodeids")?);
    let (if_true, if_false, features) =
        (ints("nodes_truenodeids")?, ints("nodes_falsenodeids")?, ints("nodes_featureids")?);
    let (missing, thresholds) = (ints("nodes_missing_value_tracks_true")?, numbers(node, "nodes_values")?);
    node.ignore(&["nodes_hitrates", "nodes_hitrates_as_tensor"]);
    for (name, list) in [
        ("nodes_treeids", trees),
        ("nodes_nodeids", ids),
        ("nodes_truenodeids", if_true),
        ("nodes_falsenodeids", if_false),
        ("nodes_featureids", features),
    ] {
        check_len(name, list.len(), count, false)?;
    }
    check_len("nodes_values", thresholds.len(), count, false)?;
    check_len("nodes_missing_value_tracks_true", missing.len(), count, true)?;
    if u32::try_from(count).is_err() {
        return Err(Error::too_large(format!("the trees have {count} nodes, more than 32 bits can count")));
    }
    // Branches and leaves are numbered separately.
    let modes = modes.into_iter().map(Mode::named).collect::<Result<Vec<_>, _>>()?;
    let (mut branch_count, mut leaf_count) = (0, 0);
    let mut nodes = HashMap::with_capacity(count);
    for ((&tree, &id), mode) in trees.iter().zip(ids).zip(&modes) {
        let counter = if mode.is_some() { &mut branch_count } else { &mut leaf_count };
        let next = if mode.is_some() { Next::Branch(*counter) } else { Next::Leaf(*counter) };
        *counter += 1;
        if nodes.insert((tree, id), next).is_some() {
            return Err(Error::invalid_encoding(format!("node {id} of tree {tree} is defined twice")));
        }
    }
    let find = |tree: i64, id: i64| {
        let found = nodes.get(&(tree, id)).copied();
        found.ok_or_else(|| {
            Error::invalid_encoding(format!("a branch leads to node {id} of tree {tree}, which does not exist"))
        })
    };
    let mut branches = Vec::with_capacity(branch_count as usize);
    let mut has_parent = (vec![false; branch_count as usize], vec![false; leaf_count as usize]);
    for (index, mode) in modes.iter().enumerate() {
        let &Some(mode) = mode else { continue };
        let feature = u32::try_from(features[index]);
        let branch = Branch {
            feature: feature
                .map_err(|_| Error::invalid_encoding(format!("feature {} is out of range", features[index])))?,
            mode,
            missing: missing.get(index).is_some_and(|&missing| missing != 0),
            threshold: thresholds[index],
            set: (0, 0),
            if_true: find(trees[index], if_true[index])?,
            if_false: find(trees[index], if_false[index])?,
        };
        for next in [branch.if_true, branch.if_false] {
            match next {
                Next::Branch(index) => has_parent.0[index as usize] = true,
                Next::Leaf(index) => has_parent.1[index as usize] = true,
            }
        }
        branches.push(branch);
    }
    let mut roots = Vec::new();
    let mut last = None;
    for (&tree, &id) in trees.iter().zip(ids) {
        let next = find(tree, id)?;
        let is_root = match next {
            Next::Branch(index) => !has_parent.0[index as usize],
            Next::Leaf(index) => !has_parent.1[index as usize],
        };
        if is_root {
            if last == Some(tree) {
                return Err(Error::invalid_encoding(format!("the tree {tree} has two roots")));
            }
            last = Some(tree);
            roots.push(next);
        }
    }
    let (leaves, weights) = scores(node, prefix, leaf_count as usize, &nodes)?;
    let forest = Forest { branches, members: Vec::new(), leaves, weights, roots, targets, aggregate };
    forest.check(false)?;
    node.charge(forest.bytes())?;
    Ok(forest)
}

/// The ranges of leaves in a list of targets and scores.
type Scores = (Vec<(u32, u32)>, Vec<(u32, f64)>);

/// The scores of every leaf; the scores of branches are never used.
fn scores(node: &Node<'_>, prefix: &str, leaves: usize, nodes: &HashMap<(i64, i64), Next>) -> Result<Scores, Error> {
    let ints = |name: &str| Ok::<_, Error>(node.ints(&format!("{prefix}_{name}"))?.unwrap_or_default());
    let (trees, ids, targets) = (ints("treeids")?, ints("nodeids")?, ints("ids")?);
    let weights = numbers(node, &format!("{prefix}_weights"))?;
    for (name, found) in [("treeids", trees.len()), ("nodeids", ids.len()), ("ids", targets.len())] {
        if found != weights.len() {
            let why = format!("attribute {prefix}_{name} has {found} entries, and there are {} scores", weights.len());
            return Err(Error::invalid_encoding(why));
        }
    }
    let mut leaf_scores = Vec::with_capacity(weights.len());
    for (index, &weight) in weights.iter().enumerate() {
        let (tree, id) = (trees[index], ids[index]);
        let target = u32::try_from(targets[index]);
        let target = target.map_err(|_| {
            Error::invalid_encoding(format!("a score has target {}, which is out of range", targets[index]))
        })?;
        match nodes.get(&(tree, id)) {
            Some(&Next::Leaf(leaf)) => leaf_scores.push((leaf, (target, weight))),
            Some(Next::Branch(_)) => {}
            None => {
                let why = format!("a score is for node {id} of tree {tree}, which does not exist");
                return Err(Error::invalid_encoding(why));
            }
        }
    }
    // The sort is stable, so that the scores of a leaf are added in the order of the file.
    leaf_scores.sort_by_key(|&(leaf, _)| leaf);
    let mut ranges = vec![(0, 0); leaves];
    for (position, &(leaf, _)) in (0_u32..).zip(&leaf_scores) {
        let range = &mut ranges[leaf as usize];
        if range.1 == 0 {
            range.0 = position;
        }
        range.1 = position + 1;
    }
    Ok((ranges, leaf_scores.into_iter().map(|(_, score)| score).collect()))
}
