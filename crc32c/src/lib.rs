//! CRC-32C (Castagnoli): by the processor's own instructions where it has them.
//!
//! WebAssembly has none, and the tables that take their place are noise to a compressor: a visitor
//! of the laboratory would download all eight kilobytes of them. There they are made at first use.

#![forbid(unsafe_code)]

#[cfg(not(target_arch = "wasm32"))]
pub use hardware::{crc32c, crc32c_append};
#[cfg(target_arch = "wasm32")]
pub use software::{crc32c, crc32c_append};

/// The way without such instructions.
pub mod software {
    use std::sync::LazyLock;

    /// Castagnoli's polynomial, the lowest bit first.
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    /// Bytes that are looked up at once.
    const STRIDE: usize = 8;

    /// For each byte value, what it leaves behind: alone, before one more byte, and so on.
    static TABLES: LazyLock<Box<[[u32; 256]; STRIDE]>> = LazyLock::new(|| {
        let mut tables = Box::new([[0; 256]; STRIDE]);
        for byte in 0..256 {
            let mut rest = byte as u32;
            for _ in 0..8 {
                rest = (rest >> 1) ^ if rest & 1 == 1 { POLYNOMIAL } else { 0 };
            }
            tables[0][byte] = rest;
        }
        for place in 1..STRIDE {
            for byte in 0..256 {
                let rest = tables[place - 1][byte];
                tables[place][byte] = (rest >> 8) ^ tables[0][rest as usize & 0xff];
            }
        }
        tables
    });

    /// The checksum of `data`.
    pub fn crc32c(data: &[u8]) -> u32 {
        crc32c_append(0, data)
    }

    /// The checksum of what has the checksum `crc`, followed by `data`.
    pub fn crc32c_append(crc: u32, data: &[u8]) -> u32 {
        let tables = &**TABLES;
        let (strides, tail) = data.as_chunks::<STRIDE>();
        let mut rest = !crc;
        for stride in strides {
            let mut bytes = *stride;
            for (byte, rest) in bytes.iter_mut().zip(rest.to_le_bytes()) {
                *byte ^= rest;
            }
            rest = 0;
            for (place, byte) in bytes.iter().rev().enumerate() {
                rest ^= tables[place][usize::from(*byte)];
            }
        }
        for byte in tail {
            rest = (rest >> 8) ^ tables[0][usize::from(rest as u8 ^ byte)];
        }
        !rest
    }
}

#[cfg(test)]
mod tests {
    use super::software;

    #[test]
    fn both_ways_lead_to_the_same_checksum() {
        assert_eq!(software::crc32c(b"123456789"), 0xe306_9283, "the value that is published");
        let data: Vec<u8> = (0..300_u32).map(|number| (number * number) as u8).collect();
        for end in 0..data.len() {
            let (head, tail) = data[..end].split_at(end / 3);
            let expected = hardware::crc32c(&data[..end]);
            assert_eq!(software::crc32c(&data[..end]), expected);
            assert_eq!(software::crc32c_append(software::crc32c(head), tail), expected);
        }
    }
}
