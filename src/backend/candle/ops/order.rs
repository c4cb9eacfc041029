//! Operators that look at the order of elements: TopK, CumSum, NonZero, Compress, ReverseSequence, Unique.

use std::cmp::Ordering;

use super::super::meter::Cx;
use super::super::node::Node;
use super::super::value::{Dims, Element, ElementType, Value, strides, with_elements};
use super::cast::convert;
use super::elementwise::{Number, with_numbers};
use super::layout::permute;
use super::pattern::integer;
use super::select::{offsets, select};
use super::{Kernel, Operator, axis, between, no_type, product, since};
use crate::nn::Error;

pub(super) const OPERATORS: &[Operator] = &[
    between(1, 9, "TopK", (1, 1), top_k),
    since(10, "TopK", (2, 2), top_k),
    since(11, "CumSum", (2, 2), running_sum),
    since(9, "NonZero", (1, 1), non_zero),
    since(9, "Compress", (2, 2), compress),
    since(10, "ReverseSequence", (2, 2), reverse),
    since(11, "Unique", (1, 1), unique),
];

/// The order of two numbers; a NaN comes after everything.
fn order<T: PartialOrd>(a: &T, b: &T) -> Ordering {
    #[expect(clippy::eq_op, reason = "only a NaN is not equal to itself")]
    a.partial_cmp(b).unwrap_or_else(|| (a != a).cmp(&(b != b)))
}

fn top_k(node: &Node<'_>) -> Result<Kernel, Error> {
    let at = node.int("axis")?.unwrap_or(-1);
    let fixed = if node.opset < 10 { node.int("k")? } else { None };
    let largest = node.opset < 11 || node.flag("largest", true)?;
    if node.opset >= 11 {
        // What comes in any order may come sorted.
        node.ignore(&["sorted"]);
    }
    Ok(Box::new(move |args, cx| {
        let value = args.get(0)?;
        let at = axis(at, value.rank())?;
        let k = match fixed {
            Some(k) => k,
            None => integer(args.get(1)?)?,
        };
        let dim = value.dims()[at];
        let k = usize::try_from(k).ok().filter(|&k| k <= dim);
        let k = k.ok_or_else(|| Error::invalid_argument(format!("more than the {dim} elements, or less than none")))?;
        let mut dims = value.dims().to_vec();
        dims[at] = k;
        let (outer, inner) = (product(&dims[..at]), product(&dims[at + 1..]));
        let indices = cx.output::<i64>(&dims)?;
        let _charge = cx.charge::<u64>(&[dim])?;
        with_numbers!(value, T => {
            let elements = value.elements::<T>()?;
            let mut places: Vec<usize> = Vec::new();
            let (mut tops, charge) = cx.scratch::<T>(outer * k * inner)?;
            tops.resize(outer * k * inner, T::default());
            let indices = indices.try_write(0, |found| {
                for row in 0..outer * inner {
                    cx.control.check()?;
                    let (block, place) = (row / inner, row % inner);
                    let at = |index: usize| elements[(block * dim + index) * inner + place];
                    places.clear();
                    places.extend(0..dim);
                    let compare = |a: &usize, b: &usize| {
                        let order = order(&at(*a), &at(*b));
                        // Of equal ones the first comes first.
                        (if largest { order.reverse() } else { order }).then(a.cmp(b))
                    };
                    if k > 0 && k < dim {
                        places.select_nth_unstable_by(k - 1, compare);
                    }
                    places.truncate(k);
                    places.sort_unstable_by(compare);
                    for (rank, &index) in places.iter().enumerate() {
                        let to = (block * k + rank) * inner + place;
                        tops[to] = at(index);
                        found[to] = index as i64;
                    }
                }
                Ok(())
            })?;
            Ok(vec![Value::charged(dims, tops, charge)?, indices])
        })
    }))
}

