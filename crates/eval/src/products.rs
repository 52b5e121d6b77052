//! Products of every row of one matrix with every row of another, in double precision, block by block and in parallel:
//! what kernels and nearest neighbours are made of, without the whole matrix of products in memory.

use nalgebra::DMatrix;
use rayon::prelude::*;

/// Rows of the left matrix that one thread takes at a time.
const LEFT_ROWS: usize = 64;
/// Rows of the right matrix that are turned to double precision at a time.
const RIGHT_ROWS: usize = 512;

/// Borrowed rows of equal width.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    values: &'a [f32],
    width: usize,
}

impl<'a> Rows<'a> {
    /// `values` as rows of `width` numbers, which it must fill.
    pub(crate) fn new(values: &'a [f32], width: usize) -> Self {
        debug_assert!(width > 0 && values.len().is_multiple_of(width), "{} values, rows of {width}", values.len());
        Self { values, width: width.max(1) }
    }

    pub(crate) fn count(&self) -> usize {
        self.values.len() / self.width
    }

    fn iter(&self) -> impl IndexedParallelIterator<Item = &'a [f32]> {
        self.values.par_chunks_exact(self.width)
    }

    /// Squared length of each row.
    pub(crate) fn squared_lengths(&self) -> Vec<f64> {
        self.iter().map(|row| row.iter().map(|value| f64::from(*value).powi(2)).sum()).collect()
    }

    /// For each row of `self`, in order: `take(its place, its products with all rows of other)`.
    pub(crate) fn map_products<T, F>(&self, other: &Rows<'_>, take: F) -> Vec<T>
    where
        T: Send,
        F: Fn(usize, &mut [f64]) -> T + Sync,
    {
        if other.count() == 0 {
            return (0..self.count()).map(|row| take(row, &mut [])).collect();
        }
        let of_block = |first: usize, products: &mut [f64]| -> Vec<T> {
            let rows = products.chunks_exact_mut(other.count()).enumerate();
            rows.map(|(row, products)| take(first + row, products)).collect()
        };
        self.map_blocks(other, |_| 0, of_block).into_iter().flatten().collect()
    }

    /// For each block of rows of `self`, in order: `take(its first row, products of its rows with the rows of other from
    /// start(its first row) on)`, row-major.
    pub(crate) fn map_blocks<T, S, F>(&self, other: &Rows<'_>, start: S, take: F) -> Vec<T>
    where
        T: Send,
        S: Fn(usize) -> usize + Sync,
        F: Fn(usize, &mut [f64]) -> T + Sync,
    {
        let width = self.width;
        let of_block = |(block, left): (usize, &[f32])| -> T {
            let (first_row, rows) = (block * LEFT_ROWS, left.len() / width);
            let start = start(first_row).min(other.count());
            let rest = other.count() - start;
            let left = DMatrix::from_iterator(width, rows, left.iter().map(|value| f64::from(*value)));
            let mut products = vec![0.0; rows * rest];
            for (place, right) in other.values[start * width..].chunks(RIGHT_ROWS * width).enumerate() {
                let (first, count) = (place * RIGHT_ROWS, right.len() / width);
                let right = DMatrix::from_row_iterator(count, width, right.iter().map(|value| f64::from(*value)));
                let product = right * &left;
                for (row, of_row) in product.column_iter().enumerate() {
                    products[row * rest + first..][..count].copy_from_slice(of_row.as_slice());
                }
            }
            take(first_row, &mut products)
        };
        self.values.par_chunks(LEFT_ROWS * width).enumerate().map(of_block).collect()
    }

    /// The same with squared Euclidean distances.
    pub(crate) fn map_squared_distances<T, F>(&self, other: &Rows<'_>, take: F) -> Vec<T>
    where
        T: Send,
        F: Fn(usize, &mut [f64]) -> T + Sync,
    {
        let (own, others) = (self.squared_lengths(), other.squared_lengths());
        self.map_products(other, |row, products| {
            for (product, length) in products.iter_mut().zip(&others) {
                // Rounding can take equal rows below 0.
                *product = (own[row] + length - 2.0 * *product).max(0.0);
            }
            take(row, products)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_over_several_blocks_are_those_of_the_rows() {
        let width = 7;
        let number = |place: usize| (place * 7919 % 997) as f32 / 500.0 - 1.0;
        let (a, b): (Vec<f32>, Vec<f32>) =
            ((0..150 * width).map(number).collect(), (0..1100 * width).map(|place| number(place + 13)).collect());
        let (rows, others) = (Rows::new(&a, width), Rows::new(&b, width));
        let got = rows.map_squared_distances(&others, |row, distances| (row, distances.to_vec()));
        assert_eq!(got.len(), 150);
        for (place, (row, distances)) in got.iter().enumerate() {
            assert_eq!((place, distances.len()), (*row, 1100));
            for (other, distance) in distances.iter().enumerate() {
                let pairs = a[row * width..][..width].iter().zip(&b[other * width..][..width]);
                let expected: f64 = pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
                assert!((distance - expected).abs() < 1e-9, "{row} {other}: {distance} {expected}");
            }
        }
        assert_eq!(rows.map_products(&Rows::new(&[], width), |_, products| products.len()), vec![0; 150]);
    }
}
