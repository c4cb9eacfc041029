//! RotaryEmbedding: rotates pairs of elements by an angle that depends on their position in the sequence.

use crate::compute::context::{Checkpoint, ExecContext};
use crate::ops::cast::convert;
use crate::ops::heads::{RotaryDims, RotarySizes};
use crate::ops::node::{Args, Node, OpFn};
use crate::ops::operator::{Operator, form, since};
use crate::tensor::dims::Dims;
use crate::tensor::element::ElementType;
use crate::tensor::value::{Value, Values, no_type};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] =
    &[since(23, "RotaryEmbedding", (3, 4), rotary).device(form!(|node| attention::rotary(RotarySizes::new(node)?)))];

fn rotary(node: &Node<'_>) -> Result<OpFn, Error> {
    let sizes = RotarySizes::new(node)?;
    Ok(Box::new(move |args, cx| run(&sizes, args, cx)))
}

/// The caches of cosines and sines, and their row for each position.
struct Angles<'a> {
    cosines: &'a [f32],
    sines: &'a [f32],
    half: usize,
    rows: usize,
    position_ids: Option<&'a [i64]>,
}

impl Angles<'_> {
    /// The cosines and sines of the position at `index`, counted over the batch.
    fn of(&self, index: usize) -> Result<(&[f32], &[f32]), Error> {
        let row = match self.position_ids {
            None => index,
            Some(position_ids) => {
                let row = usize::try_from(position_ids[index]).ok().filter(|&row| row < self.rows);
                let why = || {
                    format!(
                        "position id {} is not below {}, the number of rows of the cosine cache",
                        position_ids[index], self.rows
                    )
                };
                row.ok_or_else(|| Error::invalid_argument(why()))?
            }
        };
        let range = row * self.half..(row + 1) * self.half;
        Ok((&self.cosines[range.clone()], &self.sines[range]))
    }
}

fn run(rotary: &RotarySizes, mut args: Args, cx: &ExecContext<'_>) -> Result<Values, Error> {
    let value = args.take(0)?;
    let ty = value.ty();
    if !matches!(ty, ElementType::F32 | ElementType::F16 | ElementType::Bf16) {
        return Err(no_type(&value));
    }
    let RotaryDims { batch, len, heads, size, heads_first, rotary_dim } = rotary.of(value.dims())?;
    let position_ids = args.take(3).ok();
    let (cosines, sines) = (args.take(1)?, args.take(2)?);
    let half = rotary_dim / 2;
    let fits = match (&position_ids, cosines.dims()) {
        (Some(position_ids), &[_, columns]) => columns == half && position_ids.dims() == [batch, len],
        (None, &[b, l, columns]) => [b, l, columns] == [batch, len, half],
        _ => false,
    };
    if !fits || cosines.dims() != sines.dims() {
        let why = format!(
            "the caches of cosines {} and sines {} do not fit {batch}×{len} positions",
            Dims(cosines.dims()),
            Dims(sines.dims())
        );
        return Err(Error::invalid_argument(why));
    }
    let rows = cosines.dims()[0];
    let (cosines, sines) = (convert(cosines, ElementType::F32, cx)?, convert(sines, ElementType::F32, cx)?);
    let (cosines, sines) = (cosines.elements()?, sines.elements()?);
    let position_ids = position_ids.as_ref().map(Value::elements::<i64>).transpose()?;
    let angles = Angles { cosines, sines, half, rows, position_ids };
    let value = convert(value, ElementType::F32, cx)?;
    let elements = value.elements::<f32>()?;
    let result = cx.output::<f32>(value.dims())?.append(|out| {
        let mut checkpoint = Checkpoint::default();
        let (first, second) = if heads_first { (heads, len) } else { (len, heads) };
        for (index, row) in elements.chunks_exact(size).enumerate() {
            let image = index / (first * second);
            let at = if heads_first { index % second } else { index / second % first };
            let (cosines, sines) = angles.of(image * len + at)?;
            let start = out.len();
            checkpoint.copy(row, out, cx)?;
            checkpoint.step(rotary_dim, cx)?;
            rotate(rotary.interleaved, row, &mut out[start..start + rotary_dim], cosines, sines);
        }
        Ok(())
    })?;
    Ok(values![convert(result, ty, cx)?])
}

fn rotate(interleaved: bool, row: &[f32], out: &mut [f32], cosines: &[f32], sines: &[f32]) {
    let half = cosines.len();
    for (pair, (cosine, sine)) in cosines.iter().zip(sines).enumerate() {
        let (a, b) = if interleaved { (2 * pair, 2 * pair + 1) } else { (pair, half + pair) };
        out[a] = cosine * row[a] - sine * row[b];
        out[b] = sine * row[a] + cosine * row[b];
    }
}
