//! SSIM (Wang et al. 2004) and MS-SSIM (Wang et al. 2003), with the defaults of torchmetrics: Gaussian window of 11 pixels
//! and sigma 1.5, data range 1, and for MS-SSIM five scales, halved by averaging, with negative values cut to 0.

use crate::{EvalError, GrayImage};

/// Side of the Gaussian window, in pixels.
const WINDOW: usize = 11;
/// From the window's centre to its edge.
const MARGIN: usize = WINDOW / 2;
const SIGMA: f64 = 1.5;
/// (0.01 * data range)² and (0.03 * data range)².
const C1: f64 = 0.0001;
const C2: f64 = 0.0009;
/// Weight of each scale, finest first.
const SCALE_WEIGHTS: [f64; 5] = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333];

/// Least side of a picture for [`ssim`].
pub const SSIM_SMALLEST_SIDE: usize = WINDOW;
/// Least side of a picture for [`ms_ssim`]: the window must fit the coarsest scale.
pub const MS_SSIM_SMALLEST_SIDE: usize = WINDOW << (SCALE_WEIGHTS.len() - 1);

/// Structural similarity of two pictures in [0, 1]; 1 where they are equal.
///
/// # Errors
/// [`EvalError::SizesDiffer`]; [`EvalError::TooSmall`] under 11 pixels a side.
pub fn ssim(a: &GrayImage<'_>, b: &GrayImage<'_>) -> Result<f64, EvalError> {
    check(a, b, "SSIM", SSIM_SMALLEST_SIDE)?;
    Ok(compare(&Plane::from(a), &Plane::from(b)).similarity)
}

/// Multi-scale structural similarity of two pictures in [0, 1]; 1 where they are equal.
///
/// # Errors
/// [`EvalError::SizesDiffer`]; [`EvalError::TooSmall`] under 176 pixels a side.
pub fn ms_ssim(a: &GrayImage<'_>, b: &GrayImage<'_>) -> Result<f64, EvalError> {
    check(a, b, "MS-SSIM", MS_SSIM_SMALLEST_SIDE)?;
    let (mut a, mut b) = (Plane::from(a), Plane::from(b));
    let mut product = 1.0;
    for (scale, weight) in SCALE_WEIGHTS.iter().enumerate() {
        let compared = compare(&a, &b);
        let coarsest = scale + 1 == SCALE_WEIGHTS.len();
        let value = if coarsest { compared.similarity } else { compared.contrast };
        product *= value.max(0.0).powf(*weight);
        if !coarsest {
            (a, b) = (a.halved(), b.halved());
        }
    }
    Ok(product)
}

fn check(a: &GrayImage<'_>, b: &GrayImage<'_>, metric: &'static str, smallest: usize) -> Result<(), EvalError> {
    a.same_size(b)?;
    if a.width().min(a.height()) < smallest {
        return Err(EvalError::TooSmall { metric, smallest, width: a.width(), height: a.height() });
    }
    Ok(())
}

/// What a window says about two pictures, averaged over its positions.
struct Compared {
    /// Luminance, contrast and structure; over every pixel, the pictures being mirrored at their edges.
    similarity: f64,
    /// Contrast and structure alone; over the positions where the window lies wholly inside.
    contrast: f64,
}

fn compare(a: &Plane, b: &Plane) -> Compared {
    let (width, height) = (a.width, a.height);
    let (a, b) = (a.mirrored(), b.mirrored());
    let mean_a = a.blurred();
    let mean_b = b.blurred();
    let square_a = a.times(&a).blurred();
    let square_b = b.times(&b).blurred();
    let product = a.times(&b).blurred();
    let (mut similarity, mut contrast) = (0.0, 0.0);
    let mut structures = vec![0.0; width];
    for y in 0..height {
        for (x, structure) in structures.iter_mut().enumerate() {
            let index = y * width + x;
            let (ma, mb) = (mean_a.values[index], mean_b.values[index]);
            let variance_a = (square_a.values[index] - ma * ma).max(0.0);
            let variance_b = (square_b.values[index] - mb * mb).max(0.0);
            let covariance = product.values[index] - ma * mb;
            *structure = (2.0 * covariance + C2) / (variance_a + variance_b + C2);
            similarity += *structure * (2.0 * ma * mb + C1) / (ma * ma + mb * mb + C1);
        }
        if (MARGIN..height - MARGIN).contains(&y) {
            contrast += structures[MARGIN..width - MARGIN].iter().sum::<f64>();
        }
    }
    let inside = (width - 2 * MARGIN) * (height - 2 * MARGIN);
    Compared { similarity: similarity / (width * height) as f64, contrast: contrast / inside as f64 }
}

/// A picture in double precision: variances are small differences of large sums.
struct Plane {
    width: usize,
    height: usize,
    values: Vec<f64>,
}

impl From<&GrayImage<'_>> for Plane {
    fn from(image: &GrayImage<'_>) -> Self {
        let values = image.pixels().iter().map(|pixel| f64::from(*pixel)).collect();
        Self { width: image.width(), height: image.height(), values }
    }
}

