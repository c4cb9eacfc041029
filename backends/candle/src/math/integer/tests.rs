#![expect(clippy::many_single_char_names, reason = "a, b, m, n and k are the usual names of matrices and their sizes")]

use super::*;
use proptest::prelude::*;
use std::convert::Infallible;

fn value(byte: u8, signed: bool) -> i32 {
    if signed { i32::from(byte.cast_signed()) } else { i32::from(byte) }
}

/// The product with zero points, as ONNX defines it.
struct Case {
    size: [usize; 3],
    signed: [bool; 2],
    bytes: [Vec<u8>; 2],
    left_zeros: Vec<u8>,
    right_zeros: Vec<u8>,
}

impl Case {
    fn expected(&self) -> Vec<i32> {
        let [m, k, n] = self.size;
        let [a, b] = &self.bytes;
        let at = |zeros: &[u8], index: usize, signed| value(zeros[index % zeros.len()], signed);
        let mut out = Vec::new();
        for row in 0..m {
            for column in 0..n {
                let (za, zb) =
                    (at(&self.left_zeros, row, self.signed[0]), at(&self.right_zeros, column, self.signed[1]));
                let product = |place: usize| {
                    (value(a[row * k + place], self.signed[0]) - za)
                        * (value(b[place * n + column], self.signed[1]) - zb)
                };
                out.push((0..k).fold(0_i32, |sum, place| sum.wrapping_add(product(place))));
            }
        }
        out
    }

    fn computed(&self, processor: Processor, unsigned: Unsigned) -> Vec<i32> {
        let [m, k, n] = self.size;
        let [a, b] = &self.bytes;
        let (left_flip, right_flip) =
            (processor.left_flip(self.signed[0], unsigned), processor.right_flip(self.signed[1], unsigned));
        let step = |_| Ok::<(), Infallible>(());
        let mut left = Vec::new();
        let Ok(()) = processor.pack_left(a, k, (left_flip, unsigned), &mut left, step);
        assert_eq!(left.len(), m * processor.left_row_len(k).unwrap());
        let mut panels = vec![7; processor.right_len(k, n).unwrap()];
        let Ok(()) = processor.pack_right(b, (k, n), right_flip, &mut panels, step);
        let right = Right { panels: &panels, k, n, unsigned };
        let mut out = vec![0; m * n];
        let Ok(()) = processor.multiply(right, Sums { left: &left, rows: m, out: &mut out, pitch: n }, step);
        let (ones, mut columns) = (processor.ones(k).collect::<Vec<_>>(), vec![0; n]);
        let Ok(()) = processor.multiply(right, Sums { left: &ones, rows: 1, out: &mut columns, pitch: n }, step);
        let zeros: Vec<i32> =
            self.right_zeros.iter().map(|&zero| right_flip.zero_point(value(zero, self.signed[1]))).collect();
        for (row, out) in out.chunks_exact_mut(n).enumerate() {
            let left = value(self.left_zeros[row % self.left_zeros.len()], self.signed[0]);
            let signed = self.signed[0];
            let packed: Vec<u8> = a[row * k..(row + 1) * k].iter().map(|byte| byte ^ left_flip.mask()).collect();
            let row_sum = add_bytes(&packed, signed != (left_flip != Flip::None));
            let left = left_flip.zero_point(left);
            correct(out, Zeros { left, row_sum, right: &zeros, column_sums: &columns, k, bias: 0 });
        }
        out
    }

    fn check(&self) {
        let expected = self.expected();
        for processor in Processor::available() {
            for unsigned in [Unsigned::Left, Unsigned::Right] {
                let found = self.computed(processor, unsigned);
                assert_eq!(found, expected, "{processor:?} {unsigned:?} {:?} {:?}", self.size, self.signed);
            }
        }
    }
}

fn case(size: [usize; 3], signed: [bool; 2], many: [bool; 2], bytes: &mut impl FnMut() -> u8) -> Case {
    let [m, k, n] = size;
    let mut take = |count: usize| (0..count).map(|_| bytes()).collect::<Vec<_>>();
    Case {
        size,
        signed,
        bytes: [take(m * k), take(k * n)],
        left_zeros: take(if many[0] { m } else { 1 }),
        right_zeros: take(if many[1] { n } else { 1 }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn products_of_all_sizes_signs_and_zero_points_are_exact(
        (m, k, n) in (1_usize..20, 1_usize..70, 1_usize..110),
        (signed_a, signed_b, many_a, many_b) in any::<(bool, bool, bool, bool)>(),
        seed in any::<u64>(),
    ) {
        let mut state = seed | 1;
        let mut bytes = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        case([m, k, n], [signed_a, signed_b], [many_a, many_b], &mut bytes).check();
    }
}

#[test]
fn the_largest_bytes_do_not_saturate() {
    for signed in [[false, false], [false, true], [true, false], [true, true]] {
        for (a, b) in [(0, 255), (255, 255), (128, 128), (127, 128), (128, 127), (255, 128), (255, 127)] {
            for k in [9, 4_100] {
                let (bytes, zeros) = ([vec![a; 9 * k], vec![b; k * 50]], [255 - a, 255 - b]);
                let [left_zeros, right_zeros] = zeros.map(|zero| vec![zero]);
                Case { size: [9, k, 50], signed, bytes, left_zeros, right_zeros }.check();
            }
        }
    }
}
