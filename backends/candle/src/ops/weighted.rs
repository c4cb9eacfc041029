//! MatMul and Gemm by constant weights, which are packed at load, with the elementwise operators fused to them.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::compute::context::{ExecContext, VECTOR_CHECK_INTERVAL};
use crate::math::epilogue::{Epilogue, Placement};
use crate::math::gathered::{DEPTH, Gathered, Run, Start, pack_panels};
use crate::math::pack;
use crate::math::program::{Program, shifted};
use crate::ops::fusion::{Anchor, BuildIntegers, Channels, Fused, PackLayout, PackedWeights};
use crate::ops::node::{Node, OpFn};
use crate::ops::quantized_product;
use crate::tensor::dim_list::DimVec;
use crate::tensor::dims::{Dims, count, product};
use crate::tensor::element::ElementType;
use crate::tensor::value::Value;
use graphpool::backend::Error;

/// Rows that are multiplied as one block.
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
    let build = move |mut program: Program, packs: &mut PackedWeights| -> Option<Fused> {
        let constants = program.bytes(n);
        packs.spend(constants)?;
        let (row, column) = if transposed { (1, k) } else { (n, 1) };
        let layout = if transposed { PackLayout::Columns } else { PackLayout::Rows };
        let packed_b = packs.packed(&weights, layout, pack::packed_b_len(k, n)?, |elements, out| {
            pack_panels(k, n, |at_row, at_column| elements[at_row * row + at_column * column], out);
        })?;
        let mut bias = bias.as_ref().and_then(|bias| bias.elements::<f32>().ok()).map(<[f32]>::to_vec);
        let mut rest = program.clone();
        if let Some(shifts) = rest.take_sums(n) {
            let before = bias.clone().unwrap_or_else(|| vec![0.0; n]);
            if let Some(folded_bias) = shifted(&before, None, &shifts) {
                (program, bias) = (rest, Some(folded_bias));
            }
        }
        if let Some(bias) = &mut bias {
            bias.resize(pack::pitch(n), 0.0);
        }
        let weighted = Weighted { packed_b, k, n, bias, epilogue: Epilogue::new(program) };
        let kernel: OpFn = Box::new(move |mut args, cx| Ok(values![weighted.multiply(&args.take(0)?, rank, cx)?]));
        Some(Fused { kernel, channels_last: false })
    };
    let integers = (rank == Rank::Any).then(|| Box::new(quantized_product::integers) as BuildIntegers);
    Some(Anchor { layout, channels: n, build: Box::new(build), integers })
}

/// Packed weights, and the bias and the epilogue of their products.
struct Weighted {
    packed_b: Arc<Vec<f32>>,
    k: usize,
    n: usize,
    /// Padded with zeros to whole vectors.
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
        let mut dims = DimVec::from(outer);
        dims.push(n);
        count(&dims)?;
        let (m, elements) = (product(outer), value.elements::<f32>()?);
        let parts = cx.parts(m.div_ceil(pack::mr()), m.saturating_mul(n).saturating_mul(k));
        let scratches = (0..parts).map(|_| self.epilogue.scratch(cx));
        let mut scratches = scratches.collect::<Result<SmallVec<[_; 1]>, Error>>()?;
        let (out, charge) =
            cx.produce(&mut scratches, m * n, pack::mr() * n, ROWS * n, |cx, scratch, start, out| {
                let rows = elements[start / n * k..].chunks(ROWS * k);
                for (rows, out) in rows.zip(out.chunks_mut(ROWS * n)) {
                    self.product(rows, out, cx)?;
                    if self.epilogue.is_uniform() {
                        self.epilogue.run(out, Placement::Columns(0), scratch, cx)?;
                        continue;
                    }
                    for out in out.chunks_exact_mut(n) {
                        self.epilogue.run(out, Placement::Columns(0), scratch, cx)?;
                    }
                }
                Ok(())
            })?;
        Value::charged(dims, out, charge)
    }

    /// Writes the product of at most [`ROWS`] rows to `out`.
    fn product(&self, rows: &[f32], out: &mut [f32], cx: &ExecContext<'_>) -> Result<(), Error> {
        let (k, n, width) = (self.k, self.n, pack::nr());
        let (mut patches, m) = ([0; ROWS], out.len() / n);
        patches.iter_mut().enumerate().for_each(|(row, patch)| *patch = row * k);
        let mut work = VECTOR_CHECK_INTERVAL;
        for from in (0..k).step_by(DEPTH) {
            let run = Run { offset: from, len: DEPTH.min(k - from) };
            for first in (0..n).step_by(width) {
                let columns = width.min(n - first);
                let pitch = pack::pitch(columns);
                work += m * run.len * pitch;
                if work >= VECTOR_CHECK_INTERVAL {
                    cx.control.check()?;
                    work = 0;
                }
                let start = match &self.bias {
                    _ if from > 0 => Start::Output,
                    Some(bias) => Start::Bias(&bias[first..]),
                    None => Start::Zero,
                };
                let panel = &self.packed_b[first * k + from * pitch..][..run.len * pitch];
                let (patches, runs, out) = (&patches[..m], &[run], &mut out[first..]);
                Gathered { image: rows, patches, runs, panel, columns, start, out, pitch: n }.run();
            }
        }
        Ok(())
    }
}
