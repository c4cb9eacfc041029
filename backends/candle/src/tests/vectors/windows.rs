//! Pools, Resize and `GridSample`.

use super::super::builder::{close, int, ints, kernel, one, run_kernel, string, tensor};
use super::{floats, numbers, run};
use graphpool::backend::ComputeControl;

/// Sizes, strides, pads and dilations of windows; the last has a stride that leaves elements out.
const WINDOWS: [(usize, usize, usize, usize); 8] =
    [(2, 2, 0, 1), (3, 1, 1, 1), (3, 2, 1, 1), (5, 3, 2, 1), (3, 4, 0, 2), (4, 5, 3, 1), (7, 1, 0, 1), (2, 9, 1, 1)];

#[test]
fn averages_are_those_of_the_definition() {
    let (height, width) = (11, 23);
    let x = numbers(2 * height * width, 4);
    for (size, stride, pad, dilation) in WINDOWS {
        for count_pads in [false, true] {
            let span = (size - 1) * dilation + 1;
            let out = |input: usize| (input + 2 * pad - span) / stride + 1;
            let both = |number: usize| [number as i64; 2];
            let attributes = [
                ints("kernel_shape", &both(size)),
                ints("strides", &both(stride)),
                ints("dilations", &both(dilation)),
                ints("pads", &[pad as i64; 4]),
                int("count_include_pad", i64::from(count_pads)),
            ];
            let pool = kernel(("", 19), "AveragePool", 1, 1, &attributes);
            let found = run_kernel(&pool, vec![tensor(&[1, 2, height, width], &x)], &ComputeControl::default());
            let mut wanted = Vec::new();
            for plane in x.chunks_exact(height * width) {
                for y in 0..out(height) {
                    for column in 0..out(width) {
                        let (mut sum, mut count) = (0.0_f64, 0);
                        for place in 0..size * size {
                            let row = y * stride + place / size * dilation;
                            let at = column * stride + place % size * dilation;
                            let inside = (pad..pad + height).contains(&row) && (pad..pad + width).contains(&at);
                            if inside {
                                sum += f64::from(plane[(row - pad) * width + at - pad]);
                            }
                            count += usize::from(inside || count_pads);
                        }
                        wanted.push((sum / count.max(1) as f64) as f32);
                    }
                }
            }
            close(floats(&found.unwrap()[0]), &wanted);
        }
    }
}

#[test]
fn averages_of_a_long_row_are_those_of_a_short_one() {
    let x = numbers(200_003, 4);
    for stride in [1, 2, 5] {
        let attributes = [ints("kernel_shape", &[3]), ints("strides", &[stride]), ints("pads", &[1, 1])];
        let pool = |x: &[f32]| {
            let found = run("AveragePool", vec![tensor(&[1, 1, x.len()], x)], 1, &attributes);
            floats(&found[0]).to_vec()
        };
        let (long, short) = (pool(&x), pool(&x[..1003]));
        // The last windows of the short row reach over its end.
        assert_eq!(long[..short.len() - 2], short[..short.len() - 2]);
        let at = long.len() - 2;
        let middle = at * stride as usize;
        close(&long[at..=at], &[(x[middle - 1] + x[middle] + x[middle + 1]) / 3.0]);
    }
}

#[test]
fn an_image_of_any_size_is_enlarged_and_reduced() {
    let (height, width) = (7, 19);
    let x = numbers(2 * height * width, 6);
    for (rows, columns) in [(14, 38), (3, 9), (7, 40), (20, 19), (5, 31)] {
        for mode in ["linear", "nearest"] {
            let attributes = [
                string("mode", mode),
                string("coordinate_transformation_mode", "asymmetric"),
                string("nearest_mode", "floor"),
            ];
            let model = one(13, "Resize", "_ _ s", &attributes).integers("s", &[4], &[1, 2, rows, columns]);
            let (_, found) = model.floats(vec![tensor(&[1, 2, height, width], &x)]);
            let place = |at: usize, input: usize, output: i64| {
                let exact = (at * input) as f64 / output as f64;
                let first = (exact.floor() as usize).min(input - 1);
                let part = if first + 1 == input || mode == "nearest" { 0.0 } else { exact - exact.floor() };
                [(first, 1.0 - part), ((first + 1).min(input - 1), part)]
            };
            let mut wanted = Vec::new();
            for plane in x.chunks_exact(height * width) {
                for y in 0..rows as usize {
                    for at in 0..columns as usize {
                        let mut sum = 0.0;
                        for (row, a) in place(y, height, rows) {
                            for (column, b) in place(at, width, columns) {
                                sum += a * b * f64::from(plane[row * width + column]);
                            }
                        }
                        wanted.push(sum as f32);
                    }
                }
            }
            close(&found, &wanted);
        }
    }
    // An element without weight has no part in the result, also if it is infinite.
    let model = one(13, "Resize", "_ s", &[string("mode", "linear")]).weights("s", &[4], &[1.0, 1.0, 1.0, 2.0]);
    let (_, found) = model.floats(vec![tensor(&[1, 1, 1, 2], &[1.0, f32::INFINITY])]);
    assert_eq!(found, [1.0, f32::INFINITY, f32::INFINITY, f32::INFINITY]);
}

