//! A persistent map from names to values: a trie over the names' hashes, four bits per level. A changed copy shares all
//! but one path with the map before.
//!
//! A snapshot is one reference, and the cost of a change is bounded by the depth, whatever the number of names. The
//! depth is bounded by the hash's 64 bits.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

const BITS: u32 = 4;
const WIDTH: usize = 1 << BITS;

/// An immutable map.
pub(crate) struct NameMap<V> {
    root: Option<Arc<Node<V>>>,
    len: usize,
    hasher: RandomState,
}

type Children<V> = [Option<Arc<Node<V>>>; WIDTH];

enum Node<V> {
    Branch(Children<V>),
    /// All entries whose names have this hash.
    Leaf(u64, Vec<(Arc<str>, V)>),
}

impl<V> Default for NameMap<V> {
    fn default() -> Self {
        Self { root: None, len: 0, hasher: RandomState::new() }
    }
}

impl<V: Clone> NameMap<V> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, name: &str) -> Option<&V> {
        let hash = self.hasher.hash_one(name);
        let (mut node, mut level) = (self.root.as_deref()?, 0);
        loop {
            match node {
                Node::Branch(children) => (node, level) = (children[child(hash, level)].as_deref()?, level + 1),
                Node::Leaf(_, entries) => {
                    return entries.iter().find(|(of, _)| **of == *name).map(|(_, value)| value);
                }
            }
        }
    }

    /// A map that also has `value` for `name`, or `None` if the name is taken.
    pub(crate) fn with(&self, name: &str, value: V) -> Option<Self> {
        if self.get(name).is_some() {
            return None;
        }
        let hash = self.hasher.hash_one(name);
        let root = with(self.root.as_ref(), hash, 0, (name.into(), value));
        Some(Self { root: Some(root), len: self.len + 1, hasher: self.hasher.clone() })
    }

    /// A map without `name`, and the removed value, or `None` if there is no such name.
    pub(crate) fn without(&self, name: &str) -> Option<(Self, V)> {
        let value = self.get(name)?.clone();
        let hash = self.hasher.hash_one(name);
        let root = without(self.root.as_ref()?, hash, 0, name);
        Some((Self { root, len: self.len - 1, hasher: self.hasher.clone() }, value))
    }

    /// Every value, in the order of the names.
    pub(crate) fn values(&self) -> Vec<V> {
        let mut entries = Vec::with_capacity(self.len);
        if let Some(root) = &self.root {
            collect(root, &mut entries);
        }
        entries.sort_unstable_by_key(|(name, _)| *name);
        entries.into_iter().map(|(_, value)| value.clone()).collect()
    }
}

/// The index of the child of a branch at `level` that leads to `hash`.
fn child(hash: u64, level: u32) -> usize {
    (hash >> (level * BITS)) as usize % WIDTH
}

/// A node with one more entry. Two different hashes differ before level 16.
fn with<V: Clone>(node: Option<&Arc<Node<V>>>, hash: u64, level: u32, entry: (Arc<str>, V)) -> Arc<Node<V>> {
    let mut children = match node.map(|node| (node, &**node)) {
        None => return Arc::new(Node::Leaf(hash, vec![entry])),
        Some((_, Node::Leaf(of, entries))) if *of == hash => {
            return Arc::new(Node::Leaf(hash, entries.iter().cloned().chain([entry]).collect()));
        }
        Some((leaf, Node::Leaf(of, _))) => {
            let mut children = Children::default();
            children[child(*of, level)] = Some(Arc::clone(leaf));
            children
        }
        Some((_, Node::Branch(children))) => children.clone(),
    };
    let place = &mut children[child(hash, level)];
    *place = Some(with(place.as_ref(), hash, level + 1, entry));
    Arc::new(Node::Branch(children))
}