fn running_sum(node: &Node<'_>) -> Result<Kernel, Error> {
    let (exclusive, reverse) = (node.flag("exclusive", false)?, node.flag("reverse", false)?);
    Ok(Box::new(move |mut args, cx| {
        let value = args.take(0)?;
        let ty = value.ty();
        // The narrow floats are summed as f32, and rounded where a sum is written.
        let narrow = matches!(ty, ElementType::F16 | ElementType::Bf16);
        let value = if narrow { convert(value, ElementType::F32, cx)? } else { value };
        let at = axis(integer(args.get(1)?)?, value.rank())?;
        let (dim, inner) = (value.dims()[at], product(&value.dims()[at + 1..]));
        let outer = product(&value.dims()[..at]);
        let result = with_numbers!(value, T => {
            let elements = value.elements::<T>()?;
            let (mut sums, _charge) = cx.scratch::<T>(inner)?;
            sums.resize(inner, T::default());
            cx.output::<T>(value.dims())?.write(T::default(), |out| {
                if inner == 0 {
                    return;
                }
                for block in 0..outer {
                    sums.fill(T::default());
                    for turn in 0..dim {
                        let step = if reverse { dim - 1 - turn } else { turn };
                        let start = (block * dim + step) * inner;
                        let rows = out[start..start + inner].iter_mut().zip(&elements[start..start + inner]);
                        for (sum, (out, &x)) in sums.iter_mut().zip(rows) {
                            if exclusive {
                                *out = *sum;
                            }
                            *sum = sum.plus(x);
                            if !exclusive {
                                *out = *sum;
                            }
                        }
                    }
                }
            })
        })?;
        Ok(vec![convert(result, ty, cx)?])
    }))
}

fn places_of<T: Element>(elements: &[T]) -> Vec<usize> {
    elements.iter().enumerate().filter(|(_, x)| **x != T::default()).map(|(place, _)| place).collect()
}

fn non_zero(_: &Node<'_>) -> Result<Kernel, Error> {
    Ok(Box::new(|args, cx| {
        let value = args.get(0)?;
        let places: Vec<usize> = with_elements!(value, |elements| {
            let _charge = cx.charge::<u64>(&[elements.len()])?;
            places_of(elements)
        });
        // A scalar counts as one dimension of one element.
        let dims = if value.rank() == 0 { &[1][..] } else { value.dims() };
        let _charge = cx.charge::<u64>(&[places.len()])?;
        let result = cx.output::<i64>(&[dims.len(), places.len()])?.append(|out| {
            for (&dim, stride) in dims.iter().zip(strides(dims)) {
                out.extend(places.iter().map(|place| (place / stride % dim.max(1)) as i64));
            }
        })?;
        Ok(vec![result])
    }))
}

fn compress(node: &Node<'_>) -> Result<Kernel, Error> {
    let at = node.int("axis")?;
    Ok(Box::new(move |mut args, cx| {
        let mut value = args.take(0)?;
        let condition = args.get(1)?.elements::<bool>()?;
        let at = if let Some(at) = at {
            axis(at, value.rank())?
        } else {
            let len = value.len();
            value = value.reshaped(vec![len])?;
            0
        };
        let kept: Vec<usize> = condition
            .iter()
            .take(value.dims()[at])
            .enumerate()
            .filter(|(_, kept)| **kept)
            .map(|(place, _)| place)
            .collect();
        let lists = value.dims().iter().zip(strides(value.dims())).enumerate().map(|(place, (&dim, stride))| {
            if place == at { offsets(kept.iter().copied(), stride, cx) } else { offsets(0..dim, stride, cx) }
        });
        Ok(vec![select(&value, &lists.collect::<Result<Vec<_>, _>>()?, cx)?])
    }))
}

