//! Random numbers by the generator Philox4x32-10, and the state of each node that draws them.
//!
//! The generator is counter-based (J. Salmon, M. Moraes, R. Dror, D. Shaw: "Parallel random numbers: as easy as 1, 2,
//! 3", SC 2011), so a node's state is the number of blocks that it has drawn. Each context has its own states: contexts
//! are independent of each other, and a context that computes again continues its sequences.
//!
//! A node with a seed draws the same sequence in every context. Nodes without a seed draw from separate streams of a
//! seed that each context takes from the process's source of hash keys, so their sequences differ between contexts.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};

/// The block of four 32-bit numbers for a counter and a key.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    let multiply = |a: u32, b: u32| {
        let product = u64::from(a) * u64::from(b);
        ((product >> 32) as u32, product as u32)
    };
    for round in 0..10 {
        if round > 0 {
            key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
        }
        let [a, b, c, d] = counter;
        let ((high_0, low_0), (high_1, low_1)) = (multiply(0xD251_1F53, a), multiply(0xCD9E_8D57, c));
        counter = [high_1 ^ b ^ key[0], low_1, high_0 ^ d ^ key[1], low_0];
    }
    counter
}

/// A seed that nobody can predict.
pub(crate) fn unpredictable_seed() -> u64 {
    // Each `RandomState` has other keys, and the hash of an empty input under them is unpredictable.
    RandomState::new().build_hasher().finish()
}

/// The states of a context's nodes that draw random numbers.
#[derive(Debug)]
pub(crate) struct RandomStates {
    /// The seed of the nodes that have none in the model.
    seed: u64,
    /// For each node, the number of blocks that it has drawn.
    drawn: Box<[AtomicU64]>,
}

impl RandomStates {
    /// The initial states of `nodes` nodes.
    pub(crate) fn new(nodes: usize) -> Self {
        let seed = if nodes == 0 { 0 } else { unpredictable_seed() };
        Self { seed, drawn: (0..nodes).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Bytes that the states take.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.drawn)
    }

    /// The next `blocks` blocks of a node. `None` if the context has no such node.
    pub(crate) fn draw(&self, node: usize, seed: Option<f32>, blocks: usize) -> Option<Stream> {
        // Relaxed: only the count matters; no other data is published through it.
        let block = self.drawn.get(node)?.fetch_add(blocks as u64, Ordering::Relaxed);
        Some(match seed {
            Some(seed) => Stream { key: [seed.to_bits(), 1], node: 0, block, rest: [0; 4], left: 0 },
            None => Stream {
                key: [self.seed as u32, (self.seed >> 32) as u32],
                node: node as u64,
                block,
                rest: [0; 4],
                left: 0,
            },
        })
    }
}

/// A sequence of 32-bit random numbers.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    key: [u32; 2],
    node: u64,
    block: u64,
    /// The current block, of which the last `left` numbers are not drawn yet.
    rest: [u32; 4],
    left: usize,
}

impl Stream {
    /// The sequence of a seed.
    #[cfg(feature = "ggml")]
    pub(crate) const fn seeded(seed: u64) -> Self {
        Self { key: [seed as u32, (seed >> 32) as u32], node: 0, block: 0, rest: [0; 4], left: 0 }
    }

    fn next(&mut self) -> u32 {
        if self.left == 0 {
            let (block, node) = (self.block, self.node);
            let counter = [block as u32, (block >> 32) as u32, node as u32, (node >> 32) as u32];
            self.rest = philox(counter, self.key);
            (self.block, self.left) = (block.wrapping_add(1), 4);
        }
        self.left -= 1;
        self.rest[3 - self.left]
    }

    /// A number of the uniform distribution from 0 (included) to 1 (excluded), with 53 random bits.
    pub(crate) fn uniform(&mut self) -> f64 {
        let (high, low) = (u64::from(self.next()), u64::from(self.next()));
        ((high << 32 | low) >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// Two numbers of the normal distribution of mean 0 and deviation 1 (G. Box, M. Muller, 1958).
    pub(crate) fn normals(&mut self) -> [f64; 2] {
        // The logarithm's argument is above 0: `uniform` is below 1.
        let (radius, angle) = ((-2.0 * (1.0 - self.uniform()).ln()).sqrt(), std::f64::consts::TAU * self.uniform());
        [radius * angle.cos(), radius * angle.sin()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_those_of_the_published_test_vectors() {
        // Random123's kat_vectors, philox4x32, 10 rounds.
        let zeros = philox([0; 4], [0; 2]);
        assert_eq!(zeros, [0x6627_E8D5, 0xE169_C58D, 0xBC57_AC4C, 0x9B00_DBD8]);
        let ones = philox([u32::MAX; 4], [u32::MAX; 2]);
        assert_eq!(ones, [0x408F_276D, 0x41C8_3B0E, 0xA20B_C7C6, 0x6D54_51FD]);
        let pi = philox([0x243F_6A88, 0x85A3_08D3, 0x1319_8A2E, 0x0370_7344], [0xA409_3822, 0x299F_31D0]);
        assert_eq!(pi, [0xD16C_FE09, 0x94FD_CCEB, 0x5001_E420, 0x2412_6EA1]);
    }

    #[test]
    fn numbers_have_the_moments_of_their_distributions() {
        let states = RandomStates::new(1);
        let mut stream = states.draw(0, Some(7.0), 1 << 20).unwrap();
        let count = 1 << 16;
        let (mut sums, mut squares) = ([0.0; 2], [0.0; 2]);
        for _ in 0..count {
            let (uniform, [normal, other]) = (stream.uniform(), stream.normals());
            assert!((0.0..1.0).contains(&uniform) && other.is_finite());
            for (place, x) in [uniform, normal].into_iter().enumerate() {
                sums[place] += x;
                squares[place] += x * x;
            }
        }
        // The seed is fixed, and five deviations of a mean are allowed.
        let [uniform, normal] = sums.map(|sum| sum / f64::from(count));
        assert!((uniform - 0.5).abs() < 0.006 && normal.abs() < 0.02, "{uniform} {normal}");
        let [uniform, normal] = squares.map(|sum| sum / f64::from(count));
        assert!((uniform - 1.0 / 3.0).abs() < 0.006 && (normal - 1.0).abs() < 0.03, "{uniform} {normal}");
    }
}
