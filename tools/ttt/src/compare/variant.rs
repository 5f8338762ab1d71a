//! The models that are compared.

use model::{Error, Result};
use toml::{Table, Value};

use crate::settings::{Architecture, Settings};

/// A kind of model, which is trained with several seeds.
#[derive(Clone)]
pub struct Variant {
    /// Its architecture, and what is different about it.
    pub name: String,
    /// All its settings.
    pub settings: Settings,
}

/// The architectures asked for, then TTT-E2E with each value of each ablation (`mini-batch-size=16,64`).
pub fn variants(
    base: &Settings,
    architectures: &[Architecture],
    ablations: &[String],
) -> Result<Vec<Variant>> {
    let mut variants: Vec<Variant> = vec![];
    for &architecture in architectures {
        let mut settings = base.clone();
        settings.model.architecture = architecture;
        variants.push(Variant {
            name: architecture.name(),
            settings,
        });
    }
    for ablation in ablations {
        let wrong = |message: String| Error::setting("ablate", ablation, message);
        let Some((name, values)) = ablation.split_once('=') else {
            let message = "must be a setting and its values, like mini-batch-size=16,64";
            return Err(wrong(message.to_string()));
        };
        for value in values.split(',') {
            let options = option(base, name, value).map_err(wrong)?;
            let mut settings = Settings::resolve(base.clone(), None, options)?;
            settings.model.architecture = Architecture::TttE2e;
            variants.push(Variant {
                name: format!("ttt-e2e {name}={value}"),
                settings,
            });
        }
    }
    match variants.is_empty() {
        true => Err(Error::setting("only", "", "must name at least one model")),
        false => Ok(variants),
    }
}

/// A setting of the model or of its training as tables of a TOML file.
fn option(base: &Settings, name: &str, value: &str) -> std::result::Result<Table, String> {
    let field = name.replace('-', "_");
    let all = Table::try_from(base).expect("settings are plain data");
    let tables = ["model", "training"];
    let table = (tables.into_iter()).find(|table| all[*table].get(&field).is_some());
    let table =
        table.ok_or_else(|| format!("'{name}' is no setting of the model or of its training"))?;
    let parsed: Table =
        (format!("v = {value}").parse()).map_err(|_| format!("'{value}' is not a number"))?;
    let inner = Table::from_iter([(field, parsed["v"].clone())]);
    Ok(Table::from_iter([(table.to_string(), Value::Table(inner))]))
}
