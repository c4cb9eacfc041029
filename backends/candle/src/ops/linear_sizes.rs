//! The attributes of LinearAttention, and the sizes that follow from them: the same rules on the host and on a device.

use crate::ops::node::Node;
use crate::tensor::dims::{Dims, count};
use graphpool::backend::Error;

/// The attributes of LinearAttention.
pub(super) struct LinearAttributes {
    pub(super) heads: usize,
    pub(super) key_heads: usize,
    scale: f32,
}

/// The sizes of one call.
pub(super) struct LinearSizes {
    pub(super) batch: usize,
    /// The number of positions.
    pub(super) len: usize,
    /// Elements of a key of one head.
    pub(super) key: usize,
    /// Elements of a value of one head.
    pub(super) value: usize,
    /// The dimensions of the state.
    pub(super) state: [usize; 4],
    /// The factor of what a query reads.
    pub(super) scale: f32,
}

impl LinearAttributes {
    pub(super) fn new(node: &Node<'_>) -> Result<Self, Error> {
        let heads = |name: &str| {
            let number = node.int(name)?.and_then(|number| usize::try_from(number).ok()).filter(|&number| number > 0);
            number.ok_or_else(|| Error::invalid_encoding(format!("attribute {name} is missing or not positive")))
        };
        // `gated`: the state decays. `delta`: the value that the state holds for the key is subtracted from the new
        // value.
        let (gated, delta) = match node.string("update_rule", "gated_delta")? {
            "linear" => (false, false),
            "gated" => (true, false),
            "delta" => (false, true),
            "gated_delta" => (true, true),
            _ => {
                return Err(Error::invalid_encoding(
                    "attribute update_rule is not one of linear, gated, delta and gated_delta",
                ));
            }
        };
        let (heads, key_heads, scale) = (heads("q_num_heads")?, heads("kv_num_heads")?, node.float("scale", 0.0)?);
        // It is the block size of a faster algorithm, and does not change the result.
        node.ignore(&["chunk_size"]);
        node.limit_outputs(2)?;
        if heads % key_heads != 0 {
            return Err(Error::invalid_encoding(format!(
                "q_num_heads {heads} is not a multiple of kv_num_heads {key_heads}"
            )));
        }
        if node.has_input(4) != gated || node.has_input(5) != delta {
            return Err(Error::invalid_encoding("decay and beta must be given exactly where update_rule uses them"));
        }
        Ok(Self { heads, key_heads, scale })
    }

    /// The sizes for queries, keys and values of these dimensions, and for a past state, if there is one.
    pub(super) fn sizes(&self, dims: [&[usize]; 3], past: Option<&[usize]>) -> Result<LinearSizes, Error> {
        let wrong = || {
            let [query, key, value] = dims.map(Dims);
            let why = format!("queries {query}, keys {key} and values {value}");
            Error::invalid_argument(format!("{why} do not fit {} and {} heads", self.heads, self.key_heads))
        };
        let [&[batch, len, width], &[b, l, keys], &[c, m, values]] = dims else { return Err(wrong()) };
        let size = width / self.heads;
        let divisible =
            width % self.heads == 0 && values % self.key_heads == 0 && size.checked_mul(self.key_heads) == Some(keys);
        if (b, c, l, m) != (batch, batch, len, len) || !divisible {
            return Err(wrong());
        }
        let value = values / self.key_heads;
        let state = [batch, self.key_heads, size, value];
        count(&state)?;
        if let Some(past) = past.filter(|&past| past != state) {
            return Err(Error::invalid_argument(format!(
                "the past state has dimensions {}, not {}",
                Dims(past),
                Dims(&state)
            )));
        }
        let scale = if self.scale == 0.0 { 1.0 / (size as f32).sqrt() } else { self.scale };
        Ok(LinearSizes { batch, len, key: size, value, state, scale })
    }

    /// The heads of decay or beta, which must have one of `widths` elements at each position, and the elements of one.
    pub(super) fn gate(
        &self,
        dims: &[usize],
        sizes: &LinearSizes,
        widths: [usize; 2],
    ) -> Result<(usize, usize), Error> {
        match *dims {
            [batch, len, width] if (batch, len) == (sizes.batch, sizes.len) && widths.contains(&width) => {
                let heads = if width == 1 { 1 } else { self.key_heads };
                Ok((heads, width / heads))
            }
            _ => Err(Error::invalid_argument(format!(
                "the dimensions {} of decay or beta do not fit {} positions",
                Dims(dims),
                sizes.len
            ))),
        }
    }

    /// What the width of decay may be: a number for each head of the keys, or for each element of them.
    pub(super) fn decay_widths(&self, sizes: &LinearSizes) -> [usize; 2] {
        [self.key_heads, sizes.key * self.key_heads]
    }

    /// What the width of beta may be: a number for each head of the keys, or one for all.
    pub(super) fn beta_widths(&self) -> [usize; 2] {
        [self.key_heads, 1]
    }

    /// The dimensions of the result.
    pub(super) fn output_dims(&self, sizes: &LinearSizes) -> [usize; 3] {
        [sizes.batch, sizes.len, self.heads.saturating_mul(sizes.value)]
    }
}
