//! What a finished run shows.
use crate::{settings::Settings, train::Metrics};
use model::{Result, data::Tokenizer, train::Trainer};
use std::path::Path;
/// x
pub fn report(
    _t: &Trainer,
    _s: &Settings,
    _k: &Tokenizer,
    _m: &[Metrics],
    _f: &Path,
) -> Result<()> {
    Ok(())
}
