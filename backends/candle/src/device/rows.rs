//! Rows of a matrix at positions that are computed on the device.

use crate::device::context::DeviceContext;
use crate::device::math::Compare;
use crate::device::tensor::DeviceTensor;
use crate::tensor::element::ElementType;
use graphpool::backend::Error;

impl DeviceContext<'_> {
    /// The rows of a matrix at whole numbers in a tensor of F64 of one dimension. A number outside counts as the
    /// nearest row, and a NaN as the first: candle does not check positions on every device.
    pub(crate) fn rows_at(&self, x: &DeviceTensor, positions: &DeviceTensor) -> Result<DeviceTensor, Error> {
        let (&[rows, width], &[count]) = (x.dims(), positions.dims()) else {
            return Err(Error::invalid_argument("rows are taken of a matrix, at positions of one dimension"));
        };
        if rows == 0 || u32::try_from(rows).is_err() || positions.ty != ElementType::F64 {
            return Err(Error::unsupported(format!("positions of {rows} rows are not supported on the device")));
        }
        // No comparison with a NaN holds.
        let (first, last) = (self.number(0.0, positions.ty)?, self.number((rows - 1) as f64, positions.ty)?);
        let positions = self.select(&self.compare(Compare::Greater, positions, &first)?, positions, &first)?;
        let positions = self.select(&self.compare(Compare::Less, &positions, &last)?, &positions, &last)?;
        let x = self.contiguous(x)?;
        let indexes = self.cast(&self.contiguous(&positions)?, ElementType::U32)?;
        self.make(&[count, width], x.ty, || x.tensor.index_select(&indexes.tensor, 0))
    }
}
