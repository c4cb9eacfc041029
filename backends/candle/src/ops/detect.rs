//! Operators of object detection: NonMaxSuppression, RoiAlign.

use crate::compute::context::{Checkpoint, ExecContext, PIECE};
use crate::ops::integers::{integer, integers};
use crate::ops::node::{Node, OpFn};
use crate::ops::operator::{Operator, since};
use crate::ops::order::sort;
use crate::ops::pool::exceeds;
use crate::tensor::dims::{Dims, count};
use graphpool::backend::Error;

pub(super) const OPERATORS: &[Operator] =
    &[since(10, "NonMaxSuppression", (2, 5), suppress).heavy(), since(10, "RoiAlign", (3, 3), roi_align).heavy()];

/// Top, left, bottom and right of a box.
type Corners = [f32; 4];

/// The intersection over union of two boxes.
fn intersection_over_union(a: Corners, b: Corners) -> f32 {
    let area = |c: Corners| (c[2] - c[0]) * (c[3] - c[1]);
    let side = |low: usize, high: usize| (a[high].min(b[high]) - a[low].max(b[low])).max(0.0);
    let both = side(0, 2) * side(1, 3);
    let union = area(a) + area(b) - both;
    if area(a) <= 0.0 || area(b) <= 0.0 || union <= 0.0 { 0.0 } else { both / union }
}

