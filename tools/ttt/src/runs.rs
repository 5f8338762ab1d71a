//! Folders of runs.

use std::path::{Path, PathBuf};

use model::data::Tokenizer;
use model::{Model, Result, files};

use crate::settings::Settings;

/// The first of runs/NAME-1, -2, ... that is not there.
pub fn free_folder(name: &str) -> PathBuf {
    let free = (1..).map(|i| PathBuf::from(format!("runs/{name}-{i}")));
    free.into_iter()
        .find(|folder| !folder.exists())
        .unwrap_or_default()
}

/// What a model folder is called: by its run, if it is that of one.
pub fn model_name(path: &Path) -> String {
    let folder = match path.file_name().is_some_and(|n| n == "model") {
        true => path.parent().unwrap_or(path),
        false => path,
    };
    let name = folder.file_name();
    name.map_or("model".into(), |n| n.to_string_lossy().into_owned())
}

/// Writes the model folder of a run.
pub fn save_model(
    model: &Model,
    settings: &Settings,
    tokenizer: &Tokenizer,
    folder: &Path,
) -> Result<()> {
    let folder = folder.join("model");
    model.save(&folder)?;
    tokenizer.save(&folder.join("tokenizer.json"))?;
    let json = serde_json::to_string_pretty(&settings.training).expect("settings are plain data");
    files::write(&folder.join("training.json"), &[json.as_bytes(), b"\n"])
}

/// The tokenizer a setting names.
pub fn load_tokenizer(path: &Path) -> Result<Tokenizer> {
    match path == Path::new("bytes") {
        true => Ok(Tokenizer::bytes()),
        false => Ok(Tokenizer::load(path)?),
    }
}