impl Plane {
    fn times(&self, other: &Self) -> Self {
        let values = self.values.iter().zip(&other.values).map(|(a, b)| a * b).collect();
        Self { width: self.width, height: self.height, values }
    }

    /// The picture with a mirrored margin of half a window (the edge itself is not repeated).
    fn mirrored(&self) -> Self {
        let (width, height) = (self.width + 2 * MARGIN, self.height + 2 * MARGIN);
        let mut values = Vec::with_capacity(width * height);
        for y in 0..height {
            let row = &self.values[mirror(y, self.height) * self.width..][..self.width];
            values.extend((0..width).map(|x| row[mirror(x, self.width)]));
        }
        Self { width, height, values }
    }

    /// Gaussian blur where the window lies wholly inside: [height - 10, width - 10].
    fn blurred(&self) -> Self {
        let kernel = gaussian();
        let width = self.width + 1 - WINDOW;
        let height = self.height + 1 - WINDOW;
        let mut rows = Vec::with_capacity(width * self.height);
        for row in self.values.chunks_exact(self.width) {
            let start = rows.len();
            rows.resize(start + width, 0.0);
            add_taps(&mut rows[start..], &kernel, |tap| &row[tap..][..width]);
        }
        let mut values = vec![0.0; width * height];
        for (y, out) in values.chunks_exact_mut(width).enumerate() {
            add_taps(out, &kernel, |tap| &rows[(y + tap) * width..][..width]);
        }
        Self { width, height, values }
    }

    /// Each 2 x 2 block averaged; an odd last row or column is left out.
    fn halved(&self) -> Self {
        let (width, height) = (self.width / 2, self.height / 2);
        let mut values = Vec::with_capacity(width * height);
        for y in 0..height {
            let upper = &self.values[2 * y * self.width..][..self.width];
            let lower = &self.values[(2 * y + 1) * self.width..][..self.width];
            values.extend(
                upper.chunks_exact(2).zip(lower.chunks_exact(2)).map(|(u, l)| (u[0] + u[1] + l[0] + l[1]) / 4.0),
            );
        }
        Self { width, height, values }
    }
}

/// Adds weighted lines to `out`: whole lines, one tap after another, which the compiler turns into vector instructions.
fn add_taps<'a>(out: &mut [f64], kernel: &[f64; WINDOW], line: impl Fn(usize) -> &'a [f64]) {
    for (tap, weight) in kernel.iter().enumerate() {
        for (out, value) in out.iter_mut().zip(line(tap)) {
            *out += weight * value;
        }
    }
}

/// Which pixel of a side of `length` lies at `place` of the mirrored one.
fn mirror(place: usize, length: usize) -> usize {
    let distance = place.abs_diff(MARGIN);
    if place < MARGIN || distance < length { distance } else { 2 * (length - 1) - distance }
}

fn gaussian() -> [f64; WINDOW] {
    let centre = MARGIN as f64;
    let mut kernel: [f64; WINDOW] = std::array::from_fn(|tap| (-((tap as f64 - centre) / SIGMA).powi(2) / 2.0).exp());
    let sum: f64 = kernel.iter().sum();
    kernel.iter_mut().for_each(|weight| *weight /= sum);
    kernel
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient(width: usize, height: usize) -> Vec<f32> {
        (0..width * height).map(|i| ((i % width) * 7 + (i / width) * 3) as f32 % 251.0 / 251.0).collect()
    }

    #[test]
    fn a_picture_is_wholly_similar_to_itself() -> Result<(), EvalError> {
        let pixels = gradient(181, 177);
        let image = GrayImage::new(181, 177, &pixels)?;
        assert!((ssim(&image, &image)? - 1.0).abs() < 1e-12);
        assert!((ms_ssim(&image, &image)? - 1.0).abs() < 1e-12);
        Ok(())
    }

    #[test]
    fn an_inverted_picture_has_no_multi_scale_similarity() -> Result<(), EvalError> {
        let pixels = gradient(176, 176);
        let inverted: Vec<f32> = pixels.iter().map(|pixel| 1.0 - pixel).collect();
        let value = ms_ssim(&GrayImage::new(176, 176, &pixels)?, &GrayImage::new(176, 176, &inverted)?)?;
        assert_eq!(value, 0.0);
        Ok(())
    }

    #[test]
    fn a_picture_under_the_window_is_refused_with_the_least_side() -> Result<(), EvalError> {
        let pixels = gradient(128, 128);
        let image = GrayImage::new(128, 128, &pixels)?;
        let message = ms_ssim(&image, &image).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(message.contains("at least 176") && message.contains("128 x 128"), "{message}");
        let small = GrayImage::new(10, 20, &pixels[..200])?;
        assert!(matches!(ssim(&small, &small), Err(EvalError::TooSmall { smallest: 11, .. })));
        Ok(())
    }
}