/// A node without the entry of `name`, which must be there; `None` if that was the last entry.
fn without<V: Clone>(node: &Node<V>, hash: u64, level: u32, name: &str) -> Option<Arc<Node<V>>> {
    match node {
        Node::Leaf(_, entries) => {
            let left: Vec<_> = entries.iter().filter(|(of, _)| **of != *name).cloned().collect();
            (!left.is_empty()).then(|| Arc::new(Node::Leaf(hash, left)))
        }
        Node::Branch(children) => {
            let mut children = children.clone();
            let place = &mut children[child(hash, level)];
            *place = place.take().and_then(|node| without(&node, hash, level + 1, name));
            let mut left = children.iter().flatten();
            match (left.next(), left.next()) {
                (None, _) => None,
                // A single leaf replaces its branch.
                (Some(only), None) if matches!(**only, Node::Leaf(..)) => Some(Arc::clone(only)),
                _ => Some(Arc::new(Node::Branch(children))),
            }
        }
    }
}

fn collect<'a, V>(node: &'a Node<V>, entries: &mut Vec<(&'a str, &'a V)>) {
    match node {
        Node::Branch(children) => children.iter().flatten().for_each(|node| collect(node, entries)),
        Node::Leaf(_, of) => entries.extend(of.iter().map(|(name, value)| (&**name, value))),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;

    fn nodes(map: &NameMap<usize>) -> HashSet<*const Node<usize>> {
        fn walk(node: &Arc<Node<usize>>, nodes: &mut HashSet<*const Node<usize>>) {
            nodes.insert(Arc::as_ptr(node));
            if let Node::Branch(children) = &**node {
                children.iter().flatten().for_each(|node| walk(node, nodes));
            }
        }
        let mut found = HashSet::new();
        map.root.iter().for_each(|root| walk(root, &mut found));
        found
    }

    #[test]
    fn it_agrees_with_a_plain_map() {
        let (mut map, mut plain) = (NameMap::default(), BTreeMap::new());
        let mut random = 1_u64;
        for step in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let name = format!("{}", (random >> 33) % 500);
            if random >> 32 & 1 == 0 {
                let changed = map.with(&name, step);
                assert_eq!(changed.is_some(), !plain.contains_key(&name));
                if let Some(changed) = changed {
                    map = changed;
                    plain.insert(name.clone(), step);
                }
            } else {
                let changed = map.without(&name);
                assert_eq!(changed.as_ref().map(|(_, value)| *value), plain.remove(&name));
                map = changed.map_or(map, |(map, _)| map);
            }
            assert_eq!((map.get(&name), map.len()), (plain.get(&name), plain.len()));
        }
        assert_eq!(map.values(), plain.values().copied().collect::<Vec<_>>());
        for name in plain.keys() {
            map = map.without(name).unwrap().0;
        }
        assert!(map.root.is_none() && map.len() == 0);
    }

    /// The cost of a registration: it copies one path, with 20,000 names as with 20.
    #[test]
    fn a_change_makes_a_path_and_shares_the_rest() {
        let mut map = NameMap::default();
        for number in 0..20_000 {
            map = map.with(&format!("model {number}"), number).unwrap();
        }
        let before = nodes(&map);
        for number in 20_000..20_100 {
            let name = format!("model {number}");
            let more = map.with(&name, number).unwrap();
            assert!(nodes(&more).difference(&before).count() <= 17);
            let (fewer, _) = map.without(&format!("model {}", number - 20_000)).unwrap();
            assert!(nodes(&fewer).difference(&before).count() <= 17);
        }
    }

    #[test]
    fn names_of_one_hash_share_a_leaf() {
        let entry = |name: &str| (Arc::from(name), 1);
        let one = with(None, 5, 0, entry("one"));
        let both = with(Some(&one), 5, 0, entry("two"));
        assert!(matches!(&*both, Node::Leaf(5, entries) if entries.len() == 2));
        let split = with(Some(&both), 5 | 1 << 60, 0, entry("three"));
        let joined = without(&split, 5 | 1 << 60, 0, "three").unwrap();
        assert!(matches!(&*joined, Node::Leaf(5, entries) if entries.len() == 2));
        let one = without(&joined, 5, 0, "two").unwrap();
        assert!(without(&one, 5, 0, "one").is_none());
    }
}
