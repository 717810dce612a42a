//! Elementary functions of `f32` that give the same bits on every machine.
//!
//! Network outputs come in, scores and sizes go out. Each function is a fixed sequence of additions, multiplications,
//! divisions and bit moves, rounded one by one, so that a GPU kernel written the same way (without fused
//! multiply-add and without flushing of subnormal operands) repeats it bit for bit. Nothing here panics.

/// Above this, e^x is larger than the largest finite `f32`.
const EXP_MAX: f32 = 88.722_83;
/// Below this, e^x is smaller than the smallest normal `f32`.
const EXP_MIN: f32 = -87.336_54;
/// Adding and taking away 1.5 * 2^23 rounds to the nearest whole number, ties to even.
const ROUND: f32 = 12_582_912.0;
/// ln 2 in two parts: the first has so few bits that its product with any exponent is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// Coefficients of (e^r - 1 - r) / r^2 for |r| <= ln(2) / 2, highest power first: the minimax polynomial of Cephes
/// (Moshier), each coefficient rounded to `f32`.
const EXP_POLYNOMIAL: [f32; 6] = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 0.5];

/// e^x, within 1 unit in the last place.
///
/// Results below the smallest normal number are 0, results above the largest finite number are infinite, NaN stays NaN.
pub fn exp_f32(x: f32) -> f32 {
    if x.is_nan() {
        return x;
    }
    if x > EXP_MAX {
        return f32::INFINITY;
    }
    if x < EXP_MIN {
        return 0.0;
    }
    let exponent = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let reduced = (x - exponent * LN2_HIGH) - exponent * LN2_LOW;
    let tail = EXP_POLYNOMIAL.iter().skip(1).fold(EXP_POLYNOMIAL[0], |sum, coefficient| sum * reduced + coefficient);
    let fraction = (tail * (reduced * reduced) + reduced) + 1.0;
    // 2^128 is no f32, so the scaling goes in two steps; both are exact.
    let exponent = exponent as i32;
    let half = exponent >> 1;
    fraction * power_of_two(half) * power_of_two(exponent - half)
}

/// 2^exponent for exponents from -126 to 127.
fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127) as u32) << 23)
}

/// 1 / (1 + e^-x), without overflow on either side; NaN stays NaN.
pub fn sigmoid_f32(x: f32) -> f32 {
    let small = exp_f32(-x.abs());
    if x < 0.0 { small / (1.0 + small) } else { 1.0 / (1.0 + small) }
}

/// Replaces the values by e^value divided by the sum of all e^value.
///
/// The largest value is taken away first, and the sum runs from the first value to the last. A value that is NaN or
/// plus infinity makes all of them NaN; no values stay no values.
pub fn softmax_f32(values: &mut [f32]) {
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for value in values.iter_mut() {
        *value = exp_f32(*value - largest);
        sum += *value;
    }
    for value in values.iter_mut() {
        *value /= sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distance from the true value in units in the last place of the true value.
    fn error_ulp(found: f32, truth: f64) -> f64 {
        let nearest = (truth as f32).abs();
        let unit = f64::from(f32::from_bits(nearest.to_bits() + 1)) - f64::from(nearest);
        (f64::from(found) - truth).abs() / unit
    }

    #[test]
    fn exp_is_within_one_unit_in_the_last_place() {
        let mut worst = 0.0_f64;
        let steps = 400_000;
        for step in 0..=steps {
            let x = EXP_MIN + (EXP_MAX - EXP_MIN) * (step as f32 / steps as f32);
            worst = worst.max(error_ulp(exp_f32(x), libm::exp(f64::from(x))));
        }
        for bits in (0_u32..0x42b0_0000).step_by(4_001) {
            for x in [f32::from_bits(bits), -f32::from_bits(bits.min(0x42ae_0000))] {
                worst = worst.max(error_ulp(exp_f32(x), libm::exp(f64::from(x))));
            }
        }
        assert!(worst <= 1.01, "{worst}");
    }

    #[test]
    fn exp_keeps_its_bits() {
        let known = [(0.0, 0x3f80_0000), (1.0, 0x402d_f854), (-1.0, 0x3ebc_5ab2), (88.722_83, 0x7f7f_ff84)];
        for (x, bits) in known {
            assert_eq!(exp_f32(x).to_bits(), bits, "{x}");
        }
        assert_eq!(exp_f32(-87.336_54).to_bits(), 0x0080_0026);
    }

    #[test]
    fn exp_at_and_beyond_the_ends() {
        assert_eq!(exp_f32(88.722_84), f32::INFINITY);
        assert_eq!(exp_f32(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp_f32(-87.34), 0.0);
        assert_eq!(exp_f32(f32::NEG_INFINITY), 0.0);
        assert!(exp_f32(f32::NAN).is_nan());
    }

    #[test]
    fn exp_never_falls() {
        let mut last = 0.0;
        for step in -90_000..=90_000 {
            let found = exp_f32(step as f32 / 1_000.0);
            assert!(found >= last, "{step}");
            last = found;
        }
    }

    #[test]
    fn sigmoid_follows_its_formula() {
        for step in -800..=800 {
            let x = step as f32 / 10.0;
            let truth = 1.0 / (1.0 + libm::exp(-f64::from(x)));
            assert!(error_ulp(sigmoid_f32(x), truth) <= 3.0, "{x}");
        }
        assert_eq!(sigmoid_f32(0.0), 0.5);
        assert_eq!(sigmoid_f32(f32::INFINITY), 1.0);
        assert_eq!(sigmoid_f32(f32::NEG_INFINITY), 0.0);
        assert!(sigmoid_f32(f32::NAN).is_nan());
    }

    #[test]
    fn softmax_of_any_offset_is_the_same() {
        let mut near = [1.0, 2.0, 3.0, 4.0];
        let mut far = [1001.0, 1002.0, 1003.0, 1004.0];
        softmax_f32(&mut near);
        softmax_f32(&mut far);
        assert_eq!(near, far);
        assert!((near.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!((near[3] - 0.643_914_3).abs() < 1e-6);
        softmax_f32(&mut []);
    }

    #[test]
    fn softmax_of_what_is_no_number_is_no_number() {
        for poison in [f32::NAN, f32::INFINITY] {
            let mut values = [0.0, poison, 1.0];
            softmax_f32(&mut values);
            assert!(values.iter().all(|value| value.is_nan()), "{poison}");
        }
    }
}