/// Whether the intersection over union with every kept box is at most `iou_threshold`.
fn overlaps_none(
    corners: &[Corners],
    index: usize,
    kept: &[usize],
    iou_threshold: f32,
    checkpoint: &mut Checkpoint,
    cx: &ExecContext<'_>,
) -> Result<bool, Error> {
    for kept in kept.chunks(PIECE) {
        checkpoint.step(4 * kept.len(), cx)?;
        if !kept.iter().all(|&other| intersection_over_union(corners[index], corners[other]) <= iou_threshold) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Bytes that are charged for the list of the boxes of one class, besides the boxes.
const LIST_BYTES: usize = 256;

fn suppress(node: &Node<'_>) -> Result<OpFn, Error> {
    let centered = node.flag("center_point_box", false)?;
    Ok(Box::new(move |args, cx| {
        let (boxes, scores) = (args.get(0)?, args.get(1)?);
        let (batches, classes, number) = match (boxes.dims(), scores.dims()) {
            (&[batches, number, 4], &[b, classes, n]) if (b, n) == (batches, number) => (batches, classes, number),
            (boxes, scores) => {
                let why = format!("boxes {} and scores {} do not fit each other", Dims(boxes), Dims(scores));
                return Err(Error::invalid_argument(why));
            }
        };
        let limit = args.option(2).map(integer).transpose()?.unwrap_or(0);
        let limit = usize::try_from(limit).unwrap_or(0);
        let float = |index: usize| -> Result<Option<f32>, Error> {
            let Some(value) = args.option(index) else { return Ok(None) };
            match value.elements::<f32>()? {
                [one] => Ok(Some(*one)),
                other => {
                    Err(Error::invalid_argument(format!("a threshold must have one element, not {}", other.len())))
                }
            }
        };
        let (iou_threshold, score_threshold) = (float(3)?.unwrap_or(0.0), float(4)?);
        let (boxes, scores) = (boxes.elements::<f32>()?, scores.elements::<f32>()?);
        let mut checkpoint = Checkpoint::default();
        let (mut corners, _corners) = cx.list::<Corners>(batches * number)?;
        for &[a, b, c, d] in boxes.as_chunks::<4>().0 {
            checkpoint.step(1, cx)?;
            corners.push(if centered {
                [b - d / 2.0, a - c / 2.0, b + d / 2.0, a + c / 2.0]
            } else {
                [a.min(c), b.min(d), a.max(c), b.max(d)]
            });
        }
        let ((mut order, _order), (mut kept, _kept)) = (cx.list::<usize>(number)?, cx.list::<usize>(number)?);
        let (mut found, mut charges) = (Vec::new(), Vec::new());
        for batch in 0..batches {
            for class in 0..classes {
                checkpoint.step(1, cx)?;
                let scores = &scores[(batch * classes + class) * number..][..number];
                let corners = &corners[batch * number..][..number];
                order.clear();
                for (index, &score) in scores.iter().enumerate() {
                    checkpoint.step(1, cx)?;
                    if score_threshold.is_none_or(|threshold| score > threshold) {
                        order.push(index);
                    }
                }
                // Of equal scores the first box comes first.
                sort(&mut order, 1, |&a, &b| scores[b].total_cmp(&scores[a]), cx)?;
                kept.clear();
                for &index in &order {
                    if kept.len() >= limit {
                        break;
                    }
                    if overlaps_none(corners, index, &kept, iou_threshold, &mut checkpoint, cx)? {
                        kept.push(index);
                    }
                }
                if !kept.is_empty() {
                    let (mut rows, charge) = cx.list::<[i64; 3]>(kept.len())?;
                    rows.extend(kept.iter().map(|&index| [batch as i64, class as i64, index as i64]));
                    // This charge is for the elements of `found` and `charges`.
                    charges.push((charge, cx.budget.charge(LIST_BYTES)?));
                    found.push(rows);
                }
            }
        }
        let rows = found.iter().map(Vec::len).sum::<usize>();
        let result = cx
            .output::<i64>(&[rows, 3])?
            .append(|out| found.iter().try_for_each(|rows| checkpoint.copy(rows.as_flattened(), out, cx)))?;
        Ok(values![result])
    }))
}

fn roi_align(node: &Node<'_>) -> Result<OpFn, Error> {
    let is_max = match node.string("mode", "avg")? {
        "avg" => false,
        "max" => true,
        _ => return Err(Error::invalid_encoding("attribute mode is neither avg nor max")),
    };
    let size = |name, default: i64, least: i64| -> Result<usize, Error> {
        let size = node.int(name)?.unwrap_or(default);
        let size = usize::try_from(size).ok().filter(|&size| (least as usize..=1 << 16).contains(&size));
        size.ok_or_else(|| Error::invalid_encoding(format!("attribute {name} is out of range")))
    };
    let (height, width) = (size("output_height", 1, 1)?, size("output_width", 1, 1)?);
    let sampling = size("sampling_ratio", 0, 0)?;
    let scale = node.float("spatial_scale", 1.0)?;
    let half_pixel = node.opset >= 16
        && match node.string("coordinate_transformation_mode", "half_pixel")? {
            "half_pixel" => true,
            "output_half_pixel" => false,
            _ => {
                let why = "attribute coordinate_transformation_mode is neither half_pixel nor output_half_pixel";
                return Err(Error::invalid_encoding(why));
            }
        };
    Ok(Box::new(move |args, cx| {
        let (value, rois, batches) = (args.get(0)?, args.get(1)?, integers(args.get(2)?, cx)?);
        let (&[n, channels, h, w], &[number, 4]) = (value.dims(), rois.dims()) else {
            let why = format!(
                "the input {} must have 4 dimensions and the regions {} 2",
                Dims(value.dims()),
                Dims(rois.dims())
            );
            return Err(Error::invalid_argument(why));
        };
        let inside = batches.iter().all(|&batch| usize::try_from(batch).is_ok_and(|batch| batch < n));
        if batches.len() != number || !inside {
            let why = format!("batch_indices must have {number} elements below {n}, one for each region");
            return Err(Error::invalid_argument(why));
        }
        if h == 0 || w == 0 {
            return Err(Error::invalid_argument("the spatial dimensions of the input are empty"));
        }
        let (elements, rois) = (value.elements::<f32>()?, rois.elements::<f32>()?);
        let dims = [number, channels, height, width];
        let mut checkpoint = Checkpoint::default();
        count(&dims)?;
        let result = cx.output::<f32>(&dims)?.append(|out| {
            for (roi, &batch) in rois.as_chunks::<4>().0.iter().zip(&*batches) {
                let offset = if half_pixel { 0.5 } else { 0.0 };
                let [left, top, right, bottom] = roi.map(|side| side * scale - offset);
                let least = if half_pixel { f32::NEG_INFINITY } else { 1.0 };
                let bin_h = (bottom - top).max(least) / height as f32;
                let bin_w = (right - left).max(least) / width as f32;
                let points = |bin: f32| if sampling > 0 { sampling } else { bin.ceil().max(0.0) as usize };
                let (point_rows, point_columns) = (points(bin_h), points(bin_w));
                if point_rows.max(1).saturating_mul(point_columns.max(1)) > 1 << 24 {
                    return Err(Error::too_large("a region has more than 2^24 sampling points for each output"));
                }
                for channel in 0..channels {
                    let plane = &elements[(batch as usize * channels + channel) * h * w..][..h * w];
                    for position in 0..height * width {
                        checkpoint.step(1, cx)?;
                        let (y, x) = ((position / width) as f32, (position % width) as f32);
                        let mut best = if is_max && point_rows * point_columns > 0 { f32::NEG_INFINITY } else { 0.0 };
                        for row in 0..point_rows {
                            checkpoint.step(1, cx)?;
                            let y = top + y * bin_h + (row as f32 + 0.5) * bin_h / point_rows as f32;
                            for column in 0..point_columns {
                                checkpoint.step(8, cx)?;
                                let x = left + x * bin_w + (column as f32 + 0.5) * bin_w / point_columns as f32;
                                let parts = bilinear(y, x, h, w).map(|(at, weight)| weight * plane[at]);
                                if is_max {
                                    best = parts
                                        .iter()
                                        .fold(best, |best, &part| if exceeds(part, best) { part } else { best });
                                } else {
                                    best += parts.iter().sum::<f32>();
                                }
                            }
                        }
                        out.push(if is_max { best } else { best / (point_rows * point_columns).max(1) as f32 });
                    }
                }
            }
            Ok(())
        })?;
        Ok(values![result])
    }))
}

/// The four elements around a point of a plane with their bilinear weights, which are 0 for a point outside.
fn bilinear(y: f32, x: f32, h: usize, w: usize) -> [(usize, f32); 4] {
    if !(-1.0..=h as f32).contains(&y) || !(-1.0..=w as f32).contains(&x) {
        return [(0, 0.0); 4];
    }
    let around = |at: f32, size: usize| {
        let at = at.max(0.0);
        let low = (at as usize).min(size - 1);
        if low + 1 >= size { (size - 1, size - 1, 0.0) } else { (low, low + 1, at - low as f32) }
    };
    let ((y0, y1, fy), (x0, x1, fx)) = (around(y, h), around(x, w));
    [
        (y0 * w + x0, (1.0 - fy) * (1.0 - fx)),
        (y0 * w + x1, (1.0 - fy) * fx),
        (y1 * w + x0, fy * (1.0 - fx)),
        (y1 * w + x1, fy * fx),
    ]
}
