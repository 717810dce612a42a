//! Chance that does not depend on order: every number is a pure function of a seed, a stream and an index.
//!
//! The function is SplitMix64's finaliser (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA
//! 2014) over the sum of its inputs, each spread by an odd constant. Workers may ask in any order.

/// One stream of random numbers, for one purpose: a sensor's noise, an actor's colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Random {
    key: u64,
}

fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl Random {
    /// The stream of all streams.
    pub fn new(seed: u64) -> Self {
        Random { key: mix(seed.wrapping_add(0x9e37_79b9_7f4a_7c15)) }
    }

    /// A stream of its own, for a purpose with this name.
    pub fn stream(&self, name: &str) -> Self {
        Random { key: mix(self.key ^ xxhash_rust::xxh64::xxh64(name.as_bytes(), 0x5eed)) }
    }

    /// A stream of its own for the one with this number.
    pub fn at(&self, number: u64) -> Self {
        Random { key: mix(self.key.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15))) }
    }

    /// The bits with this index.
    #[inline]
    pub fn bits(&self, index: u64) -> u64 {
        mix(self.key.wrapping_add(index.wrapping_mul(0xd1b5_4a32_d192_ed03)))
    }

    /// Evenly from 0 up to, not including, 1.
    #[inline]
    pub fn unit(&self, index: u64) -> f64 {
        (self.bits(index) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Evenly between two numbers.
    #[inline]
    pub fn between(&self, index: u64, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit(index)
    }

    /// A whole number from 0 up to, not including, `count`; 0 when there is none.
    pub fn below(&self, index: u64, count: usize) -> usize {
        ((self.unit(index) * count as f64) as usize).min(count.saturating_sub(1))
    }

    /// Whether something of this probability happens.
    pub fn happens(&self, index: u64, probability: f64) -> bool {
        self.unit(index) < probability
    }

    /// From the standard normal distribution (Box and Muller 1958, one of the pair).
    pub fn normal(&self, index: u64) -> f64 {
        let bits = self.at(0x6e6f_726d);
        let radius = (-2.0 * libm::log(1.0 - bits.unit(2 * index))).sqrt();
        radius * libm::cos(std::f64::consts::TAU * bits.unit(2 * index + 1))
    }

    /// Nearly normal with deviation 1, from four sums of 16 bits: cheap enough for every pixel. Bounded by 3.46.
    #[inline]
    pub fn rough_normal(&self, index: u64) -> f32 {
        let bits = self.bits(index);
        let sum = (bits & 0xffff) + ((bits >> 16) & 0xffff) + ((bits >> 32) & 0xffff) + (bits >> 48);
        // the sum of four even numbers in 0..65536 has mean 131070 and deviation 65536 / sqrt(3)
        (sum as f32 - 131_070.0) * (1.732_050_8 / 65_536.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_depend_on_seed_stream_and_index_alone() {
        let random = Random::new(7);
        let again = Random::new(7);
        assert_eq!(random.stream("noise").bits(3), again.stream("noise").bits(3));
        assert_ne!(random.stream("noise").bits(3), again.stream("colour").bits(3));
        assert_ne!(random.bits(3), Random::new(8).bits(3));
        assert_ne!(random.at(1).bits(0), random.at(2).bits(0));
    }

    #[test]
    fn distributions_have_their_moments() {
        let random = Random::new(1).stream("moments");
        let count = 200_000;
        let moments = |value: &dyn Fn(u64) -> f64| {
            let (mut sum, mut squares) = (0.0, 0.0);
            for index in 0..count {
                let value = value(index);
                sum += value;
                squares += value * value;
            }
            let mean = sum / count as f64;
            (mean, squares / count as f64 - mean * mean)
        };
        let (mean, variance) = moments(&|index| random.unit(index));
        assert!((mean - 0.5).abs() < 0.005 && (variance - 1.0 / 12.0).abs() < 0.002, "{mean} {variance}");
        let (mean, variance) = moments(&|index| random.normal(index));
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
        let (mean, variance) = moments(&|index| f64::from(random.rough_normal(index)));
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
        assert!((0..1000).all(|index| random.below(index, 7) < 7));
    }
}
