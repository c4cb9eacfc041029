//! MatMul and Gemm by constant weights, which are packed at load, with the elementwise operators fused to them.

use std::sync::Arc;

use crate::compute::context::{Checkpoint, ExecContext, VECTOR_CHECK_INTERVAL};
use crate::math::epilogue::{Epilogue, Placement};
use crate::math::pack;
use crate::math::pack::{Strided, Target};
use crate::math::program::{Program, shifted};
use crate::ops::fusion::{Anchor, BuildIntegers, Channels, PackLayout, PackedWeights};
use crate::ops::node::{Node, OpFn};
use crate::ops::quantized_product;
use crate::tensor::dims::{Dims, count, product};
use crate::tensor::element::ElementType;
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// Rows that are packed and multiplied as one block.
const ROWS: usize = 128;

/// The ranks that the left operand may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rank {
    Any,
    Two,
}

/// A MatMul by a constant matrix.
pub(crate) fn matmul_anchor(node: &Node<'_>) -> Option<Anchor> {
    anchor(node.constant(1)?, false, Rank::Any, None)
}

/// A Gemm by a constant matrix, with a constant bias or none.
pub(crate) fn gemm_anchor(node: &Node<'_>) -> Option<Anchor> {
    let plain = |name| node.float(name, 1.0).ok().filter(|&factor| factor == 1.0);
    let (_, _) = (plain("alpha")?, plain("beta")?);
    if node.flag("transA", false).ok()? {
        return None;
    }
    let bias = if node.has_input(2) { Some(node.constant(2)?) } else { None };
    anchor(node.constant(1)?, node.flag("transB", false).ok()?, Rank::Two, bias)
}

fn anchor(weights: &Value, transposed: bool, rank: Rank, bias: Option<&Value>) -> Option<Anchor> {
    let &[rows, columns] = weights.dims() else { return None };
    let (k, n) = if transposed { (columns, rows) } else { (rows, columns) };
    // The packed panel of a narrower matrix would be mostly padding.
    if weights.ty() != ElementType::F32 || k == 0 || n < pack::pitch(1) {
        return None;
    }
    let bias = match bias {
        Some(bias) if bias.len() == n && bias.dims().last() == Some(&n) && bias.rank() <= 2 => {
            bias.elements::<f32>().ok()?;
            Some(bias.clone())
        }
        Some(_) => return None,
        None => None,
    };
    let layout = Channels::Last { rank: (rank == Rank::Two).then_some(2) };
    let weights = weights.clone();
    let build = move |mut program: Program, packs: &mut PackedWeights| -> Option<OpFn> {
        let constants = program.bytes(n);
        packs.spend(constants)?;
        let (row, column) = if transposed { (1, k) } else { (n, 1) };
        let layout = if transposed { PackLayout::Columns } else { PackLayout::Rows };
        let packed_b = packs.packed(&weights, layout, pack::packed_b_len(k, n)?, |elements, out| {
            pack::pack_b(Strided { elements, row, column }, k, n, out);
        })?;
        let mut bias = bias.as_ref().and_then(|bias| bias.elements::<f32>().ok()).map(<[f32]>::to_vec);
        let mut rest = program.clone();
        if let Some(shifts) = rest.take_sums(n) {
            let before = bias.clone().unwrap_or_else(|| vec![0.0; n]);
            if let Some(folded_bias) = shifted(&before, None, &shifts) {
                (program, bias) = (rest, Some(folded_bias));
            }
        }
        let weighted = Weighted { packed_b, k, n, bias, epilogue: Epilogue::new(program) };
        Some(Box::new(move |mut args, cx| Ok(vec![weighted.multiply(&args.take(0)?, rank, cx)?])))
    };
    let integers = (rank == Rank::Any).then(|| Box::new(quantized_product::integers) as BuildIntegers);
    Some(Anchor { layout, channels: n, build: Box::new(build), integers })
}

/// Packed weights, and the bias and the epilogue of their products.
struct Weighted {
    packed_b: Arc<Vec<f32>>,
    k: usize,
    n: usize,
    bias: Option<Vec<f32>>,
    epilogue: Epilogue,
}

impl Weighted {
    fn multiply(&self, value: &Value, rank: Rank, cx: &ExecContext<'_>) -> Result<Value, Error> {
        let (k, n) = (self.k, self.n);
        if value.ty() != ElementType::F32 {
            return Err(Error::invalid_argument(format!("the input is {:?}, and the weights are F32", value.ty())));
        }
        if rank == Rank::Two && value.rank() != 2 {
            return Err(Error::invalid_argument("the operands must have two dimensions"));
        }
        let [outer @ .., last] = value.dims() else {
            return Err(Error::invalid_argument("an operand is a scalar, not a matrix"));
        };
        if *last != k {
            return Err(Error::invalid_argument(format!(
                "matrices {} and {} do not multiply",
                Dims(value.dims()),
                Dims(&[k, n])
            )));
        }
        let dims = [outer, &[n]].concat();
        count(&dims)?;
        let m = product(outer);
        let elements = value.elements::<f32>()?;
        let (mut out, charge) = cx.scratch::<f32>(m * n)?;
        let mut checkpoint = Checkpoint::default();
        match &self.bias {
            Some(bias) => (0..m).try_for_each(|_| checkpoint.copy(bias, &mut out, cx))?,
            None => checkpoint.fill(0.0, m * n, &mut out, cx)?,
        }
        let parts = cx.parts(m.div_ceil(pack::mr()), m.saturating_mul(n).saturating_mul(k));
        let packed_a = if m > 1 { m.min(ROWS) * k } else { 0 };
        let scratch = |_| Ok((cx.scratch::<f32>(packed_a)?, self.epilogue.scratch()));
        let mut scratches = (0..parts).map(scratch).collect::<Result<Vec<_>, Error>>()?;
        cx.parallel_for(&mut scratches, &mut out, pack::mr() * n, |cx, ((packed_a, _), scratch), start, out| {
            let rows = elements[start / n * k..].chunks(ROWS * k);
            for (rows, out) in rows.zip(out.chunks_mut(ROWS * n)) {
                let count = out.len() / n;
                // A single row needs no packing.
                let left = if count == 1 {
                    &rows[..k]
                } else {
                    packed_a.clear();
                    let rows = Strided { elements: rows, row: k, column: 1 };
                    let mut checkpoint = Checkpoint::default();
                    pack::pack_a(rows, count, k, packed_a, |work| checkpoint.step(work, cx))?;
                    &*packed_a
                };
                self.product(left, count, out, cx)?;
                for out in out.chunks_exact_mut(n) {
                    self.epilogue.run(out, Placement::Columns(0), scratch, cx)?;
                }
            }
            Ok(())
        })?;
        Value::charged(dims, out, charge)
    }

    /// Adds the product of `m` packed rows to `out`.
    fn product(&self, left: &[f32], m: usize, out: &mut [f32], cx: &ExecContext<'_>) -> Result<(), Error> {
        let (k, n, width) = (self.k, self.n, pack::nr());
        let padded = pack::pitch(n);
        let mut work = VECTOR_CHECK_INTERVAL;
        for (from, depth) in pack::depth_blocks(k) {
            for first in (0..n).step_by(width) {
                work += m * depth * width;
                if work >= VECTOR_CHECK_INTERVAL {
                    cx.control.check()?;
                    work = 0;
                }
                let panel = &self.packed_b[from * padded + first * depth..];
                let target = Target { out: &mut *out, pitch: n, first, columns: width.min(n - first) };
                pack::add_product(&left[from * m..(from + depth) * m], panel, m, depth, target);
            }
        }
        Ok(())
    }
}