#[test]
fn largest_elements_are_those_of_the_definition() {
    let (height, width) = (11, 23);
    let mut x = numbers(2 * height * width, 5);
    (x[30], x[100]) = (f32::NAN, f32::INFINITY);
    for (size, stride, pad, dilation) in WINDOWS {
        let span = (size - 1) * dilation + 1;
        let out = |input: usize| (input + 2 * pad - span) / stride + 1;
        let both = |number: usize| [number as i64; 2];
        let attributes = [
            ints("kernel_shape", &both(size)),
            ints("strides", &both(stride)),
            ints("dilations", &both(dilation)),
            ints("pads", &[pad as i64; 4]),
        ];
        let found = run("MaxPool", vec![tensor(&[1, 2, height, width], &x)], 1, &attributes);
        let mut found = floats(&found[0]).iter();
        for plane in x.chunks_exact(height * width) {
            for (y, column) in (0..out(height)).flat_map(|y| (0..out(width)).map(move |column| (y, column))) {
                let places = (0..size * size)
                    .map(|place| (y * stride + place / size * dilation, column * stride + place % size * dilation));
                let inside =
                    places.filter(|(row, at)| (pad..pad + height).contains(row) && (pad..pad + width).contains(at));
                let window: Vec<f32> = inside.map(|(row, at)| plane[(row - pad) * width + at - pad]).collect();
                let wanted = window.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let wanted = if window.iter().any(|x| x.is_nan()) { f32::NAN } else { wanted };
                let found = *found.next().unwrap();
                assert!(found == wanted || (found.is_nan() && wanted.is_nan()), "{size} {stride} {pad} {y} {column}");
            }
        }
        assert!(found.next().is_none());
    }
}

#[test]
fn samples_between_elements_are_those_of_the_definition() {
    let (height, width, points) = (5, 7, 60);
    let grid: Vec<f32> = numbers(2 * points, 6).into_iter().map(|x| x * 0.6).collect();
    for infinite in [false, true] {
        let mut x = numbers(3 * height * width, 7);
        if infinite {
            x[height * width + 17] = f32::INFINITY;
        }
        let inputs = vec![tensor(&[1, 3, height, width], &x), tensor(&[1, 6, 10, 2], &grid)];
        let sample = kernel(("", 20), "GridSample", 2, 1, &[string("mode", "linear")]);
        let found = run_kernel(&sample, inputs, &ComputeControl::default()).unwrap();
        for (at, &found) in floats(&found[0]).iter().enumerate() {
            let (channel, point) = (at / points, at % points);
            let place = |number: f32, size: usize| ((f64::from(number) + 1.0) * size as f64 - 1.0) / 2.0;
            let (column, row) = (place(grid[2 * point], width), place(grid[2 * point + 1], height));
            let mut wanted = 0.0;
            for y in 0..height {
                for at in 0..width {
                    let near = |place: f64, at: usize| (1.0 - (place - at as f64).abs()).max(0.0);
                    let weight = near(row, y) * near(column, at);
                    if weight > 0.0 {
                        wanted += weight * f64::from(x[(channel * height + y) * width + at]);
                    }
                }
            }
            let near = (f64::from(found) - wanted).abs() < 1e-5;
            assert!(near || f64::from(found) == wanted, "{infinite} {at}: {found} {wanted}");
        }
    }
}