/// Reverses the first elements of each sequence of a batch.
fn reverse(node: &Node<'_>) -> Result<Kernel, Error> {
    let (batch_axis, time_axis) = (node.int("batch_axis")?.unwrap_or(1), node.int("time_axis")?.unwrap_or(0));
    Ok(Box::new(move |args, cx| {
        let (value, lens) = (args.get(0)?, args.get(1)?.to_i64s()?);
        let (batch_axis, time_axis) = (axis(batch_axis, value.rank())?, axis(time_axis, value.rank())?);
        let (batch, time) = (value.dims()[batch_axis], value.dims()[time_axis]);
        let fits = lens.len() == batch && lens.iter().all(|&len| (0..=time as i64).contains(&len));
        if batch_axis + time_axis != 1 || !fits {
            return Err(Error::invalid_argument(format!("{} lengths for {}", lens.len(), Dims(value.dims()))));
        }
        let inner = product(&value.dims()[2..]);
        Ok(vec![with_elements!(value, |elements| cx.output(value.dims())?.append(|out| {
            for first in 0..value.dims()[0] {
                for second in 0..value.dims()[1] {
                    let (row, step) = if batch_axis == 0 { (first, second) } else { (second, first) };
                    let len = lens[row] as usize;
                    let step = if step < len { len - 1 - step } else { step };
                    let (first, second) = if batch_axis == 0 { (row, step) } else { (step, row) };
                    let start = (first * value.dims()[1] + second) * inner;
                    out.extend_from_slice(&elements[start..start + inner]);
                }
            }
        }))?])
    }))
}

fn unique(node: &Node<'_>) -> Result<Kernel, Error> {
    let (at, sorted) = (node.int("axis")?, node.flag("sorted", true)?);
    Ok(Box::new(move |mut args, cx| {
        let value = args.take(0)?;
        if value.ty() == ElementType::Bool {
            return Err(no_type(&value));
        }
        // The axis goes first, so that what is compared lies together.
        let (rows, order) = if let Some(at) = at {
            let at = axis(at, value.rank())?;
            let order: Vec<usize> = std::iter::once(at).chain((0..value.rank()).filter(|&place| place != at)).collect();
            (permute(value, &order, cx)?, Some(order))
        } else {
            let len = value.len();
            (value.reshaped(vec![len])?, None)
        };
        let _charge = cx.charge::<u64>(&[5, rows.dims()[0]])?;
        with_numbers!(rows, T => uniques(rows.elements::<T>()?, rows.dims(), order.as_deref(), sorted, cx))
    }))
}

fn uniques<T: Number>(
    elements: &[T],
    dims: &[usize],
    order_back: Option<&[usize]>,
    sorted: bool,
    cx: &Cx<'_>,
) -> Result<Vec<Value>, Error> {
    let (rows, width) = (dims[0], product(&dims[1..]));
    let row = |index: usize| &elements[index * width..(index + 1) * width];
    let compare = |a: usize, b: usize| {
        row(a).iter().zip(row(b)).map(|(a, b)| order(a, b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    };
    let mut places: Vec<usize> = (0..rows).collect();
    places.sort_by(|&a, &b| compare(a, b));
    // Each group's first place, and which group each row is in.
    let (mut firsts, mut counts, mut group) = (Vec::<usize>::new(), Vec::<i64>::new(), vec![0_usize; rows]);
    for &place in &places {
        match firsts.last() {
            Some(&first) if compare(first, place).is_eq() => {}
            _ => {
                firsts.push(place);
                counts.push(0);
            }
        }
        if let Some(count) = counts.last_mut() {
            *count += 1;
        }
        group[place] = firsts.len() - 1;
    }
    let mut ranks: Vec<usize> = (0..firsts.len()).collect();
    if !sorted {
        ranks.sort_by_key(|&rank| firsts[rank]);
    }
    let mut new = vec![0_i64; firsts.len()];
    ranks.iter().enumerate().for_each(|(place, &rank)| new[rank] = place as i64);
    let mut out = dims.to_vec();
    out[0] = firsts.len();
    let kept =
        cx.output::<T>(&out)?.append(|out| ranks.iter().for_each(|&rank| out.extend_from_slice(row(firsts[rank]))))?;
    let kept = match order_back {
        Some(order) => {
            let mut back = vec![0; order.len()];
            order.iter().enumerate().for_each(|(place, &at)| back[at] = place);
            permute(kept, &back, cx)?
        }
        None => kept,
    };
    let found = firsts.len();
    Ok(vec![
        kept,
        cx.output::<i64>(&[found])?.collect(ranks.iter().map(|&rank| firsts[rank] as i64))?,
        cx.output::<i64>(&[rows])?.collect(group.iter().map(|&rank| new[rank]))?,
        cx.output::<i64>(&[found])?.collect(ranks.iter().map(|&rank| counts[rank]))?,
    ])
}
