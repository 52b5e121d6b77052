//! A safe face for the `gemm` crate: matrices over slices, with every extent checked.
//!
//! An element of the result is accumulated in an order that depends only on the three extents and the strides, never
//! on threads or on other elements, which is what batch-independent bits rest on.

use std::marker::PhantomData;

use gemm::Parallelism;

/// A matrix that is read: `rows` x `columns` values at fixed strides in a slice.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Row-major, without gaps.
    pub(crate) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(values, rows, columns, columns)
    }

    /// Row-major, each row starting `row_stride` values after the one before.
    pub(crate) fn strided(values: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        let needed = extent(rows, columns, row_stride);
        assert!(needed <= values.len(), "a {rows} x {columns} matrix needs {needed} values");
        Self { values, rows, columns, row_stride, column_stride: 1 }
    }

    /// The same values with rows and columns exchanged.
    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// A row-major matrix that is written.
pub(crate) struct MatrixMut<'a> {
    // Invariant: `extent(rows, columns, row_stride)` values from here are valid, and nothing else touches the values
    // of these rows for as long as `'a`.
    start: *mut f32,
    rows: usize,
    columns: usize,
    row_stride: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

impl<'a> MatrixMut<'a> {
    /// Row-major, without gaps.
    pub(crate) fn new(values: &'a mut [f32], rows: usize, columns: usize) -> Self {
        let needed = extent(rows, columns, columns);
        assert!(needed <= values.len(), "a {rows} x {columns} matrix needs {needed} values");
        Self { start: values.as_mut_ptr(), rows, columns, row_stride: columns, lifetime: PhantomData }
    }

    /// Sets every value of row `row`.
    pub(crate) fn fill_row(&mut self, row: usize, value: f32) {
        assert!(row < self.rows);
        // SAFETY: by the invariant the row lies inside the values that only this matrix may touch.
        let row = unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.row_stride), self.columns) };
        row.fill(value);
    }
}

/// A slice whose parts are written by several threads at once.
pub(crate) struct SharedSlice<'a> {
    start: *mut f32,
    length: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

// SAFETY: the only access is `tile`, whose contract keeps the parts of different threads apart.
unsafe impl Sync for SharedSlice<'_> {}

impl<'a> SharedSlice<'a> {
    pub(crate) fn new(values: &'a mut [f32]) -> Self {
        Self { start: values.as_mut_ptr(), length: values.len(), lifetime: PhantomData }
    }

    /// The `rows` x `columns` matrix that starts at `offset`, its rows `row_stride` apart.
    ///
    /// # Safety
    /// No two tiles alive at the same time may share a value.
    pub(crate) unsafe fn tile(&self, offset: usize, rows: usize, columns: usize, row_stride: usize) -> MatrixMut<'_> {
        assert!(offset + extent(rows, columns, row_stride) <= self.length);
        MatrixMut {
            // SAFETY: the assertion keeps the offset inside the slice.
            start: unsafe { self.start.add(offset) },
            rows,
            columns,
            row_stride,
            lifetime: PhantomData,
        }
    }
}

/// What happens to the values that are in the result already.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Write {
    Overwrite,
    Add,
}

/// Who computes one product. The result is the same for both.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Threads {
    /// The calling thread, which is itself one of many.
    One,
    /// All threads of the pool.
    All,
}

/// `into = lhs * rhs`, or `into += lhs * rhs`.
#[allow(clippy::needless_pass_by_value, reason = "the matrix is used up")]
pub(crate) fn multiply(into: MatrixMut<'_>, write: Write, lhs: Matrix<'_>, rhs: Matrix<'_>, threads: Threads) {
    assert_eq!(into.rows, lhs.rows);
    assert_eq!(into.columns, rhs.columns);
    assert_eq!(lhs.columns, rhs.rows);
    let parallelism = match threads {
        Threads::One => Parallelism::None,
        Threads::All => Parallelism::Rayon(0),
    };
    // SAFETY: the constructors checked that every index below (rows, columns) at these strides lies inside the slices,
    // the extents agree, and `into` cannot overlap the two that are borrowed for reading. Strides and extents are
    // below isize::MAX because the slices exist. All three are f32.
    unsafe {
        gemm::gemm(
            into.rows,
            into.columns,
            lhs.columns,
            into.start,
            1,
            into.row_stride as isize,
            write == Write::Add,
            lhs.values.as_ptr(),
            lhs.column_stride as isize,
            lhs.row_stride as isize,
            rhs.values.as_ptr(),
            rhs.column_stride as isize,
            rhs.row_stride as isize,
            1f32,
            1f32,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// How many values a row-major matrix spans.
fn extent(rows: usize, columns: usize, row_stride: usize) -> usize {
    if rows == 0 || columns == 0 {
        return 0;
    }
    assert!(columns <= row_stride || rows == 1, "rows of a matrix overlap");
    (rows - 1) * row_stride + columns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, step: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * step + 7) % 101) as f32 / 50.0 - 1.0).collect()
    }

    #[test]
    fn the_result_does_not_depend_on_threads() {
        for (m, n, k) in [(256, 300, 700), (1, 512, 1024), (1024, 64, 4096), (65, 1000, 33)] {
            let (a, b) = (values(m * k, 37), values(k * n, 53));
            let mut results = [Threads::One, Threads::All].into_iter().map(|threads| {
                let mut c = vec![0.0; m * n];
                let into = MatrixMut::new(&mut c, m, n);
                let (a, b) = (Matrix::new(&a, m, k), Matrix::new(&b, k, n));
                multiply(into, Write::Overwrite, a, b, threads);
                c
            });
            assert_eq!(results.next(), results.next(), "{m} x {n} x {k}");
        }
    }

    #[test]
    fn transposed_and_strided_matrices_multiply_as_written() {
        // [1 2; 3 4] with a gap after each row, times the transpose of [5 6; 7 8].
        let a = [1.0, 2.0, 9.0, 3.0, 4.0];
        let b = [5.0, 6.0, 7.0, 8.0];
        let mut c = vec![100.0; 4];
        multiply(
            MatrixMut::new(&mut c, 2, 2),
            Write::Add,
            Matrix::strided(&a, 2, 2, 3),
            Matrix::new(&b, 2, 2).transposed(),
            Threads::One,
        );
        assert_eq!(c, [117.0, 123.0, 139.0, 153.0]);
    }

    #[test]
    #[should_panic(expected = "needs 6 values")]
    fn a_matrix_larger_than_its_slice_is_refused() {
        let _ = Matrix::new(&[0.0; 5], 2, 3);
    }
}
