//! How large the functions are, which Lambda loads before it starts one.

use std::fs;

use local_stack::catalogue::NAMES;
use miniz_oxide::deflate::compress_to_vec;

use crate::{stop::Stop, workplace::Workplace};

/// The usual level of deflate, by which SAM packs.
pub(crate) const LEVEL: u8 = 6;

/// A ZIP file's three headers, two of which name the one file in it.
const HEADERS: usize = 30 + 46 + 22 + 2 * "bootstrap".len();

/// The size of a function, in MiB.
pub(crate) struct Size {
    pub(crate) function: &'static str,
    pub(crate) binary: f64,
    pub(crate) zipped: f64,
}

pub(crate) fn measure(workplace: &Workplace) -> Result<Vec<Size>, Stop> {
    let sizes = NAMES.iter().map(|function| {
        let binary = workplace.binaries.get(*function).ok_or(Stop::unable("a function was not built"))?;
        let binary = fs::read(binary)?;
        let zipped = compress_to_vec(&binary, LEVEL).len() + HEADERS;
        let mebibytes = |bytes: usize| bytes as f64 / (1024.0 * 1024.0);
        Ok(Size { function, binary: mebibytes(binary.len()), zipped: mebibytes(zipped) })
    });
    sizes.collect()
}
