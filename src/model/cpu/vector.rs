//! Vectors of the processor's instruction sets, behind one interface: what is written for a [`Vector`] runs with each of them.

use std::arch::x86_64::{
    __m256, __m512, _mm256_add_ps, _mm256_fmadd_ps, _mm256_fnmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_mul_ps,
    _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps, _mm256_sub_ps, _mm512_add_ps, _mm512_fmadd_ps,
    _mm512_fnmadd_ps, _mm512_loadu_ps, _mm512_max_ps, _mm512_mul_ps, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_storeu_ps, _mm512_sub_ps,
};

/// Which vectors a processor computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instructions {
    /// AVX2 and FMA: 8 numbers a vector, 16 registers.
    Avx2,
    /// AVX-512: 16 numbers a vector, 32 registers.
    Avx512,
}

/// Single-precision numbers that are computed with at once.
///
/// # Safety
///
/// All functions ask for a processor that has the [`Instructions`]. They are only worth anything once they are inlined into a
/// function that is compiled for them, as [`Instructions::run`] does.
pub(super) trait Vector: Copy {
    /// Numbers in a vector.
    const LANES: usize;
    /// Outputs of a panel of weights.
    const PANEL: usize = 2 * Self::LANES;
    /// Most rows of activations at once: their sums take two registers each, and all but a few of those that there are.
    const ROWS: usize;

    unsafe fn zero() -> Self;
    /// The same number throughout.
    unsafe fn splat(value: f32) -> Self;
    /// The next [`Self::LANES`] numbers, wherever they begin.
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// The larger; `other` where either is not a number.
    unsafe fn max(self, other: Self) -> Self;
    /// This plus the product, rounded once.
    unsafe fn plus_product(self, left: Self, right: Self) -> Self;
    /// This less the product, rounded once.
    unsafe fn less_product(self, left: Self, right: Self) -> Self;
}

/// Work that is written for vectors of any kind.
pub(super) trait Work {
    /// Does it. Implementations are `#[inline(always)]`, and so is what they call.
    ///
    /// # Safety
    ///
    /// The processor has the vector's instructions.
    unsafe fn run<V: Vector>(self);
}

impl Instructions {
    /// The widest that this processor has.
    pub(super) fn detect() -> Option<Self> {
        if is_x86_feature_detected!("avx512f") {
            Some(Self::Avx512)
        } else {
            (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self::Avx2)
        }
    }

    /// All that this processor has, the widest first.
    #[cfg(test)]
    pub(super) fn all() -> Vec<Self> {
        match Self::detect() {
            Some(Self::Avx512) => vec![Self::Avx512, Self::Avx2],
            Some(Self::Avx2) => vec![Self::Avx2],
            None => vec![],
        }
    }

    /// [`Vector::LANES`].
    pub(super) fn lanes(self) -> usize {
        match self {
            Self::Avx2 => __m256::LANES,
            Self::Avx512 => __m512::LANES,
        }
    }

    /// [`Vector::PANEL`].
    pub(super) fn panel(self) -> usize {
        match self {
            Self::Avx2 => __m256::PANEL,
            Self::Avx512 => __m512::PANEL,
        }
    }

    /// Does work with these vectors.
    ///
    /// # Safety
    ///
    /// The processor has the instructions.
    pub(super) unsafe fn run(self, work: impl Work) {
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2(work: impl Work) {
            // SAFETY: as the caller promises.
            unsafe { work.run::<__m256>() }
        }
        #[target_feature(enable = "avx512f")]
        unsafe fn avx512(work: impl Work) {
            // SAFETY: as the caller promises.
            unsafe { work.run::<__m512>() }
        }
        // SAFETY: as the caller promises.
        unsafe {
            match self {
                Self::Avx2 => avx2(work),
                Self::Avx512 => avx512(work),
            }
        }
    }
}

macro_rules! implement {
    ($vector:ty, $lanes:literal, $rows:literal, $zero:ident, $splat:ident, $load:ident, $store:ident, $add:ident, $sub:ident,
     $mul:ident, $max:ident, $fmadd:ident, $fnmadd:ident) => {
        impl Vector for $vector {
            const LANES: usize = $lanes;
            const ROWS: usize = $rows;

            #[inline(always)]
            unsafe fn zero() -> Self {
                // SAFETY: here and below, as the caller promises.
                unsafe { $zero() }
            }
            #[inline(always)]
            unsafe fn splat(value: f32) -> Self {
                unsafe { $splat(value) }
            }
            #[inline(always)]
            unsafe fn load(from: *const f32) -> Self {
                unsafe { $load(from) }
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut f32) {
                unsafe { $store(to, self) }
            }
            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                unsafe { $add(self, other) }
            }
            #[inline(always)]
            unsafe fn sub(self, other: Self) -> Self {
                unsafe { $sub(self, other) }
            }
            #[inline(always)]
            unsafe fn mul(self, other: Self) -> Self {
                unsafe { $mul(self, other) }
            }
            #[inline(always)]
            unsafe fn max(self, other: Self) -> Self {
                unsafe { $max(self, other) }
            }
            #[inline(always)]
            unsafe fn plus_product(self, left: Self, right: Self) -> Self {
                unsafe { $fmadd(left, right, self) }
            }
            #[inline(always)]
            unsafe fn less_product(self, left: Self, right: Self) -> Self {
                unsafe { $fnmadd(left, right, self) }
            }
        }
    };
}

implement!(
    __m256,
    8,
    6,
    _mm256_setzero_ps,
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_add_ps,
    _mm256_sub_ps,
    _mm256_mul_ps,
    _mm256_max_ps,
    _mm256_fmadd_ps,
    _mm256_fnmadd_ps
);
implement!(
    __m512,
    16,
    12,
    _mm512_setzero_ps,
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_add_ps,
    _mm512_sub_ps,
    _mm512_mul_ps,
    _mm512_max_ps,
    _mm512_fmadd_ps,
    _mm512_fnmadd_ps
);
